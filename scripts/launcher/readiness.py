"""Asks Triton whether it really serves: not only that ports answer, but that the engine takes requests."""

import time
from collections.abc import Callable, Sequence

import httpx

from launcher.repository import ENGINES, IMAGE_ENGINE, TEXT_MODEL

TEXT_PHASES = (
    # A piece of the log, and what it means; the last line of the table that was reached counts.
    ("Server side auto-completed config", "reading the models"),
    ("Initializing a V1 LLM engine", "starting vLLM"),
    ("init engine", "starting vLLM"),
    ("Starting to load model", "loading the text model"),
    ("Loading weights took", "text model loaded"),
    ("Warming up model", "compiling and warming up the text model"),
    (f"successfully loaded '{TEXT_MODEL}'", "text model ready"),
)
IMAGE_PHASES = (
    (f"ModelInstanceInitialize: {IMAGE_ENGINE}", "loading the image model"),
    (f"successfully loaded '{IMAGE_ENGINE}'", "image model ready"),
)


class Probe:
    """Health questions to one Triton server, over its HTTP port; `models` are what it is to serve."""

    def __init__(self, base_url: str, models: Sequence[str] = ()) -> None:
        self._models = models
        # No proxies: the server is on this machine, whatever the environment says about the network.
        # No connection is kept: a stopping Triton waits for those that are open.
        alone = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=base_url, timeout=2, trust_env=False, limits=alone)

    def server_live(self) -> bool:
        return self._succeeds("/v2/health/live")

    def gateway_live(self) -> bool:
        return self._succeeds("/health/live")

    def server_ready(self) -> bool:
        return self._succeeds("/v2/health/ready")

    def model_ready(self, model: str) -> bool:
        return self._succeeds(f"/v2/models/{model}/ready")

    def engine_ready(self, model: str) -> bool:
        """Send the request that a model answers at once if its engine takes requests, with an error if not."""
        question = {ENGINES[model]: "", "health_check": True}
        try:
            answer = self._http.post(f"/v2/models/{model}/generate", json=question)
        except httpx.HTTPError:
            return False
        return answer.is_success

    def model_state(self, model: str) -> str | None:
        """READY, LOADING, UNLOADING or UNAVAILABLE as Triton's repository index has it; a model that was unloaded and
        removed is UNAVAILABLE too. None: the server does not answer.
        """
        try:
            index = self._http.post("/v2/repository/index").raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
        states = [entry.get("state") for entry in index if entry.get("name") == model]
        return next((state for state in states if state), "UNAVAILABLE")

    def instance_count(self, model: str) -> int | None:
        """How many instances, each with a stub of its own, the model that serves has; None if Triton does not say."""
        try:
            groups = self._http.get(f"/v2/models/{model}/config").raise_for_status().json()["instance_group"]
            return sum(group["count"] * max(1, len(group.get("gpus", []))) for group in groups)
        except (httpx.HTTPError, ValueError, KeyError):
            return None

    def serves(self) -> bool:
        """Whether clients can start: the server and its models are ready and the engines take requests."""
        engines = [model for model in self._models if model in ENGINES]
        return self.server_ready() and all(map(self.model_ready, self._models)) and all(map(self.engine_ready, engines))

    def _succeeds(self, path: str) -> bool:
        try:
            return self._http.get(path).is_success
        except httpx.HTTPError:
            return False


def phase(log: str) -> str:
    """What the server is doing, as far as its log tells."""
    reached = [[meaning for needle, meaning in table if needle in log] for table in (TEXT_PHASES, IMAGE_PHASES)]
    return ", ".join(meanings[-1] for meanings in reached if meanings) or "starting Triton"


def wait(done: Callable[[], bool], give_up: Callable[[], bool], timeout: float, tick: Callable[[], None]) -> bool:
    """Poll `done` until it is true, `give_up` is true or `timeout` seconds passed; whether it became true."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and not give_up():
        if done():
            return True
        tick()
        time.sleep(0.25)
    return False
