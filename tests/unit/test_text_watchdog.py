"""Processes that stand still while they are started."""

import subprocess
import sys

import pytest

from text_backend.watchdog import Stalled, ended_when_stalled

STANDS_STILL = "import time; time.sleep(60)"
WORKS = "import time\nwhile time.process_time() < 2: pass"


def run(code: str) -> None:
    subprocess.run([sys.executable, "-S", "-c", code], check=True)


def test_processes_that_stand_still_are_ended() -> None:
    with pytest.raises(Stalled, match="stood still"), ended_when_stalled(1, interval=0.1):
        run(STANDS_STILL)


def test_processes_that_work_are_left_alone_however_long_it_takes() -> None:
    with ended_when_stalled(1, interval=0.1):
        run(WORKS)


def test_what_ran_before_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", STANDS_STILL]) as process:
        with ended_when_stalled(0.3, interval=0.1):
            run(WORKS)
        assert process.poll() is None
        process.kill()


def test_another_failure_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="wrong"), ended_when_stalled(1, interval=0.1):
        raise ValueError("wrong")
