"""Lets ``pytest docs`` run the code blocks of the pages."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # Not ``pytest_plugins``, which is for the conftest.py of a whole run alone.
    for plugin in "documentation", "partial_runs":
        config.pluginmanager.import_plugin(plugin)
