"""Whether vLLM can compile the model on this machine: it generates C++ for the CPU."""

import os
import shutil
import sysconfig
from pathlib import Path


def find_compiler() -> str | None:
    """The C++ compiler that torch would use; None without one, or without Python's headers, which the code includes."""
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return None
    candidates = (os.environ.get("CXX", ""), "g++", "clang++")
    return next((found for name in candidates if name and (found := shutil.which(name))), None)
