"""What all tests share."""

import pytest

pytest_plugins = ["documentation"]


def pytest_configure(config: pytest.Config) -> None:
    whole_run = config.args_source is config.ArgsSource.TESTPATHS
    if not whole_run or config.option.keyword or config.option.markexpr:
        # A part of the tests is not expected to cover everything: no report, no least coverage.
        config.option.cov_report = {}
        config.option.cov_fail_under = None
