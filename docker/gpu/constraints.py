"""Constraints for pip: what an image has stays as it is, of all else the lock's version.

    python constraints.py image.txt requirements.lock

image.txt is what `pip list --format=freeze` says in the image.
"""

import re
import sys
from pathlib import Path


def pins(text: str) -> dict[str, str]:
    """Name, as package indexes compare it, to the line that pins it."""
    lines = [line.strip() for line in text.splitlines() if "==" in line]
    return {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower(): line for line in lines}


def constraints(image: str, lock: str) -> list[str]:
    """One line for each package of either; the image wins."""
    return sorted((pins(lock) | pins(image)).values(), key=str.lower)


if __name__ == "__main__":
    print(*constraints(*(Path(path).read_text(encoding="utf-8") for path in sys.argv[1:3])), sep="\n")
