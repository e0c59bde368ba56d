"""A small Triton in the test's own process: real sockets, scripted answers."""

import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc


def element(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


def response(text: str | None, *, final: bool = False, reason: str = "None", tokens: int = 1) -> Any:
    answer = pb.ModelInferResponse(model_name="gemma")
    answer.parameters["triton_final_response"].bool_param = final
    if text is not None:
        for name, datatype, raw in [
            ("text_output", "BYTES", element(text)),
            ("finish_reason", "BYTES", element(reason)),
            ("num_input_tokens", "UINT32", struct.pack("<I", 7)),
            ("num_output_tokens", "UINT32", struct.pack("<I", tokens)),
        ]:
            answer.outputs.add(name=name, datatype=datatype, shape=[1])
            answer.raw_output_contents.append(raw)
    return pb.ModelStreamInferResponse(infer_response=answer)


def failure(message: str) -> Any:
    return pb.ModelStreamInferResponse(error_message=message)


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers as the first word of the prompt says; keeps the last request and the cancelled ones."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.stopping = threading.Event()
        self.request: Any = None
        self.metadata: dict[str, str] = {}
        self.index = [pb.RepositoryIndexResponse.ModelIndex(name="gemma", version="1", state="READY")]
        self.probe_error: str | None = None
        self.ready = True
        self.server = grpc.server(ThreadPoolExecutor(32))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)
        self.url = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def stop(self) -> None:
        self.stopping.set()
        self.server.stop(0).wait(5)

    def inputs(self) -> dict[str, Any]:
        tensors = zip(self.request.inputs, self.request.raw_input_contents, strict=True)
        return {t.name: raw[4:].decode() if t.datatype == "BYTES" else bool(raw[0]) for t, raw in tensors}

    def ModelStreamInfer(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        self.request = next(requests)
        self.metadata = {entry.key: entry.value for entry in context.invocation_metadata()}
        if self.request.parameters["health_check"].bool_param:
            yield failure(self.probe_error) if self.probe_error else response("", final=True)
            return
        word, _, rest = self.inputs()["text_input"].partition(" ")
        yield from getattr(self, f"answer_{word}", self.answer_hello)(rest, context)

    def answer_hello(self, rest: str, context: Any) -> Iterator[Any]:
        if self.inputs()["stream"]:
            yield response("one ")
            yield response("two", tokens=3, reason="stop")
            yield response(None, final=True)
        else:
            yield response("one two", tokens=4, reason="stop", final=True)

    def answer_fail(self, message: str, context: Any) -> Iterator[Any]:
        yield failure(message)

    def answer_abort(self, status: str, context: Any) -> Iterator[Any]:
        context.abort(getattr(grpc.StatusCode, status), f"aborted as {status}")
        yield

    def answer_unfinished(self, rest: str, context: Any) -> Iterator[Any]:
        yield response("one ")

    def answer_endless(self, rest: str, context: Any) -> Iterator[Any]:
        context.add_callback(self.cancelled.set)
        while not self.cancelled.is_set() and not self.stopping.is_set():
            yield response("more ")
            time.sleep(0.01)

    def answer_silent(self, rest: str, context: Any) -> Iterator[Any]:
        context.add_callback(self.cancelled.set)
        yield response("one ")
        self.cancelled.wait(20)

    def ServerLive(self, request: Any, context: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return pb.ServerReadyResponse(ready=self.ready)

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        return pb.RepositoryIndexResponse(models=self.index)

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        answer = pb.ModelMetadataResponse(name=request.name, platform="vllm")
        answer.inputs.add(name="text_input", datatype="BYTES", shape=[1])
        return answer
