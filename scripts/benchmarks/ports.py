"""Ports for servers that are started for a while: the benchmark's own, and those of the tests."""

import itertools
import random
import socket

# Below the ports that the system gives to outgoing connections: a server binds its ports half a minute after they were
# chosen, and whoever tries to reach it meanwhile may be given its port, even be connected to itself.
_PORTS = itertools.cycle(random.sample(range(20_000, 32_000), 12_000))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that nobody else was told of."""
    return list(itertools.islice(filter(_is_free, _PORTS), count))


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
