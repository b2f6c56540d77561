"""Check the links within the built documentation: ``links.py DIRECTORY``.

Sphinx checks references in the sources; this script checks the HTML that a browser loads.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit


class Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {"", "top"}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an anchor or a link."""
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in {"href", "src"} and value and tag != "link":
                self.links.append(value)


def broken_links(root: Path) -> list[str]:
    """Return a line for each broken link."""
    pages = {path: Page(path) for path in root.rglob("*.html")}
    broken: list[str] = []
    for path, page in pages.items():
        for link in page.links:
            target = urlsplit(urljoin(path.as_uri(), link))
            if target.scheme != "file":
                continue
            file = Path(unquote(target.path))
            found = pages[file].anchors if file in pages else {""} if file.is_file() else {}
            if unquote(target.fragment) not in found:
                broken.append(f"{path.relative_to(root)}: {link}")
    return broken


if __name__ == "__main__":
    sys.exit("\n".join(broken_links(Path(sys.argv[1]).resolve())) or None)
