"""Makes uv's universal resolution into the project's lock: versions only, markers that say something.

Standard library only: scripts/lock runs it before there is an environment.
"""

import re
import sys

# What pyproject.toml's [tool.uv] environments demand of every line; true wherever the lock is used.
CONSTANT_CLAUSES = {
    "python_full_version < '3.14'",
    "platform_machine == 'x86_64'",
    "platform_python_implementation == 'CPython'",
    "implementation_name != 'PyPy'",
    "sys_platform == 'linux'",
}


def simplify_marker(marker: str) -> str:
    """Drop the clauses that hold for every supported machine; '' when none is left."""
    clauses = [clause.strip() for clause in marker.split(" and ")]
    return " and ".join(clause for clause in clauses if clause and clause not in CONSTANT_CLAUSES)


def merge_markers(markers: list[str]) -> str:
    """One marker that holds where any of `markers` does."""
    if "" in markers:
        return ""
    bounds = {re.sub(r"(>=|<)", "?", marker) for marker in markers}
    if len(markers) == 2 and len(bounds) == 1:  # x >= '3.12' or x < '3.12': always
        return ""
    return " or ".join(markers)


def simplify(compiled: str) -> str:
    """The lock file's text out of what `uv pip compile --universal` printed.

    Raises:
        ValueError: A line pins no version or holds an address.
    """
    markers: dict[str, list[str]] = {}
    for line in compiled.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pin, _, marker = line.partition(" ; ")
        pin = pin.strip().removesuffix("+cpu")
        if not re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==[^\s/@]+", pin):
            raise ValueError(f"not a plain pinned version: {line!r}")
        markers.setdefault(pin, []).append(simplify_marker(marker))
    lines = []
    for pin, found in markers.items():
        marker = merge_markers(found)
        lines.append(f"{pin} ; {marker}" if marker else pin)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        sys.stdout.write(simplify(file.read()))
