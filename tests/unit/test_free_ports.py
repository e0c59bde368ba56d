"""Servers of the tests get ports of their own."""

from pathlib import Path

from conftest import free_ports

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_no_port_is_given_twice_nor_one_that_an_outgoing_connection_may_get() -> None:
    ports = free_ports(4) + free_ports(50)
    assert len(set(ports)) == 54
    first, last = map(int, OUTGOING.read_text().split())
    assert not [port for port in ports if first <= port <= last]
