"""Engines that are started: processes that stand still, and when a model is ready."""

import gc
import importlib
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest

from text_backend.watchdog import Stalled, ended_when_stalled

STANDS_STILL = "import time; time.sleep(60)"
WORKS = "import time\nwhile time.process_time() < 2: pass"
WORKS_AFTER_OTHERS = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-S", "-c", {WORKS!r}])
while time.process_time() < 1.5: time.sleep(0.1); [None for _ in range(2_000_000)]
"""


def run(code: str) -> None:
    subprocess.run([sys.executable, "-S", "-c", code], check=True)


def test_processes_that_stand_still_are_ended() -> None:
    with pytest.raises(Stalled, match="stood still"), ended_when_stalled(1, interval=0.1):
        run(STANDS_STILL)


@pytest.mark.parametrize("code", [WORKS, WORKS_AFTER_OTHERS])
def test_processes_that_work_are_left_alone_however_long_it_takes(code: str) -> None:
    with ended_when_stalled(1, interval=0.1):
        run(code)


def test_what_was_ended_is_not_taken_for_started() -> None:
    with pytest.raises(Stalled), ended_when_stalled(0.3, interval=0.1):
        subprocess.run([sys.executable, "-S", "-c", STANDS_STILL], check=False)


def test_what_ran_before_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", STANDS_STILL]) as process:
        with ended_when_stalled(0.3, interval=0.1):
            run(WORKS)
        assert process.poll() is None
        process.kill()


def test_another_failure_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="wrong"), ended_when_stalled(1, interval=0.1):
        raise ValueError("wrong")


TRITON = "triton_python_backend_utils"  # which only Triton's own processes have


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module."""
    triton = ModuleType(TRITON)
    triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, TRITON, triton)
    return importlib.import_module("text_backend.engine")


class Answering:
    """An engine that has come up."""

    async def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)


async def test_an_engine_whose_copy_of_this_process_stalls_is_made_anew(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forks: list[bool] = []

    def start(_: Any, *, fork: bool) -> Answering:
        forks.append(fork)
        if fork:
            run(STANDS_STILL)
        return Answering()

    monkeypatch.setattr(engine, "start_engine", start)
    monkeypatch.setattr(engine, "_STALL_TIMEOUT", 0.5)
    log = Mock()
    text = engine.TextEngine(Mock(lora_paths={}), log)
    text._args = Mock()
    assert isinstance(await text._answering_engine(may_fork=True), Answering)
    assert forks == [True, False]
    log.log_error.assert_called_once()


@pytest.fixture
def _own_garbage_collection() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


@pytest.mark.usefixtures("_own_garbage_collection")
async def test_a_model_whose_chat_template_is_not_compiled_yet_is_not_ready(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []

    class WithTemplate(Answering):
        model_config = Mock(is_multimodal_model=False)

        @property
        def renderer(self) -> Any:
            return Mock(warmup=lambda _: states.append(text._state))

    monkeypatch.setattr(engine, "start_engine", lambda _, fork: WithTemplate())
    text = engine.TextEngine(Mock(lora_paths={}, lazy=True), Mock())
    text._args = Mock()
    await text._start_engine()
    assert [*states, text._state] == [engine.EngineState.STARTING, engine.EngineState.READY]
