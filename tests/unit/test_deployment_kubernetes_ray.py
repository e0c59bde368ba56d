"""overlays/multi-node/ray.sh: a group's head and its workers, with commands that stand in for Ray's."""

import os
import subprocess
from pathlib import Path

import pytest

from manifests import KUBERNETES

SCRIPT = KUBERNETES / "overlays/multi-node/ray.sh"
GROUP = {"POD_IP": "10.1.2.3", "LWS_LEADER_ADDRESS": "triton-group-0.triton-group"}
NOTE = """#!/bin/sh
{{ echo "{name} $*"; env | grep '^RAY_' | sort; echo; }} >>"$NOTES"
"""


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with a `ray` and a `python3` that note down how they are called."""
    for name in ("ray", "python3"):
        _write(tmp_path / name, NOTE.format(name=name))
    return tmp_path


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def run(commands: Path, *arguments: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """The outcome, and of each command its line and its variables."""
    notes = commands / "notes"
    environment = {"PATH": f"{commands}:{os.defpath}", "NOTES": str(notes), **GROUP, **variables}
    done = subprocess.run(["sh", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=30)
    calls = notes.read_text().strip().split("\n\n") if notes.exists() else []
    return done, [call.splitlines() for call in calls]


def test_a_leader_starts_the_head_and_then_the_launcher_which_finds_it(commands: Path) -> None:
    done, (ray, launcher) = run(commands, "leader")
    assert done.returncode == 0, done.stderr
    assert ray[0].startswith("ray start --head --port=6379 ")
    assert "--node-ip-address=10.1.2.3" in ray[0]
    assert "--block" not in ray[0]
    assert launcher == ["python3 -m launcher", "RAY_ADDRESS=10.1.2.3:6379", "RAY_USAGE_STATS_ENABLED=0"]


def test_a_worker_joins_the_leader_and_stays_with_it(commands: Path) -> None:
    done, (asked, joined) = run(commands, "worker")
    assert done.returncode == 0, done.stderr
    assert asked[0] == "ray health-check --address triton-group-0.triton-group:6379"
    assert joined[0].startswith("ray start --address=triton-group-0.triton-group:6379 --block ")
    assert "--node-manager-port=6380" in joined[0]  # what its probes ask


def test_a_worker_waits_for_a_leader_that_is_not_there_yet(commands: Path) -> None:
    there = commands / "there"
    failing = f'if [ "$1" = health-check ] && ! [ -e {there} ]; then touch {there}; exit 1; fi\n'
    _write(commands / "ray", NOTE.format(name="ray") + failing)
    _write(commands / "sleep", "#!/bin/sh\n")
    done, calls = run(commands, "worker")
    assert done.returncode == 0, done.stderr
    assert [call[0].split()[1] for call in calls] == ["health-check", "health-check", "start"]
    assert "waiting for the head at triton-group-0.triton-group:6379" in done.stdout


def test_a_container_ends_when_ray_does_not_start(commands: Path) -> None:
    _write(commands / "ray", NOTE.format(name="ray") + '[ "$1" != start ] || exit 3\n')
    for part in ("leader", "worker"):
        done, calls = run(commands, part)
        assert done.returncode == 3
        assert not [call for call in calls if call[0].startswith("python3")]


@pytest.mark.parametrize("part", ["leader", "worker"])
def test_ray_asks_for_a_token_if_there_is_one(commands: Path, part: str) -> None:
    _, calls = run(commands, part, RAY_AUTH_TOKEN="0123abcd")
    assert calls
    assert all({"RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN=0123abcd"} <= set(call) for call in calls)


def test_an_empty_token_is_none(commands: Path) -> None:
    _, calls = run(commands, "leader", RAY_AUTH_TOKEN="")
    assert calls
    assert not [line for call in calls for line in call if "AUTH" in line]


def test_an_image_without_ray_says_so(tmp_path: Path) -> None:
    done, calls = run(tmp_path, "leader")
    assert done.returncode == 1
    assert done.stderr.startswith("ray.sh: this image has no Ray")
    assert not calls


@pytest.mark.parametrize("arguments", [(), ("follower",)])
def test_anything_else_is_refused(commands: Path, arguments: tuple[str, ...]) -> None:
    done, calls = run(commands, *arguments)
    assert (done.returncode, done.stderr) == (1, "ray.sh: say leader or worker\n")
    assert not calls
