"""One request, one answer: hands each request to `sdxl_stream`, the image engine, and answers with its last response.

A request waits for its images in a thread of its own, so that any number of them can share the engine's steps.
"""

import json
import threading
import uuid
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

_ENGINE = "sdxl_stream"
_OUTPUTS = ["image", "seed"]
_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
_STATUSES = ("INVALID_ARG", "UNAVAILABLE", "CANCELLED", "INTERNAL")
_CANCELLATION_POLL = 0.25  # seconds; Triton tells a backend of a cancelled request only when asked


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._relays: set[Relay] = set()
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._watch_cancellation, name="cancellation", daemon=True)
        self._watch.start()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            relay = Relay(request)
            self._relays.add(relay)
            threading.Thread(target=self._run, args=(relay,), daemon=True).start()

    def finalize(self) -> None:
        self._stopping.set()
        self._watch.join(2 * _CANCELLATION_POLL)

    def _run(self, relay: "Relay") -> None:
        try:
            relay.run()
        finally:
            self._relays.discard(relay)

    def _watch_cancellation(self) -> None:
        while not self._stopping.wait(_CANCELLATION_POLL):
            for relay in list(self._relays):
                try:
                    relay.pass_cancellation_on()
                except Exception as error:
                    pb_utils.Logger.log_warn(f"[image] a cancellation could not be passed on: {error!r}")


class Relay:
    """One request on its way: sent to the engine, watched for cancellation, answered once."""

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()
        self._lock = threading.Lock()  # Triton must not be asked about a request that has had its answer
        self._key = uuid.uuid4().hex
        # Copies: a request's own tensors are gone when `execute` returns.
        self._inputs = [pb_utils.Tensor(tensor.name(), tensor.as_numpy().copy()) for tensor in request.inputs()]
        self._parameters = json.loads(request.parameters() or "{}")
        self._cancelled = False

    def run(self) -> None:
        """Waits for the engine's answer and passes it on."""
        try:
            answer = self._ask()
        except pb_utils.TritonModelException as error:
            answer = _failure(f"the image engine does not answer: {error}; try again", pb_utils.TritonError.UNAVAILABLE)
        except Exception as error:
            answer = _failure(f"the request could not be passed on: {error!r}", pb_utils.TritonError.INTERNAL)
        with self._lock:
            sender, self._sender = self._sender, None
            sender.send(answer, flags=_FINAL)

    def pass_cancellation_on(self) -> None:
        """Cancels the engine's request if this one was cancelled, which Triton does not do by itself."""
        with self._lock:
            if self._cancelled or self._sender is None or not self._sender.is_cancelled():
                return
            self._cancelled = True
        prompt = pb_utils.Tensor("prompt", np.array([b""], dtype=np.object_))
        for _ in _engine_request([prompt], {"cancel": self._key}).exec(decoupled=True):
            pass

    def _ask(self) -> Any:
        parameters = self._parameters | {"relayed": True, "cancel_key": self._key}
        answer = _failure("the image engine ended without an answer", pb_utils.TritonError.INTERNAL)
        for response in _engine_request(self._inputs, parameters).exec(decoupled=True):
            if response.has_error():
                answer = _passed_on(response.error().message())
            elif response.output_tensors():
                answer = pb_utils.InferenceResponse(response.output_tensors())
        return answer


def _engine_request(inputs: list[Any], parameters: dict[str, Any]) -> Any:
    return pb_utils.InferenceRequest(
        model_name=_ENGINE, requested_output_names=_OUTPUTS, inputs=inputs, parameters=parameters
    )


def _passed_on(message: str) -> Any:
    """The engine puts an error's status in front of its message; Triton's own errors have none."""
    status, _, rest = message.partition(": ")
    if status in _STATUSES:
        return _failure(rest, getattr(pb_utils.TritonError, status))
    return _failure(f"the image engine does not answer: {message}; try again", pb_utils.TritonError.UNAVAILABLE)


def _failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
