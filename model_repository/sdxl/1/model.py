"""One request, one answer: hands each request to `sdxl_stream`, the image engine, and answers with its last response.

A request waits for its images in a thread of its own, so that any number of them can share the engine's steps.
"""

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

_ENGINE = "sdxl_stream"
_OUTPUTS = ["image", "seed"]
_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
_CANCELLATION_POLL = 0.25  # seconds; Triton tells a backend of a cancelled request only when asked
_KEPT_FOR = 5.0  # seconds; see `Kept`


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._relays: set[Relay] = set()
        self._kept = Kept()
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._watch_cancellation, name="cancellation", daemon=True)
        self._watch.start()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            try:
                relay = Relay(request, sender, self._kept)
                threading.Thread(target=self._run, args=(relay,), daemon=True).start()
            except Exception as error:  # of this request: raised, it would fail others that have their threads already
                sender.send(_not_passed_on(error), flags=_FINAL)

    def finalize(self) -> None:
        self._stopping.set()
        self._watch.join(2 * _CANCELLATION_POLL)

    def _run(self, relay: "Relay") -> None:
        self._relays.add(relay)
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
            self._kept.let_go()


class Kept:
    """Responses of the engine that have been read, for some seconds.

    A thread of Triton's drops them, too, and does not hold Python's lock. If it were the last to do so, it would free
    the tensors' arrays, which ends this process with Python 3.12 and can spoil its memory with others.
    """

    def __init__(self) -> None:
        self._responses: deque[tuple[float, Any]] = deque()

    def read(self, request: Any) -> Iterator[Any]:
        """Sends a request to the engine; the responses to it."""
        responses = request.exec(decoupled=True)
        try:
            yield from responses
        finally:
            self._responses.append((time.monotonic(), responses))

    def let_go(self) -> None:
        """Drops those that Triton has dropped by now."""
        while self._responses and self._responses[0][0] < time.monotonic() - _KEPT_FOR:
            self._responses.popleft()


class Relay:
    """One request on its way: sent to the engine, watched for cancellation, answered once."""

    def __init__(self, request: Any, sender: Any, kept: Kept) -> None:
        self._kept = kept
        self._sender = sender
        self._lock = threading.Lock()  # Triton must not be asked about a request that has had its answer
        self._key = uuid.uuid4().hex
        # Copies: a request's own tensors are gone when `execute` returns.
        self._inputs = [pb_utils.Tensor(tensor.name(), tensor.as_numpy().copy()) for tensor in request.inputs()]
        self._id = request.request_id()
        self._wanted = request.requested_output_names()
        self._parameters = json.loads(request.parameters() or "{}")
        # Not as `InferenceRequest(trace=…)`: Triton 2.51 frees it when `execute` returns and crashes on it afterwards.
        if context := request.trace().get_context():
            self._parameters["traceparent"] = json.loads(context)["traceparent"]

    def run(self) -> None:
        """Waits for the engine's answer and passes it on."""
        try:
            answer = self._ask()
        except pb_utils.TritonModelException as error:
            answer = _failure(f"the image engine does not answer: {error}; try again", pb_utils.TritonError.UNAVAILABLE)
        except Exception as error:
            answer = _not_passed_on(error)
        with self._lock:
            sender, self._sender = self._sender, None
            sender.send(answer, flags=_FINAL)

    def pass_cancellation_on(self) -> None:
        """Cancels the engine's request if this one was cancelled, which Triton does not do by itself. Is called again
        until the engine has answered: a cancellation may overtake its request.
        """
        with self._lock:
            if self._sender is None or not self._sender.is_cancelled():
                return
        prompt = pb_utils.Tensor("prompt", np.array([b""], dtype=np.object_))
        cancellation = pb_utils.InferenceRequest(
            model_name=_ENGINE, requested_output_names=_OUTPUTS, inputs=[prompt], parameters={"cancel": self._key}
        )
        for _ in self._kept.read(cancellation):
            pass

    def _ask(self) -> Any:
        parameters = self._parameters | {"relayed": True, "cancel_key": self._key}
        request = pb_utils.InferenceRequest(
            request_id=self._id,
            model_name=_ENGINE,
            requested_output_names=_OUTPUTS,
            inputs=self._inputs,
            parameters=parameters,
        )
        answer = _failure("the image engine ended without an answer", pb_utils.TritonError.INTERNAL)
        for response in self._kept.read(request):
            if response.has_error():  # Triton's own: the engine's come in place of an image
                message = response.error().message()
                return _failure(
                    f"the image engine does not answer: {message}; try again", pb_utils.TritonError.UNAVAILABLE
                )
            if response.output_tensors():
                answer = _answer(response, self._wanted)
        return answer


def _answer(response: Any, wanted: Collection[str]) -> Any:
    """The engine's answer: images with their seeds, or an error as `STATUS: message`, which has none.

    Only outputs that are `wanted`: Triton's Python backend frees others without Python's lock, which ends this process.
    """
    files, seeds = (pb_utils.get_output_tensor_by_name(response, name) for name in _OUTPUTS)
    if seeds.as_numpy().size == 0 and files.as_numpy().size == 1:  # in this order: images are not looked at, or copied
        status, _, message = files.as_numpy()[0].decode().partition(": ")
        return _failure(message, getattr(pb_utils.TritonError, status))
    return pb_utils.InferenceResponse([tensor for tensor in (files, seeds) if tensor.name() in wanted])


def _not_passed_on(error: Exception) -> Any:
    return _failure(f"the request could not be passed on: {error!r}", pb_utils.TritonError.INTERNAL)


def _failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
