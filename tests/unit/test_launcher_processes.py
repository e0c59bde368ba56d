"""Nothing the launcher starts outlives it, and nothing of anybody else is touched."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import shared_memory as python_shared_memory
from pathlib import Path

import pytest

from launcher import layout, processes, shared_memory, state
from launcher.errors import LaunchError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
STUBBORN = "import signal, subprocess, sys, time; signal.signal(15, signal.SIG_IGN); {below}; time.sleep(60)"
CHILD = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)"


def wait_for(condition: object, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def test_a_process_that_ignores_sigterm_ends_with_all_below_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STUBBORN.format(below=CHILD)]
    process = processes.start(command, os.environ, tmp_path / "log", tmp_path)
    assert wait_for(lambda: processes.descendants(process.pid))
    below = processes.descendants(process.pid)
    processes.stop(process, grace=0.5)
    assert process.poll() is not None
    assert wait_for(lambda: not any(member.alive for member in below))


def test_a_killed_launcher_takes_its_processes_along(tmp_path: Path) -> None:
    launcher = (
        "import os, sys, time; from pathlib import Path; from launcher import processes;"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)'];"
        "p = processes.start(command, os.environ, Path('log'), Path('.'));"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    with subprocess.Popen(
        [sys.executable, "-c", launcher], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = processes.identify(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
    assert child is not None
    assert wait_for(lambda: not child.alive)


def test_a_pid_that_was_used_again_is_another_process() -> None:
    me = processes.identify(os.getpid())
    assert me is not None
    assert me.alive
    assert not me._replace(started=me.started - 1).alive


def test_only_segments_seen_in_our_processes_are_removed() -> None:
    ours = python_shared_memory.SharedMemory(create=True, size=64)
    others = python_shared_memory.SharedMemory(create=True, size=64)
    try:
        mine = {segment for segment in shared_memory.mapped_by([os.getpid()]) if segment.name == ours.name.lstrip("/")}
        reused = {shared_memory.Segment(others.name.lstrip("/"), 1)}  # the same name, another file
        assert shared_memory.remove(mine | reused) == 1
        assert (shared_memory.SHM / others.name.lstrip("/")).exists()
    finally:
        ours.close()
        others.close()
        others.unlink()
        python_shared_memory.resource_tracker.unregister(f"/{ours.name.lstrip('/')}", "shared_memory")


def left_behind(launcher: processes.Identity, temporary: Path) -> state.State:
    return state.State("ready", {"http": 1}, launcher, f"fictures_test_{os.getpid()}_", str(temporary))


def test_what_a_killed_launcher_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    segment = shared_memory.SHM / f"fictures_test_{os.getpid()}_x"
    segment.touch()
    left_behind(processes.Identity(2**22 + 1, 1), tmp_path).write(tmp_path / "state.json")
    assert state.clean_up_after_crash(tmp_path / "state.json")
    assert not segment.exists()
    assert tmp_path.exists()  # not one of the launcher's own temporary folders


def test_a_second_start_on_the_same_port_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "RUN", tmp_path)
    with state.sole_owner(layout.Instance(8000)):
        second = state.sole_owner(layout.Instance(8000))
        with pytest.raises(LaunchError, match=f"TRITON_HTTP_PORT=8000: .* already runs \\(pid {os.getpid()}\\)"):
            second.__enter__()
        with state.sole_owner(layout.Instance(8001)):
            pass
    with state.sole_owner(layout.Instance(8000)):
        pass


def test_a_state_file_that_makes_no_sense_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"status": ')
    assert not state.clean_up_after_crash(tmp_path / "state.json")
