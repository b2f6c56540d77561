"""Settings, plugins and fixtures of all tests."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# No deadlines, which depend on the speed of the machine; in CI the same examples each time.
settings.register_profile("steady", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("steady")

pytest_plugins = ["documentation", "leaks", "marketplace_async.testing", "partial_runs"]


def pytest_configure() -> None:
    # A shell starts background jobs with SIGINT ignored. The processes that tests start and
    # interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def api_description() -> Any:
    """Twilio's description of the API, an OpenAPI document."""
    path = os.environ.get("MARKETPLACE_API_DESCRIPTION")
    if not path:
        pytest.skip("MARKETPLACE_API_DESCRIPTION does not name Twilio's description of the API")
    return json.loads(Path(path).read_text("utf-8"))
