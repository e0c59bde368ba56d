"""The clients over TLS, with what a deployment puts in front of Triton: something that ends the encryption."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import trustme

from conftest import Server
from fictures import AsyncClient, Client, Unavailable

PROMPT = {"prompt": "The harbour", "max_tokens": 8, "temperature": 0}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # the other side is gone
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def tls_in_front_of(port: int, context: ssl.SSLContext) -> Iterator[str]:
    """The address of a proxy that takes TLS and passes on what is in it to `port` of this machine."""
    context.set_alpn_protocols(["h2"])
    address: Future[str] = Future()
    stopping = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_copy(reader, upstream_writer), _copy(upstream_reader, writer))

    async def listen() -> None:
        listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        address.set_result(f"localhost:{listener.sockets[0].getsockname()[1]}")
        loops.append(asyncio.get_running_loop())
        await stopping.wait()
        listener.close()

    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=asyncio.run, args=(listen(),), daemon=True)
    thread.start()
    try:
        yield address.result(10)
    finally:
        loops[0].call_soon_threadsafe(stopping.set)
        thread.join(10)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> Path:
    """The authority's own certificate, as a file."""
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    return tmp_path / "authority.pem"


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_both_clients_verify_the_server_and_speak_with_it(
    server: Server, context: ssl.SSLContext, trusted: Path
) -> None:
    with tls_in_front_of(server.ports["grpc"], context) as url:
        with Client(url, ssl=True, root_certificates=trusted) as client:
            whole = client.generate_text(**PROMPT).text
            assert "".join(chunk.text for chunk in client.stream_text(**PROMPT)) == whole
        async with AsyncClient(url, ssl=True, root_certificates=trusted) as client:
            assert "".join([chunk.text async for chunk in client.stream_text(**PROMPT)]) == whole


def test_a_server_of_another_authority_is_not_spoken_with(
    server: Server, context: ssl.SSLContext, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with (
        tls_in_front_of(server.ports["grpc"], context) as url,
        Client(url, ssl=True, root_certificates=tmp_path / "other.pem", timeout=10) as client,
        pytest.raises(Unavailable, match=f"(?i){url}|certificate|handshake|connect"),
    ):
        client.generate_text(**PROMPT)


def test_a_certificate_of_the_client_is_shown_where_the_server_asks_for_one(
    server: Server, authority: trustme.CA, context: ssl.SSLContext, trusted: Path, tmp_path: Path
) -> None:
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    mine = authority.issue_cert("reader@example.org")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    own = {"private_key": tmp_path / "key.pem", "certificate_chain": tmp_path / "chain.pem"}
    with tls_in_front_of(server.ports["grpc"], context) as url:
        with Client(url, ssl=True, root_certificates=trusted, **own) as client:
            assert client.generate_text(**PROMPT).num_output_tokens == 8
        with (
            Client(url, ssl=True, root_certificates=trusted, timeout=10) as anonymous,
            pytest.raises(Unavailable),
        ):
            anonymous.generate_text(**PROMPT)
