"""The rules of a response stream that every model keeps: errors inside responses, and one final response."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tritonclient.grpc import service_pb2

from fictures.errors import Cancelled, FicturesError, ServerError, from_status, from_stream_message

_CLOSED_HERE = re.compile(r"Channel closed|Locally cancelled")
"""gRPC's words for a call that this process ended itself."""

_ENDED_WHILE_SENDING = "Internal error from Core"
"""What grpc.aio says of a call that the other side, or the deadline, ended before its request was sent."""


def accept(message: service_pb2.ModelStreamInferResponse) -> service_pb2.ModelInferResponse:
    """Return the response inside a stream's message, or raise the error that it carries."""
    if message.error_message:
        raise from_stream_message(message.error_message)
    return message.infer_response


def is_final(response: service_pb2.ModelInferResponse) -> bool:
    """Whether the model says that this response is the request's last."""
    return bool(response.parameters["triton_final_response"].bool_param)


def complete(responses: Sequence[service_pb2.ModelInferResponse]) -> Sequence[service_pb2.ModelInferResponse]:
    """Return the responses of a whole stream, or raise if the final one is missing."""
    if not responses or not is_final(responses[-1]):
        raise incomplete()
    return responses


def incomplete() -> ServerError:
    """The exception for a stream that ended before its final response."""
    return ServerError("the server ended the stream before its final response")


def closed() -> Cancelled:
    """The exception for a call on a closed client, or one that closing its client or stream ended."""
    return Cancelled("the client or the stream was closed", status="CANCELLED")


def from_rpc(error: Any) -> FicturesError:
    """Make the exception for a failed gRPC call: a `grpc.RpcError` of either flavour."""
    status, message = str(error.code()), error.details()
    if status.endswith("DEADLINE_EXCEEDED"):
        message = "the server did not answer in time"
    if message == _ENDED_WHILE_SENDING:
        status = "UNAVAILABLE"
        message = "connection closed while the request was sent"
    if status.endswith("CANCELLED") and _CLOSED_HERE.search(message or ""):
        return closed()
    return from_status(status, message)
