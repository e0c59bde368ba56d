"""The errors a client sees, each with the Triton status it is sent with.

ImageError
├── InvalidArgument   INVALID_ARG: the request is wrong; sending it again will not help
├── Unavailable       UNAVAILABLE: it cannot be taken or finished now; try again
├── Cancelled         CANCELLED: the client went away or cancelled
└── InternalError     INTERNAL: a defect on the server's side, or too little memory for this one image
"""

from typing import Any


class ImageError(Exception):
    code: str  # a name of pb_utils.TritonError's codes


class InvalidArgument(ImageError):
    code = "INVALID_ARG"

    @classmethod
    def of(cls, name: str, value: Any, allowed: str) -> "InvalidArgument":
        """Names the tensor or parameter, the value that came and what is allowed."""
        shown = repr(value)
        if len(shown) > 100:
            shown = f"{shown[:80]}… ({len(shown)} characters)"
        return cls(f"{name}: {shown} is not allowed: {allowed}")


class Unavailable(ImageError):
    code = "UNAVAILABLE"

    @classmethod
    def unloading(cls) -> "Unavailable":
        return cls("the image model is being unloaded; try again")


class Cancelled(ImageError):
    code = "CANCELLED"


class InternalError(ImageError):
    code = "INTERNAL"


class SetupError(Exception):
    """The model or its configuration is not right; the message says what to change. Loading fails with it."""
