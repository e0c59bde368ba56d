"""What the numbers were measured on, in one line."""

import json
import os
from importlib.metadata import version
from pathlib import Path

from benchmark.server import Server


def describe(server: Server) -> str:
    """The processor, the load that others put on it, the model, and the versions that matter."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    model = json.loads((server.engine / "model.json").read_text())["model"]
    return (
        f"Measured on {device}, {len(os.sched_getaffinity(0))} cores, load before {os.getloadavg()[0]:.1f}; "
        f"model {Path(model).name}, torch {version('torch')}, diffusers {version('diffusers')}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "an unknown processor"
