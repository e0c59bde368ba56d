"""What is wrong with a machine is said before anything starts, in one line."""

import os
import socket
from collections.abc import Iterator

import pytest

from launcher import preflight
from launcher.errors import LaunchError


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_named_with_its_variable_and_its_holder(taken_port: int) -> None:
    with pytest.raises(LaunchError) as failure:
        preflight.check_ports({"TRITON_GRPC_PORT": taken_port})
    line = str(failure.value)
    assert f"TRITON_GRPC_PORT={taken_port}" in line
    assert f"(pid {os.getpid()})" in line


def test_a_port_on_all_addresses_counts_as_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        with pytest.raises(LaunchError, match="is taken"):
            preflight.check_ports({"TRITON_HTTP_PORT": listener.getsockname()[1]})


def test_two_settings_cannot_share_a_port() -> None:
    with pytest.raises(LaunchError, match="TRITON_HTTP_PORT and TRITON_GRPC_PORT are both 8000"):
        preflight.check_ports({"TRITON_HTTP_PORT": 8000, "TRITON_GRPC_PORT": 8000})


def test_free_ports_pass(taken_port: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    preflight.check_ports({"TRITON_HTTP_PORT": free})


@pytest.mark.parametrize("libc", [("glibc", "2.31"), ("musl", "1.2.4"), ("", "")])
def test_an_old_or_other_c_library_is_refused(libc: tuple[str, str]) -> None:
    with pytest.raises(LaunchError, match=r"glibc 2\.35 or newer"):
        preflight.check_glibc(libc)


def test_a_new_glibc_passes() -> None:
    preflight.check_glibc(("glibc", "2.35"))


def test_numpy_2_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"NumPy 2\.1\.0 .* needs NumPy 1\.26"):
        preflight.check_numpy("2.1.0")
