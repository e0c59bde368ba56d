"""The supervisor starts a server again when it must, and only then; against a server that is made up."""

from collections.abc import Callable
from threading import Event

import pytest

from launcher import processes, supervisor
from launcher.processes import Identity
from launcher.supervisor import Supervisor, back_off

OLD = {Identity(1, 1): "gemma", Identity(2, 1): "gemma"}
NEW = {Identity(3, 2): "gemma", Identity(4, 2): "gemma"}


class MadeUpServer:
    """A server whose processes are all stubs of models with two instances each; it is also its own probe."""

    pids: set[int] = set()
    state: str | None = "READY"
    instances: int | None = 2
    live = True

    def __init__(self) -> None:
        self.processes = dict(OLD)
        self.ended = False
        self.starts = 0
        self.probe = self

    def observe(self) -> set[Identity]:
        return set(self.processes)

    def stubs(self, among: set[Identity]) -> dict[Identity, str]:
        return {process: self.processes[process] for process in among}

    def server_live(self) -> bool:
        return self.live

    def model_state(self, model: str) -> str | None:
        return self.state

    def instance_count(self, model: str) -> int | None:
        return self.instances

    def start(self, status: str) -> None:
        self.starts += 1

    def wait_until_serving(self, stopping: Callable[[], bool], show: object) -> bool:
        return True

    def kill(self) -> None: ...

    def note_gateway(self, gateway: Identity | None) -> None: ...

    def set_status(self, status: str) -> None: ...


class MadeUpGateway:
    """A gateway that starts at once and lives."""

    identity = None

    def __init__(self) -> None:
        self.ended = True
        self.starts = 0

    def start(self) -> None:
        self.ended = False
        self.starts += 1

    def wait_until_live(self, stopping: Callable[[], bool]) -> None: ...


class Pauses(Event):
    """A stop event that lets no time pass; set after so many pauses."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.taken: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        return len(self.taken) >= self.most


def note_pause(watching: Supervisor, seconds: float) -> bool:
    stop = watching._stop
    assert isinstance(stop, Pauses)
    stop.taken.append(seconds)
    return stop.wait()


@pytest.fixture(autouse=True)
def _leave_the_tests_own_processes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "reap_orphans", lambda keep: None)


@pytest.fixture
def server() -> MadeUpServer:
    return MadeUpServer()


def started(server: MadeUpServer, stop: Event, gateway: MadeUpGateway | None = None) -> Supervisor:
    made_up = gateway or MadeUpGateway()
    watching = Supervisor(server, made_up, stop, lambda line: None, lambda phase, seconds: None)  # type: ignore[arg-type]
    assert watching.start()
    return watching


def test_a_dead_stub_is_noticed_though_its_sibling_lives(server: MadeUpServer) -> None:
    watching = started(server, Event())
    del server.processes[Identity(2, 1)]
    assert watching._find_problem() == "the process of the model gemma died (pid 2)"


def test_a_reload_is_left_alone(server: MadeUpServer) -> None:
    watching = started(server, Event())
    server.processes = OLD | NEW
    assert watching._find_problem() is None
    server.processes = dict(NEW)
    assert watching._find_problem() is None


def test_an_unload_is_left_alone(server: MadeUpServer) -> None:
    watching = started(server, Event())
    server.state = "UNLOADING"
    server.processes = {}
    assert watching._find_problem() is None


@pytest.mark.parametrize("silent", ["state", "instances"])
def test_while_triton_does_not_say_what_became_of_a_model_it_is_asked_again(server: MadeUpServer, silent: str) -> None:
    watching = started(server, Event())
    answer = getattr(server, silent)
    setattr(server, silent, None)
    del server.processes[Identity(2, 1)]
    assert [watching._find_problem() for _ in range(3)] == [None] * 3
    setattr(server, silent, answer)
    assert watching._find_problem() == "the process of the model gemma died (pid 2)"
    assert watching._find_problem() is None


def test_an_unload_that_triton_first_does_not_tell_of_is_left_alone(server: MadeUpServer) -> None:
    watching = started(server, Event())
    server.state = None
    server.processes = {}
    assert watching._find_problem() is None
    server.state = "UNAVAILABLE"
    assert watching._find_problem() is None
    server.state = "READY"
    assert watching._find_problem() is None, "the death is judged"


def test_silence_about_a_dead_stub_is_not_waited_out_for_ever(
    server: MadeUpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "DOUBTED_FOR", 0)
    watching = started(server, Event())
    server.state = None
    del server.processes[Identity(2, 1)]
    assert watching._find_problem() == "the process of the model gemma died (pid 2)"


def test_the_back_off_doubles_up_to_half_a_minute() -> None:
    assert [back_off(failures) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert back_off(5000) == 30


def test_a_server_that_dies_whenever_it_is_up_is_started_with_growing_pauses(
    server: MadeUpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervisor, "_pause", note_pause)
    stop = Pauses(most=8)
    watching = started(server, stop)
    server.ended = True
    watching.keep_serving()
    assert stop.taken == [1, 2, 4, 8, 16, 30, 30, 30]


def test_after_a_minute_of_serving_the_pauses_begin_anew(server: MadeUpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STABLE_AFTER", -1)
    stop = Pauses(most=1)
    watching = started(server, stop)
    server.ended = True
    server.start = lambda status: stop.taken.append(0)  # type: ignore[method-assign]
    watching.keep_serving()
    assert stop.taken == [0]


def test_a_server_that_lives_and_does_not_answer_for_half_a_minute_is_hung(
    server: MadeUpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now[0])
    watching = started(server, Event())
    server.live = False
    found = []
    for _ in range(8):
        now[0] += 6
        found.append(watching._find_problem())
    assert found == [None] * 5 + ["tritonserver does not answer"] * 3
    server.live = True
    now[0] += 6
    assert watching._find_problem() is None


def test_a_gateway_that_dies_is_started_with_growing_pauses(
    server: MadeUpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now[0])
    gateway = MadeUpGateway()
    watching = started(server, Event(), gateway)
    starts = []
    for _ in range(12):
        gateway.ended = True
        watching._keep_gateway()
        starts.append(gateway.starts)
        now[0] += 1
    assert starts == [2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5]


def test_a_gateway_that_dies_while_the_server_comes_back_is_started_at_once(server: MadeUpServer) -> None:
    gateway = MadeUpGateway()
    watching = started(server, Event(), gateway)
    gateway.ended = True

    def wait_until_serving(stopping: Callable[[], bool], show: Callable[[str, float], None]) -> bool:
        show("loading", 1.0)
        return True

    server.wait_until_serving = wait_until_serving  # type: ignore[method-assign]
    assert watching._bring_up("restarting")
    assert gateway.starts == 2


def test_a_gateway_that_dies_in_a_pause_is_started_before_it_is_over(server: MadeUpServer) -> None:
    gateway = MadeUpGateway()
    watching = started(server, Event(), gateway)
    gateway.ended = True
    assert not watching._pause(0.01)
    assert gateway.starts == 2
