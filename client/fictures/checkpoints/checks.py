"""Looks at every file of a model: is it there, whole, and the one that the hub has?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from fictures.checkpoints import layouts


@dataclass(frozen=True)
class Expected:
    """A file as the hub describes it."""

    size: int
    """Bytes."""
    digest: str
    """Of a large file (LFS) its SHA-256, of others git's SHA-1 of a blob, in hexadecimal."""


def wrong_files(folder: Path, needed: layouts.Needed, expected: Mapping[str, Expected]) -> Iterator[tuple[str, str]]:
    """Name and fault of each file that is missing, damaged or not the one that is expected.

    Every byte of the files in `expected` is read; of the others only what safetensors say of themselves.
    """
    tensors: dict[str, set[str]] = {}
    for name in needed.files:
        path = folder / name
        if not path.is_file():
            yield name, "is missing"
        elif name in expected and (fault := _difference(path, expected[name])):
            yield name, fault
        elif name.endswith(".safetensors"):
            try:
                # Reads the header and holds it against the file's length.
                with safe_open(path, framework="numpy") as file:
                    tensors[name] = set(file.keys())
            except (SafetensorError, OSError) as error:
                yield name, f"is no whole safetensors file: {error}"
    for index in filter(layouts.is_index, needed.files):
        yield from _lacking(folder, index, tensors)
    if needed.tensor and tensors and not any(needed.tensor in names for names in tensors.values()):
        yield needed.files[0], f"is no {needed.architecture}: it has no tensor {needed.tensor}"


def _difference(path: Path, expected: Expected) -> str | None:
    size = path.stat().st_size
    if size != expected.size:
        return f"has {size} bytes instead of {expected.size}"
    with path.open("rb") as file:
        if len(expected.digest) == 64:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            digest = hashlib.sha1(b"blob %d\0" % size + file.read(), usedforsecurity=False).hexdigest()
    return None if digest == expected.digest else f"has the digest {digest} instead of {expected.digest}"


def _lacking(folder: Path, index: str, tensors: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    try:
        placed = layouts.shards(index, json.loads((folder / index).read_bytes()))
    except (OSError, ValueError):
        return  # which is a fault of its own
    for tensor, file in placed.items():
        if file in tensors and tensor not in tensors[file]:
            yield file, f"has no tensor {tensor}, which {index} places there"
            return
