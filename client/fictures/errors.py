"""Every exception of the package, in one tree.

::

    FicturesError
    ├── ConfigurationError      a setting is unknown or has a value that is not allowed
    ├── InvalidRequest          the request is wrong and would be refused again (INVALID_ARGUMENT)
    ├── ModelNotFound           no such model on the server (NOT_FOUND)
    ├── Unavailable             the server answers but cannot take requests now (UNAVAILABLE)
    │   └── ServerUnreachable   nothing answers at the URL, or the connection broke
    ├── DeadlineExceeded        the answer did not come within the timeout (DEADLINE_EXCEEDED)
    ├── Cancelled               the request was cancelled, or its client is closed (CANCELLED)
    ├── Unauthenticated         no valid credentials were sent (UNAUTHENTICATED)
    ├── PermissionDenied        the credentials do not allow this (PERMISSION_DENIED)
    └── ServerError             everything else, a fault of the server (INTERNAL and the rest)
"""

from __future__ import annotations

import re


class FicturesError(Exception):
    """Base of every exception of this package.

    `str(error)` is the message for people. `status` is the gRPC status name, for example `"UNAVAILABLE"`,
    when the server or the connection gave one, else None.
    """

    def __init__(self, message: str, *, status: str | None = None) -> None:
        super().__init__(message)
        self.status = status


class ConfigurationError(FicturesError):
    """One or more settings are wrong; `problems` holds one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class InvalidRequest(FicturesError):
    """The request is wrong and would be refused again. The message names the parameter."""


class ModelNotFound(FicturesError):
    """The server has no model of this name."""


class Unavailable(FicturesError):
    """The server answers but cannot take this request now: a model loads, restarts or is overloaded."""


class ServerUnreachable(Unavailable):
    """Nothing answers at the URL, or the connection broke before the answer was complete."""


class DeadlineExceeded(FicturesError):
    """The answer, or the next piece of a stream, did not come within the timeout."""


class Cancelled(FicturesError):
    """The request was cancelled before its answer was complete, or its client is closed."""


class Unauthenticated(FicturesError):
    """No credentials were sent, or the server does not know them."""


class PermissionDenied(FicturesError):
    """The credentials are valid and do not allow this request."""


class ServerError(FicturesError):
    """The server failed while it worked on the request."""


BY_STATUS: dict[str, type[FicturesError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "NOT_FOUND": ModelNotFound,
    "UNAVAILABLE": Unavailable,
    "RESOURCE_EXHAUSTED": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
}

# gRPC gives a broken connection and a server that refuses the same status, UNAVAILABLE; only its own words
# tell them apart.
_CONNECTION_BROKEN = re.compile(
    r"failed to connect|connection (refused|reset|aborted|closed)|socket closed|broken pipe|goaway"
    r"|errors? resolving|dns resolution|name resolution|handshake|endpoint closing|channel closed"
    r"|stream removed|recvmsg|tcp read|transport closed|no route to host|network is unreachable",
    re.IGNORECASE,
)

# Triton passes an error inside a stream on as bare text. (Its header `triton_grpc_error` would add the status,
# but makes server 2.51 fail with a segmentation fault: HandleCancellation on a stream that is complete.) So
# the status is read from the text: that of this project's models, which name the tensor or parameter first
# when the request is wrong, and Triton's. The user's own words are quoted in it, so what quotes them comes
# first, and each pattern starts or ends with the message.
_STATUS_OF_MESSAGE = tuple(
    (re.compile(pattern, re.DOTALL), status)
    for pattern, status in (
        (r"^(generation failed|the request could not be read): ", "INTERNAL"),
        (r"^(sampling parameters|[a-z][a-z0-9_.]*(\[\d+\])?)(: |=)", "INVALID_ARGUMENT"),
        (r"^.+: .+ is not allowed: ", "INVALID_ARGUMENT"),
        (r"^Request for unknown model: .* is not found", "NOT_FOUND"),
        (r"^Request for unknown model: .* (has no available versions|is not at ready state)", "UNAVAILABLE"),
        (r"^Stub process .* is not healthy|^[Mm]odel .* is (not ready|unloaded)|^Server not ready", "UNAVAILABLE"),
        (r"(; |\bPlease )try again[\w .]*$", "UNAVAILABLE"),
        (r"^((the |The )?[Rr]equest (was |has been )?)?[Cc]ancell?ed\.?$", "CANCELLED"),
        (r"^(unexpected .*)?inference (input|output|request)\b", "INVALID_ARGUMENT"),
        (r"^(expected \d+ inputs|unexpected shape for input)\b", "INVALID_ARGUMENT"),
    )
)
_REQUEST_ID = re.compile(r"^\[request id: [^]]*\] ")


def from_status(status: str | None, message: str | None) -> FicturesError:
    """Make the exception for a gRPC status.

    `status` is written as gRPC (`"UNAVAILABLE"`) or as tritonclient's `InferenceServerException.status()`
    (`"StatusCode.UNAVAILABLE"`) writes it.
    """
    name = (status or "UNKNOWN").removeprefix("StatusCode.")
    text = message or f"the server gave no reason ({name})"
    kind = BY_STATUS.get(name, ServerError)
    if name == "UNAVAILABLE" and _CONNECTION_BROKEN.search(text):
        kind = ServerUnreachable
    return kind(text, status=name)


def from_stream_message(message: str) -> FicturesError:
    """Make the exception for the error text inside a stream's response, which carries no status."""
    text = _REQUEST_ID.sub("", message)
    for pattern, status in _STATUS_OF_MESSAGE:
        if pattern.search(text):
            return from_status(status, message)
    return ServerError(message)
