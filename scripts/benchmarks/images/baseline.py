"""Puts whole-request batching into the running server, as one more model, and takes it out again."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.images import endpoints, plain_pipeline
from benchmarks.images.systems import System
from benchmarks.server import Server

MODEL = "whole_request_batching"
_SOURCE = Path(__file__).with_name(MODEL)
_LOAD_TIMEOUT = 600.0  # seconds
_UNLOAD_TIMEOUT = 120.0


@asynccontextmanager
async def system(server: Server) -> AsyncIterator[System]:
    """`MODEL` beside the server's own models, loaded through Triton's repository API for as long as it is measured.

    Raises:
        BenchmarkError: It cannot be loaded, or does not unload.
    """
    folder = server.repository / MODEL
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(plain_pipeline.__file__, folder / "1")
    try:
        await _ask(server, "load", _LOAD_TIMEOUT)
        try:
            async with endpoints.over_grpc(server, MODEL, "whole-request batching", batched=True) as model:
                yield model
        finally:
            await _ask(server, "unload", _UNLOAD_TIMEOUT)
            await _wait_until_unloaded(server)
    finally:
        shutil.rmtree(folder)


async def _ask(server: Server, action: str, timeout: float) -> None:
    try:
        async with _http(server, timeout) as http:
            answer = await http.post(f"/v2/repository/models/{MODEL}/{action}")
    except httpx.HTTPError as error:
        raise BenchmarkError(f"Triton could not {action} {MODEL}: {error!r}") from error
    if answer.is_error:
        raise BenchmarkError(f"Triton could not {action} {MODEL}: {answer.text}")


async def _wait_until_unloaded(server: Server) -> None:
    deadline = time.monotonic() + _UNLOAD_TIMEOUT
    async with _http(server, 10) as http:
        while time.monotonic() < deadline:
            index = (await http.post("/v2/repository/index")).json()
            if all(entry.get("state") == "UNAVAILABLE" for entry in index if entry["name"] == MODEL):
                return
            await asyncio.sleep(0.2)
    raise BenchmarkError(f"{MODEL} is not unloaded after {_UNLOAD_TIMEOUT:g} s")


def _http(server: Server, timeout: float) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.http_url, timeout=timeout, trust_env=False)
