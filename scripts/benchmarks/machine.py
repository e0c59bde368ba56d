"""What the numbers were measured on, in one line."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it brings more along than is there where only a model is measured
    from benchmarks.server import Server


def describe(server: "Server") -> str:
    """The processor, the load that others put on it, the image model, and the versions that matter."""
    model = json.loads((server.engine / "model.json").read_text())["model"]
    return (
        f"Measured on {device()}, {len(os.sched_getaffinity(0))} cores, load before {os.getloadavg()[0]:.1f}; "
        f"model {Path(model).name}, torch {version('torch')}, diffusers {version('diffusers')}"
    )


def device() -> str:
    """The GPU's name, or the processor's."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()


def is_cpu() -> bool:
    """Whether there is no GPU."""
    import torch

    return not torch.cuda.is_available()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "an unknown processor"
