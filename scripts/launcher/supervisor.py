"""Keeps the server serving: sees a process die at once, finds out if that matters, and starts again.

Triton never replaces a dead stub (the process that runs a Python model) by itself, and keeps calling the model
ready. Unloading and loading such a model is no way out: seen on server 2.51, it brought the model back or aborted
the whole tritonserver, as chance had it. So tritonserver is started again, which also ends the streams that
would otherwise hang. A model that someone unloaded or reloaded on purpose ends processes too, and is left alone;
so is a stub whose engine died, since the backend in it starts a new one by itself.
"""

import time
from collections.abc import Callable
from threading import Event

from launcher import processes
from launcher.errors import LaunchError
from launcher.gateway import Gateway
from launcher.processes import Identity
from launcher.server import TritonServer

POLL_INTERVAL = 0.5
MOST_FAILED_STARTS = 5
LONGEST_BACK_OFF = 30.0
ASK_INTERVAL = 5.0
"""Seconds between two questions whether tritonserver answers at all."""
HUNG_AFTER = 30.0
"""Seconds without an answer after which it counts as hung; server 2.51 can hang in its handler of a segmentation
fault, neither dead nor alive."""
DOUBTED_FOR = 10.0
"""Seconds for which Triton is asked about a stub that ended, until its silence counts as the worst answer. One thread
of its HTTP server is busy while a model loads, and a question that comes to that one waits for the load."""
STABLE_AFTER = 60.0
"""Seconds of serving after which earlier failures no longer count."""


def back_off(failures: int) -> float:
    """Seconds to wait before the start that follows this many in a row that did not last: 1, 2, 4 ... 30."""
    return min(2.0 ** min(failures - 1, 5), LONGEST_BACK_OFF)


class Supervisor:
    """Runs one server, and a gateway in front of it if there is to be one, until `stop` is set.

    Args:
        say: Tells people what happened, one line at a time.
        show: Shows how far a start is: phase and seconds.
    """

    def __init__(
        self,
        server: TritonServer,
        gateway: Gateway | None,
        stop: Event,
        say: Callable[[str], None],
        show: Callable[[str, float], None],
    ) -> None:
        self._server = server
        self._gateway = gateway
        self._stop = stop
        self._say = say
        self._show = show
        self._processes: set[Identity] = set()
        self._stubs: dict[Identity, str] = {}
        self._doubtful: dict[Identity, tuple[str, float]] = {}  # stubs that ended: model, and when it was seen
        self._failures = 0
        self._gateway_failures = 0
        self._gateway_start_at = 0.0
        self._serving_since = 0.0
        self._asked = 0.0
        self._answered = 0.0

    def start(self) -> bool:
        """The first start; False if stopped meanwhile. A failure is not tried again: it would fail again.

        Raises:
            LaunchError: The server did not come up.
        """
        self._start_gateway()
        if not self._bring_up("starting"):
            return False
        if self._gateway:
            self._gateway.wait_until_live(self._stop.is_set)
        return True

    def keep_serving(self) -> None:
        """Watch, and start again what dies, until stopped.

        Raises:
            LaunchError: The server did not come back after several attempts.
        """
        while not self._stop.wait(POLL_INTERVAL):
            self._keep_gateway()
            problem = self._find_problem()
            if problem:
                if time.monotonic() - self._serving_since > STABLE_AFTER:
                    self._failures = 0
                self._say(f"{problem}: starting again")
                self._recover()

    def _find_problem(self) -> str | None:
        """What is wrong with the server, in words; None when it serves, or rests because somebody wants it to."""
        if self._server.ended:
            return "tritonserver ended"
        if self._hangs():
            return "tritonserver does not answer"
        gateway = self._gateway and self._gateway.identity
        processes.reap_orphans(keep=self._server.pids | ({gateway.pid} if gateway else set()))
        living = self._server.observe()
        died = self._processes - living
        born = living - self._processes
        self._processes = living
        self._stubs |= self._server.stubs(born)
        return self._judge_death(died)

    def _keep_gateway(self) -> None:
        """A gateway that died is started again, with growing pauses; it holds nothing that would be lost."""
        if self._gateway is None or not self._gateway.ended:
            return
        now = time.monotonic()
        if self._gateway_start_at <= now:
            if now - self._gateway_start_at > STABLE_AFTER:
                self._gateway_failures = 0
            self._gateway_failures += 1
            self._say("the gateway ended: starting it again")
            self._start_gateway()
            self._gateway_start_at = now + back_off(self._gateway_failures)

    def _start_gateway(self) -> None:
        if self._gateway:
            self._gateway.start()
            self._server.note_gateway(self._gateway.identity)

    def _hangs(self) -> bool:
        now = time.monotonic()
        if now - self._asked < ASK_INTERVAL:
            return False
        self._asked = now
        if self._server.probe.server_live():
            self._answered = now
        return now - self._answered > HUNG_AFTER

    def _judge_death(self, died: set[Identity]) -> str | None:
        now = time.monotonic()
        self._doubtful |= {stub: (self._stubs.pop(stub), now) for stub in died & self._stubs.keys()}
        for stub, (model, seen) in list(self._doubtful.items()):
            is_missed = self._is_missed(model)
            if is_missed is None and now - seen < DOUBTED_FOR:
                continue
            del self._doubtful[stub]
            if is_missed is not False:
                return f"the process of the model {model} died (pid {stub.pid})"
        return None

    def _is_missed(self, model: str) -> bool | None:
        """Whether a model that shall serve has fewer stubs than it needs; None: Triton does not say.

        A reload has new stubs beside the old ones, so what counts is whether enough are left.
        """
        probe = self._server.probe
        state = probe.model_state(model)
        if state != "READY":
            return None if state is None else False
        needed = probe.instance_count(model)
        return None if needed is None else list(self._server.stubs(self._processes).values()).count(model) < needed

    def _recover(self) -> None:
        for _ in range(MOST_FAILED_STARTS):
            self._server.kill()
            self._server.set_status("restarting")
            if self._failures and self._pause(back_off(self._failures)):
                return
            self._failures += 1
            try:
                if self._bring_up("restarting"):
                    self._say("serving again")
                return
            except LaunchError as error:
                self._say(str(error))
        raise LaunchError(f"the server did not come back after {MOST_FAILED_STARTS} attempts: see above")

    def _pause(self, seconds: float) -> bool:
        """Wait; whether it was stopped meanwhile."""
        end = time.monotonic() + seconds
        while not self._stop.wait(min(POLL_INTERVAL, max(0.0, end - time.monotonic()))):
            self._keep_gateway()
            if time.monotonic() >= end:
                return False
        return True

    def _bring_up(self, status: str) -> bool:
        began = time.monotonic()
        self._server.start(status)

        def show(phase: str, seconds: float) -> None:
            if status != "starting":  # at the first start a gateway that ends is a failure
                self._keep_gateway()
            self._show(phase, seconds)

        if not self._server.wait_until_serving(self._stop.is_set, show):
            return False
        self._processes = self._server.observe()
        self._stubs, self._doubtful = self._server.stubs(self._processes), {}
        self._serving_since = self._answered = time.monotonic()
        self._say(f"ready after {time.monotonic() - began:.0f} s")
        return True
