"""Image files: their formats and suffixes, and the pictures in them. Pillow is loaded with the first picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fictures.errors import ServerError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""Suffix of a file's name to the format's name on the server."""


def format_of(path: str | Path) -> str | None:
    """The format that the path's suffix stands for; None for a suffix not of `FORMATS`."""
    return FORMATS.get(Path(path).suffix.lower())


def decode(name: str, data: bytes) -> Image.Image:
    """Read the file in output `name` to its last pixel. The picture's `format` is that of the file, in capitals.

    Raises:
        ServerError: it is not a whole file of one of the formats.
    """
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(data), formats=[kind.upper() for kind in set(FORMATS.values())])
        picture.load()
    except Exception as error:  # Pillow raises whatever its readers stumble over
        raise ServerError(f"{name}: {len(data)} bytes cannot be read as an image file: {error}") from error
    return picture
