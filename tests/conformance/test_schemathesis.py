"""Schemathesis checks the sandbox against Twilio's API description."""

import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marketplace_async.sandbox import Sandbox

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

Description = dict[str, Any]

# Twilio ignores unknown parameters: https://www.twilio.com/docs/api/errors/20001
SETTINGS = """
[generation]
allow-extra-parameters = false
max-examples = 50
"""

POINTERS = ("Page", "PageToken")
SIDS = {
    "AvailableAddOnSid": ["XB" + 32 * "a"],
    "/v1/AvailableAddOns/{Sid}": ["XB" + 32 * "a"],
    "/v1/AvailableAddOns/{AvailableAddOnSid}/Extensions/{Sid}": ["XF" + 32 * "a", "XF" + 32 * "b"],
}


def strict(described: Description) -> Description:
    """Require every field, allow no other one, and describe errors, which the file omits.

    https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions
    """
    schemas = described["components"]["schemas"]
    error = schemas["marketplace.v1.TwilioServiceErrorResponse"]
    error["required"] = ["code", "message", "more_info", "status"]
    error["additionalProperties"] = False
    failed = {
        "description": "error",
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/marketplace.v1.TwilioServiceErrorResponse"}
            }
        },
    }
    for path, item in described["paths"].items():
        if not path.startswith("/v1/AvailableAddOns"):
            continue
        responses = item["get"]["responses"]
        schema = responses["200"]["content"]["application/json"]["schema"]
        if ref := schema.get("$ref"):
            schema = schemas[ref.rpartition("/")[2]]
        for closed in (schema, schema["properties"].get("meta")):
            if closed:
                closed["required"] = list(closed["properties"])
                closed["additionalProperties"] = False
        responses |= {"400": failed, "401": failed, "404": failed, "405": failed}
    return described


def existing(described: Description) -> Description:
    """Request existing resources only: known SIDs, and first pages."""
    for path, item in described["paths"].items():
        get = item.get("get", {})
        get["parameters"] = [p for p in get.get("parameters", ()) if p["name"] not in POINTERS]
        for parameter in get["parameters"]:
            if known := SIDS.get(parameter["name"]) or (
                parameter["name"] == "Sid" and SIDS.get(path)
            ):
                parameter["schema"] = {"type": "string", "enum": known}
    return described


def found(described: Description) -> Description:
    """Allow only 200 and 401 for valid requests of existing resources."""
    for path, item in described["paths"].items():
        if path.startswith("/v1/AvailableAddOns"):
            for status in ("400", "404"):
                del item["get"]["responses"][status]
    return described


def prepared(
    description: Path, folder: Path, changes: list[Callable[[Description], Description]]
) -> Path:
    described = json.loads(description.read_text())
    for change in changes:
        described = change(described)
    (folder / "schemathesis.toml").write_text(SETTINGS)
    file = folder / "description.json"
    file.write_text(json.dumps(described))
    return file


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        # A made-up token is a string, as described, and is rejected.
        ([strict], ["--exclude-checks", "positive_data_acceptance"]),
        ([strict, existing], []),
        ([strict, existing, found], ["--mode", "positive"]),
    ],
    ids=["anything", "existing, any mode", "existing"],
)
async def test_sandbox(
    description: Path,
    tmp_path: Path,
    changes: list[Callable[[Description], Description]],
    options: list[str],
) -> None:
    """Requests generated from the description find no deviation of the sandbox."""
    file = prepared(description, tmp_path, changes)
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program is not None
    async with Sandbox() as sandbox:
        credentials = f"{sandbox.credentials.username}:{sandbox.credentials.password}"
        running = await asyncio.create_subprocess_exec(
            program, "run", file,
            "--url", sandbox.url,
            "--auth", credentials,
            "--include-path-regex", "^/v1/AvailableAddOns",
            "--seed", "1",
            "--generation-database", "none",
            "--no-color",
            *options,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        report, _ = await running.communicate()
        statuses = {request.status for request in sandbox.requests}
    print(report.decode())
    assert running.returncode == 0, report.decode()
    assert "Tested: 4" in report.decode()
    assert {200, 401} <= statuses
