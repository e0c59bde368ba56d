"""Answers with files, written as JSON. A file of many megabytes is put in past the encoder, which lets no other thread
run while it looks for what base64 has not: characters to escape.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from pydantic import BaseModel

_FILES = ("b64_json", "image_url", "preview_url")
"""Fields of answers that hold a file in base64."""
_MARK = uuid.uuid4().hex
"""Stands where a file comes."""


def json_pieces(content: BaseModel) -> list[bytes]:
    """JSON in ASCII, its files as pieces of their own."""
    files: list[str] = []
    plain = _without_files(content.model_dump(mode="json", exclude_unset=True), files)
    pieces = json.dumps(plain, separators=(",", ":")).encode().split(_MARK.encode())
    for place, file in enumerate(files):
        pieces.insert(2 * place + 1, file.encode())
    return pieces


def _without_files(value: Any, files: list[str]) -> Any:
    if isinstance(value, list):
        return [_without_files(item, files) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: _without_files(item, files) for name, item in value.items()}
    for name in _FILES:
        if kept.get(name):
            files.append(kept[name])
            kept[name] = _MARK
    return kept
