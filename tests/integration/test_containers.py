"""What the images do without an engine, done for real: the gateway's build, and both entry points as a user that is
not root, from a folder that only holds what the Dockerfile copies.

A folder stands for the image's file system: /opt/venv is <folder>/opt/venv. tini is left out: it only passes on.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from conftest import ROOT, free_ports, wait_for
from dockerfiles import AS_CONTAINER_USER, CONTAINER_USER, DOCKER, Instruction, Stage, read

GATEWAY = read(DOCKER / "gateway/Dockerfile")
CPU = read(DOCKER / "cpu/Dockerfile")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the container's user")


def python_for_others() -> str:
    """A Python of this version, if need be another one, that the container's user may run too."""
    own = os.path.realpath(sys.executable)
    for candidate in (own, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3"):
        question = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
        if can_run(candidate, question):
            return candidate
    pytest.skip("Debian's python3 and python3-venv are not installed, and the container's user may not run this Python")


def can_run(python: str, code: str) -> bool:
    try:
        return subprocess.run([python, "-c", code], cwd="/", **AS_CONTAINER_USER).returncode == 0
    except OSError:
        return False


@dataclass(frozen=True)
class Image:
    """An image's file system in a folder, and the environment that its last stage sets."""

    folder: Path
    final: Stage

    def inside(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    @property
    def workdir(self) -> Path:
        return self.inside(self.final.last("WORKDIR").value)

    def environment(self, **variables: str) -> dict[str, str]:
        """The image's variables and these, and nothing of this machine's but how to find its programs."""
        own = {name: value.replace("/opt/", f"{self.folder}/opt/") for name, value in self.final.environment.items()}
        own = {name: value.replace("/models/", f"{self.folder}/models/") for name, value in own.items()}
        path = own["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
        return own | {"PATH": path} | variables

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in the container, as `docker run` would have it."""
        return subprocess.run(
            command,
            cwd=self.workdir,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=60,
            **AS_CONTAINER_USER,
        )

    def is_well(self, **variables: str) -> bool:
        """What the image's HEALTHCHECK finds."""
        return self.run(*self.final.last("HEALTHCHECK").command, **variables).returncode == 0

    @contextmanager
    def started(self, log: Path, *before: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """The image's own command, running."""
        command = [*before, *self.final.last("CMD").command]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.workdir,
                env=self.environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **AS_CONTAINER_USER,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def empty_image(final: Stage) -> Iterator[Image]:
    """A folder that others may read, as little as an image's file system may be written."""
    folder = Path(tempfile.mkdtemp(prefix="fictures-image-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        image = Image(folder, final)
        image.workdir.mkdir(parents=True)
        yield image
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy(instruction: Instruction, workdir: Path) -> None:
    """COPY from the checkout, as Docker does it: a folder's content goes into the destination."""
    *sources, destination = instruction.rest.split()
    for source in sources:
        target = workdir / destination
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target = target / Path(source).name if destination.endswith("/") else target
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, target)


def build(stage: Stage, image: Image, python: str) -> None:
    """The stage's COPY and RUN instructions; its ENV and ARG make their environment."""
    subprocess.run([python, "-m", "venv", image.inside("usr/local")], check=True, timeout=120)
    environment = {**os.environ, "PATH": f"{image.inside('usr/local/bin')}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    environment |= {name: value.replace("/opt/", f"{image.folder}/opt/") for name, value in stage.environment.items()}
    workdir = image.inside("root")
    for each in stage.instructions:
        if each.keyword == "ARG":
            name, _, value = each.value.partition("=")
            environment[name] = value
        elif each.keyword == "WORKDIR":
            workdir = image.inside(each.value)
        elif each.keyword == "COPY":
            copy(each, workdir)
        elif each.keyword == "RUN":
            workdir.mkdir(parents=True, exist_ok=True)
            run = subprocess.run(
                each.value, shell=True, cwd=workdir, env=environment, capture_output=True, text=True, timeout=280
            )
            assert run.returncode == 0, f"{each.value}\n{run.stdout}{run.stderr}"


# --- the gateway ---


@pytest.fixture(scope="module")
def gateway_image() -> Iterator[Image]:
    with empty_image(GATEWAY.final) as image:
        build(GATEWAY.stage("build"), image, python_for_others())
        for folder in ("build", "usr"):  # only /opt/venv goes on to the last stage
            shutil.rmtree(image.inside(folder))
        keys = image.inside("keys")
        keys.mkdir(mode=0o700)
        os.chown(keys, CONTAINER_USER, CONTAINER_USER)
        yield image


@pytest.fixture
def port() -> str:
    return str(free_ports(1)[0])


@pytest.mark.parametrize("module", ["torch", "vllm", "diffusers", "transformers", "pytest"])
def test_the_gateways_image_holds_no_engine_and_no_tests(gateway_image: Image, module: str) -> None:
    run = gateway_image.run("python", "-c", f"import {module}")
    assert run.returncode == 1
    assert f"No module named '{module}'" in run.stderr


def test_the_gateways_packages_have_the_versions_of_the_lock(gateway_image: Image) -> None:
    question = (
        "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
    )
    installed = {pin.lower() for pin in gateway_image.run("python", "-c", question).stdout.split()}
    installed = {re.sub(r"[-_.]+(?=.*==)", "-", pin) for pin in installed}
    locked = {line.split(" ;")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert installed - locked == {"fictures==0.1.0"}


def test_the_gateways_image_is_small(gateway_image: Image) -> None:
    size = sum(file.stat().st_size for file in gateway_image.inside("opt/venv").rglob("*") if file.is_file())
    assert size < 300 << 20


def test_the_gateway_refuses_to_serve_everybody_unless_told_to(gateway_image: Image, port: str) -> None:
    run = gateway_image.run(*GATEWAY.final.last("CMD").command, API_PORT=port)
    assert run.returncode == 2
    assert "set API_KEYS_FILE" in run.stderr


def test_the_gateway_starts_as_another_user_is_well_without_triton_and_stops(
    gateway_image: Image, port: str, tmp_path: Path
) -> None:
    variables = {"API_ALLOW_ANONYMOUS": "true", "API_PORT": port, "TRITON_URL": "127.0.0.1:1"}
    assert not gateway_image.is_well(**variables)
    with gateway_image.started(tmp_path / "log", **variables) as process:
        wait_for(lambda: process.poll() is not None or gateway_image.is_well(**variables), 60, "a healthy gateway")
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert psutil.Process(process.pid).uids().effective == CONTAINER_USER
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{url}/health").status_code == 503
        assert "<!doctype html>" in httpx.get(url).text.lower()
        assert httpx.get(f"{url}/docs").is_success
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM  # uvicorn's way: it ends in order, then by the signal it got


def test_keys_are_made_in_the_container_and_asked_for(gateway_image: Image, port: str, tmp_path: Path) -> None:
    variables = {"API_KEYS_FILE": str(gateway_image.inside("keys/api-keys.jsonl")), "API_PORT": port}
    made = gateway_image.run("fictures", "keys", "create", "anna", **variables)
    assert made.returncode == 0, made.stderr
    with gateway_image.started(tmp_path / "log", **variables, TRITON_URL="127.0.0.1:1"):
        wait_for(lambda: gateway_image.is_well(**variables), 60, "a healthy gateway")
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code == 401


# --- the server ---


def link_or_copy(source: str, target: str) -> None:
    """A hard link takes no time and no space, but cannot lead to another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def server_image() -> Iterator[Image]:
    """The CPU image's last stage, on the packages of this environment."""
    with empty_image(CPU.final) as image:
        python = python_for_others()
        shutil.copytree(ROOT / ".venv", image.inside("opt/venv"), symlinks=True, copy_function=link_or_copy)
        for name in ("python", "python3"):
            link = image.inside(f"opt/venv/bin/{name}")
            link.unlink()
            link.symlink_to(python)
        configuration = image.inside("opt/venv/pyvenv.cfg")
        configuration.unlink()  # a hard link: the original stays as it is
        configuration.write_text(f"home = {Path(python).parent}\ninclude-system-site-packages = false\n")
        for each in CPU.final.all("COPY"):
            if "from" not in each.flags:
                copy(each, image.workdir)
        for folder in (".run", ".run/cache"):
            made = image.workdir / folder
            made.mkdir(mode=0o750)
            os.chown(made, CONTAINER_USER, CONTAINER_USER)
        kernels = ROOT / ".run/cache/inductor"  # compiling them anew would take minutes and show nothing
        if kernels.is_dir():
            shutil.copytree(kernels, image.workdir / ".run/cache/inductor")
            subprocess.run(["chown", "-R", str(CONTAINER_USER), image.workdir / ".run/cache"], check=True)
        cache = image.inside("models/huggingface")
        cache.mkdir(parents=True)
        os.chown(cache, CONTAINER_USER, CONTAINER_USER)
        yield image


@pytest.fixture
def ports() -> dict[str, str]:
    names = ("TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
    return dict(zip(names, map(str, free_ports(3)), strict=True))


def entry_point(image: Image) -> str:
    return str(image.workdir / "docker/entrypoint.sh")


def test_the_server_finds_all_it_needs_in_the_image(server_image: Image, ports: dict[str, str]) -> None:
    command = [*CPU.final.last("CMD").command, "--check"]
    run = server_image.run(entry_point(server_image), *command, **ports)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_missing_secret_keeps_the_server_from_starting(server_image: Image, ports: dict[str, str]) -> None:
    command = CPU.final.last("CMD").command
    run = server_image.run(entry_point(server_image), *command, **ports, HF_TOKEN_FILE="/run/secrets/none")
    assert run.returncode == 1
    assert "HF_TOKEN_FILE=/run/secrets/none: no such file" in run.stderr


@pytest.mark.timeout(600)
def test_the_server_starts_as_another_user_becomes_well_and_stops(
    server_image: Image, ports: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    secret = server_image.inside("token")
    secret.write_text("hf_for_tests\n")
    variables = ports | {"HF_TOKEN_FILE": str(secret)}
    assert not server_image.is_well(**ports)
    with server_image.started(log, entry_point(server_image), **variables) as process:
        wait_for(lambda: process.poll() is not None or server_image.is_well(**ports), 280, f"a healthy server ({log})")
        assert process.poll() is None, log.read_text()
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert {each.uids().effective for each in tree} == {CONTAINER_USER}
        triton = next(each for each in tree if each.name() == "tritonserver")
        assert triton.environ()["HF_TOKEN"] == "hf_for_tests"
        assert triton.environ()["HF_HOME"] == str(server_image.inside("models/huggingface"))
        assert not any(name.endswith("gateway") for each in tree for name in each.cmdline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    wait_for(lambda: not any(map(is_alive, tree)), 30, "every process is gone")


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
