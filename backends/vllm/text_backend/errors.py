"""The errors a client sees, each with the Triton status it is sent with.

TextError
├── InvalidArgument   INVALID_ARG: the request is wrong; sending it again will not help
├── Unavailable       UNAVAILABLE: the engine cannot take or finish the request now; try again
├── Cancelled         CANCELLED: the client went away or cancelled
└── InternalError     INTERNAL: a defect on the server's side
"""

from typing import Any


class TextError(Exception):
    code: str  # a name of pb_utils.TritonError's codes


class InvalidArgument(TextError):
    code = "INVALID_ARG"

    @classmethod
    def of(cls, name: str, value: Any, allowed: str) -> "InvalidArgument":
        """Names the tensor or parameter, the value that came and what is allowed."""
        shown = repr(value)
        if len(shown) > 100:
            shown = f"{shown[:80]}… ({len(shown)} characters)"
        return cls(f"{name}: {shown} is not allowed: {allowed}")


class Unavailable(TextError):
    code = "UNAVAILABLE"


class Cancelled(TextError):
    code = "CANCELLED"


class InternalError(TextError):
    code = "INTERNAL"
