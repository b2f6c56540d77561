"""A pytest plugin: a part of the tests is not expected to cover everything."""

import pytest

__all__: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    whole_run = config.args_source is config.ArgsSource.TESTPATHS
    part = not whole_run or config.option.keyword or config.option.markexpr
    if part and (measuring := config.pluginmanager.get_plugin("_cov")):
        # pytest-cov then neither reports nor expects anything.
        measuring.options.cov_report = {}
        measuring.options.cov_fail_under = None
