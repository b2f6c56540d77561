"""A pytest plugin: a part of the tests is not expected to cover everything."""

import pytest

__all__: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    whole_run = config.args_source is config.ArgsSource.TESTPATHS
    if not whole_run or config.option.keyword or config.option.markexpr:
        # Neither a report of pytest-cov, nor a least coverage.
        config.option.cov_report = {}
        config.option.cov_fail_under = None
