"""Where the server is and how to reach it: what both clients build their gRPC channel from."""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from fictures.errors import ConfigurationError, DeadlineExceeded, InvalidRequest

CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A connection of its own for each client, so that closing one ends its requests and nobody else's.
    ("grpc.use_local_subchannel_pool", 1),
    # gRPC's own pause between attempts grows to two minutes, long after a restarted server is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A name is looked up again when a connection ends; gRPC's own shortest time between two look-ups is 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 2000),
    # Of several servers each gets the next request; those that cannot be reached are left out.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
)


LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Connection:
    """A server's address, credentials and the headers that go with every request."""

    url: str
    target: str
    """The same as gRPC writes it."""
    credentials: grpc.ChannelCredentials | None
    metadata: tuple[tuple[str, str], ...]
    keepalive: float | None

    @property
    def options(self) -> tuple[tuple[str, int | str], ...]:
        """The channel's options. A proxy of the environment is not asked for this machine's own addresses."""
        host = self.url.rpartition(":")[0].strip("[]")
        use_proxy = host not in LOOPBACK and "," not in self.url
        return (*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", int(use_proxy)), *_keepalive_options(self.keepalive))

    @classmethod
    def create(
        cls,
        url: str,
        *,
        ssl: bool,
        root_certificates: str | Path | None,
        private_key: str | Path | None,
        certificate_chain: str | Path | None,
        headers: Mapping[str, str] | None,
        api_key: str | None,
        keepalive: float | None,
    ) -> Connection:
        """Check the arguments of a client and read its certificate files.

        Raises:
            ConfigurationError: the URL is not host:port, a header or the key cannot be sent, a certificate file cannot
                be read, or the keepalive is not above 0.
        """
        target = _target(url)
        if ssl and target != url:
            raise ConfigurationError([f"url={url}: over TLS several servers need one name that has all addresses"])
        if keepalive is not None and not 0 < keepalive < float("inf"):
            raise ConfigurationError([f"keepalive={keepalive}: must be a number of seconds above 0"])
        metadata = [_header(name, value) for name, value in (headers or {}).items()]
        if api_key:
            metadata.append(("authorization", f"Bearer {_printable('api_key', api_key.strip())}"))
        credentials = None
        if ssl:
            credentials = grpc.ssl_channel_credentials(
                root_certificates=_read("root_certificates", root_certificates),
                private_key=_read("private_key", private_key),
                certificate_chain=_read("certificate_chain", certificate_chain),
            )
        return cls(url, target, credentials, tuple(metadata), keepalive)


class Deadline:
    """The moment until which a whole call, of one or several requests, has to be done."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left.

        Raises:
            DeadlineExceeded: none are.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("the server did not answer in time")
        return left


def checked_timeout(timeout: float) -> float:
    """Return `timeout` (seconds) if it bounds a wait, else raise `InvalidRequest`."""
    if not 0 < timeout < float("inf"):
        raise InvalidRequest(f"timeout={timeout}: must be a number of seconds above 0")
    return timeout


def _target(url: str) -> str:
    servers = [server.strip() for server in url.split(",")]
    if "://" in url or not all(server.rpartition(":")[0] for server in servers):
        raise ConfigurationError([f"url={url}: must be host:port of Triton's gRPC endpoint, without a scheme"])
    if len(servers) == 1:
        return url
    versions = {_ip_version(server.rpartition(":")[0].strip("[]")) for server in servers}
    if versions not in ({4}, {6}):
        raise ConfigurationError(
            [f"url={url}: several servers must be IP addresses, all of version 4 or all of 6, or one name that has all"]
        )
    return f"ipv{versions.pop()}:{','.join(servers)}"


def _ip_version(host: str) -> int | None:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


def _keepalive_options(seconds: float | None) -> tuple[tuple[str, int], ...]:
    if seconds is None:
        return ()
    return (
        ("grpc.keepalive_time_ms", round(seconds * 1000)),
        ("grpc.keepalive_timeout_ms", round(seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )


def _header(name: str, value: str) -> tuple[str, str]:
    lowered = name.lower()
    if not re.fullmatch(r"[a-z0-9_.-]+", lowered) or lowered.endswith("-bin"):
        raise ConfigurationError(
            [f"headers: {name!r}: a name is ASCII letters, digits, '_', '.' and '-', not ending -bin"]
        )
    return lowered, _printable(f"headers: {name}", value)


def _printable(name: str, value: str) -> str:
    # The value may be a secret, so it is not shown.
    if not (isinstance(value, str) and value.isascii() and value.isprintable()):
        raise ConfigurationError([f"{name}: must be text of printable ASCII characters"])
    return value


def _read(name: str, path: str | Path | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError([f"{name}={path}: cannot be read: {error.strerror}"]) from error
