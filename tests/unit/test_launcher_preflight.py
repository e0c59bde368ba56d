"""What is wrong with a machine is said before anything starts, in one line."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import free_ports
from fictures.settings import Settings
from launcher import preflight
from launcher.errors import LaunchError


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def ports(**given: Any) -> Settings:
    """Settings with ports that are free, but for those given."""
    names = ("triton_http_port", "triton_grpc_port", "triton_metrics_port", "api_port")
    return Settings(**dict(zip(names, free_ports(4), strict=True)) | given)


def test_a_taken_port_is_named_with_its_variable_and_its_holder(taken_port: int) -> None:
    with pytest.raises(LaunchError) as failure:
        preflight.check_ports(ports(triton_grpc_port=taken_port))
    line = str(failure.value)
    assert f"TRITON_GRPC_PORT={taken_port}" in line
    assert f"(pid {os.getpid()})" in line


def test_a_port_on_all_addresses_counts_as_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        with pytest.raises(LaunchError, match="is taken"):
            preflight.check_ports(ports(triton_http_port=listener.getsockname()[1]))


def test_two_settings_cannot_share_a_port() -> None:
    with pytest.raises(LaunchError, match="TRITON_HTTP_PORT and TRITON_GRPC_PORT are both 8000"):
        preflight.check_ports(ports(triton_http_port=8000, triton_grpc_port=8000))


def test_free_ports_pass() -> None:
    preflight.check_ports(ports())


def test_a_port_must_be_free_where_it_is_listened_on() -> None:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
        preflight.check_ports(ports(api_port=port))
        with pytest.raises(LaunchError, match=f"API_PORT={port}: the port is taken"):
            preflight.check_ports(ports(api_port=port, api_host="127.0.0.2"))
        with pytest.raises(LaunchError, match=f"TRITON_HTTP_PORT={port}: the port is taken"):
            preflight.check_ports(ports(triton_http_port=port, triton_host="127.0.0.2"))


def test_the_port_of_a_gateway_that_is_not_started_may_be_taken(taken_port: int) -> None:
    preflight.check_ports(ports(api_port=taken_port, serve="text,images"))


@pytest.mark.parametrize("variable", ["API_HOST", "TRITON_HOST"])
def test_an_address_that_is_not_this_machines_is_named(variable: str) -> None:
    with pytest.raises(LaunchError, match=rf"{variable}=192\.0\.2\.1: cannot be listened on"):
        preflight.check_ports(ports(**{variable.lower(): "192.0.2.1"}))


def test_a_gateway_alone_is_not_started_by_the_launcher() -> None:
    with pytest.raises(LaunchError, match="SERVE=gateway: nothing for Triton to serve"):
        preflight.check(ports(serve="gateway"))


@pytest.mark.parametrize("libc", [("glibc", "2.31"), ("musl", "1.2.4"), ("", "")])
def test_an_old_or_other_c_library_is_refused(libc: tuple[str, str]) -> None:
    with pytest.raises(LaunchError, match=r"glibc 2\.35 or newer"):
        preflight.check_glibc(libc)


def test_a_new_glibc_passes() -> None:
    preflight.check_glibc(("glibc", "2.35"))


def test_numpy_2_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"NumPy 2\.1\.0 .* needs NumPy 1\.26"):
        preflight.check_numpy("2.1.0")
