"""Three replicas on a network of their own behind one gateway, whose gRPC channel balances: what `replicas.py` saw."""

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

import replicas
from conftest import ROOT, free_ports

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces"),
    pytest.mark.skipif(not shutil.which("ip"), reason="ip is not installed (Debian: apt install iproute2)"),
    pytest.mark.timeout(900),
]

REPLICAS = 3
SHARE = replicas.STREAMS // (REPLICAS - 1)
"""Most streams that a replica has: one that was away a moment ago may not be connected again yet."""
GONE = "Triton cannot be reached"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened, by the name of the scenario."""
    logs = tmp_path_factory.mktemp("replicas")
    command = [sys.executable, replicas.__file__, str(logs), *map(str, free_ports(REPLICAS))]
    with (logs / "replicas.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    try:
        output, _ = process.communicate(timeout=800)
    finally:
        if process.poll() is None:
            process.terminate()  # it stops what it started
            process.wait(120)
    assert process.returncode == 0, (logs / "replicas.log").read_text()
    return json.loads(output)


@pytest.mark.parametrize("scenario", ["spread", "spread at the end"])
def test_requests_are_spread_evenly(seen: dict[str, Any], scenario: str) -> None:
    requests = seen[scenario]["requests"]
    assert sum(requests) == seen[scenario]["complete"] == 240
    assert max(requests) - min(requests) <= 0.1 * 240 / REPLICAS


def test_a_replica_that_drains_loses_no_stream(seen: dict[str, Any]) -> None:
    # A Triton that dies by itself, as 2.51 now and then does, loses streams whether another one drains or not.
    assert seen["drain"]["restarts"] == [0] * REPLICAS, seen["drain"]["last words"]
    assert seen["drain"]["exit"] == 0
    assert seen["drain"]["streams"]["complete"] == replicas.STREAMS


@pytest.mark.parametrize("scenario", ["kill", "partition"])
def test_a_replica_that_vanishes_loses_no_more_than_its_own_streams_with_an_error_that_says_so(
    seen: dict[str, Any], scenario: str
) -> None:
    streams = seen[scenario]["streams"]
    assert set(streams["errors"]) <= {GONE}
    assert len(streams["errors"]) <= SHARE + 1  # short requests go between them
    assert streams["complete"] + len(streams["errors"]) == replicas.STREAMS


@pytest.mark.parametrize("scenario", ["drain", "kill", "partition"])
def test_new_requests_go_elsewhere_meanwhile(seen: dict[str, Any], scenario: str) -> None:
    assert seen[scenario]["shorts"]["errors"] == []
    assert seen[scenario]["shorts"]["complete"] > 8


def test_a_partition_of_20_seconds_heals_by_itself(seen: dict[str, Any]) -> None:
    assert seen["partition"]["back after"] < 60
