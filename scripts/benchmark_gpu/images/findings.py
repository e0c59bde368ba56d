"""What was measured: written to a file as it comes, read by the tables."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["image", "unet", "vae"]
"""Whole images, calls of the UNet, or decoding."""


@dataclass(frozen=True)
class Floors:
    """What the chip reaches, a second, and what one step of one image takes of it at least."""

    operations_per_second: float
    """Floating-point operations of a large matrix product."""
    bytes_per_second: float
    """Read and written by a large copy."""
    step_operations: int
    unet_bytes: int
    """Of the UNet's weights, which each step reads."""


@dataclass(frozen=True)
class Row:
    """One thing that was timed in one way."""

    what: Kind
    name: str
    """The way."""
    images: int
    """At a time."""
    seconds: Sequence[float] = ()
    """Of each repetition."""
    peak_bytes: int = 0
    """The most memory that PyTorch kept."""
    ready_after: float | None = None
    """Seconds that compiling took, where this is what compiled something."""
    is_compared: bool = False
    """Whether the first picture was laid beside the plain pipeline's."""
    psnr: float | None = None
    """How alike they were, dB; None: the same, pixel for pixel."""
    error: str = ""
    """Why there are no seconds."""


@dataclass
class Findings:
    """All that was measured on a machine."""

    file: Path | None
    """Written anew each time that there is more."""
    machine: str = ""
    floors: Floors | None = None
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self._write()

    def know(self, floors: Floors) -> None:
        self.floors = floors
        self._write()

    def _write(self) -> None:
        if self.file is not None:
            floors = asdict(self.floors) if self.floors else None
            content = {"machine": self.machine, "floors": floors, "rows": [asdict(row) for row in self.rows]}
            self.file.write_text(json.dumps(content, indent=1) + "\n")
