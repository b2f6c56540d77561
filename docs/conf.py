"""How Sphinx builds the documentation: ``nox -s docs``."""

import builtins

from marketplace_async.version import __version__

project = "marketplace-async"
author = "the marketplace_async authors"
project_copyright = f"2026, {author}"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "performance/figures.md"]
html_theme = "furo"
html_title = f"marketplace-async {version}"

# Markdown. Headings are link targets, as on GitHub.
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
# The copy button copies neither prompts nor outputs.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
copybutton_selector = "div:not(.highlight-output) > div.highlight > pre"

# Docstrings: single backticks name an object of any kind.
default_role = "any"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
# Show defaults as values: attrs generates their source, which means nothing to a reader.
autodoc_preserve_defaults = False
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

nitpicky = True
nitpick_ignore_regex = [
    # Documented elsewhere; the build is offline and cannot look them up.
    (
        r"py:.*|any",
        r"(aiohttp|asyncio|attrs?|collections|contextlib|multidict|os|types|typing|yarl)\..*",
    ),
    (r"py:.*|any", rf"({'|'.join(dir(builtins))})(\(\))?"),
    # Type variables have no page.
    (r"py:.*", r"marketplace_async\.\w+\.(T|InputT|ValueT|AddOnT)"),
]
