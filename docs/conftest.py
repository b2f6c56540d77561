"""Run the code blocks of the pages with ``pytest docs``."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # ``pytest_plugins`` works in the top-level conftest.py of a run only.
    for plugin in "documentation", "partial_runs":
        config.pluginmanager.import_plugin(plugin)
