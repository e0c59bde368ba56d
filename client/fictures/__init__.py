"""Client, command line and gateway of Fictures AI Server: Gemma text and SDXL images behind NVIDIA Triton.

The public surface of the Python client is here; `fictures.errors` draws the exceptions as a tree.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fictures.async_client import AsyncClient
    from fictures.async_stream import AsyncStream
    from fictures.client import Client
    from fictures.errors import (
        Cancelled,
        ConfigurationError,
        DeadlineExceeded,
        FicturesError,
        InvalidRequest,
        ModelNotFound,
        PermissionDenied,
        ServerError,
        ServerUnreachable,
        Unauthenticated,
        Unavailable,
    )
    from fictures.settings import Settings, load_settings
    from fictures.stream import Stream
    from fictures.types import (
        ChatMessage,
        GeneratedImage,
        Health,
        ImageChunk,
        ImageOptions,
        ModelInfo,
        Sampling,
        TensorInfo,
        TextChunk,
        TextResult,
    )

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Cancelled",
    "ChatMessage",
    "Client",
    "ConfigurationError",
    "DeadlineExceeded",
    "FicturesError",
    "GeneratedImage",
    "Health",
    "ImageChunk",
    "ImageOptions",
    "InvalidRequest",
    "ModelInfo",
    "ModelNotFound",
    "PermissionDenied",
    "Sampling",
    "ServerError",
    "ServerUnreachable",
    "Settings",
    "Stream",
    "TensorInfo",
    "TextChunk",
    "TextResult",
    "Unauthenticated",
    "Unavailable",
    "load_settings",
]

_OTHER_HOMES = {
    "AsyncClient": "async_client",
    "AsyncStream": "async_stream",
    "Client": "client",
    "Settings": "settings",
    "Stream": "stream",
    "load_settings": "settings",
}
_TYPES = {
    "ChatMessage",
    "GeneratedImage",
    "Health",
    "ImageChunk",
    "ImageOptions",
    "ModelInfo",
    "Sampling",
    "TensorInfo",
    "TextChunk",
    "TextResult",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: gRPC and pydantic take most of a second, and `fictures --help` needs neither. Pillow waits
    # for the first picture, in `image_files`.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _OTHER_HOMES.get(name, "types" if name in _TYPES else "errors")
    return getattr(importlib.import_module(f"fictures.{home}"), name)
