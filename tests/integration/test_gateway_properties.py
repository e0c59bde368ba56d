"""Requests made up from the gateway's OpenAPI document: none is answered 500, or with a status that is not in it."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest
from openapi_spec_validator import validate

from conftest import ROOT, Server

EXAMPLES = os.environ.get("PROPERTY_EXAMPLES", "20")
"""Made-up requests for each endpoint and phase; a long search takes thousands."""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance"


def test_the_document_is_valid(server: Server) -> None:
    validate(httpx.get(f"{server.api_url}/openapi.json", timeout=10).json())


@pytest.mark.timeout(3600)
def test_no_request_is_answered_with_what_is_not_documented(server: Server, tmp_path: Path) -> None:
    options = f"--checks {CHECKS} --max-examples {EXAMPLES} --request-timeout 60 --workers 4 --seed 1 --no-color"
    run = subprocess.run(
        [ROOT / ".venv/bin/schemathesis", "run", f"{server.api_url}/openapi.json", *options.split()],
        env=os.environ | {"SCHEMATHESIS_HOOKS": "little_requests", "PYTHONPATH": str(Path(__file__).parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr
    assert server.takes_requests("gemma", "text_input")
    assert server.takes_requests("sdxl", "prompt")
