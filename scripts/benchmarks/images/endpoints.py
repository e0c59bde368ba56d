"""The server's ways in: Triton's models over gRPC and HTTP, and the gateway."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.errors import BenchmarkError, DrawingFailed
from benchmarks.images.requests import GUIDANCE_SCALE, SCHEDULER, ImageRequest
from benchmarks.images.systems import REQUEST_TIMEOUT, Steps, System
from benchmarks.server import Server

_STEP_IMAGES = "fictures_image_step_images"
_TYPES = {"BYTES": np.object_, "INT32": np.int32, "INT64": np.int64, "FP32": np.float32}


@asynccontextmanager
async def over_grpc(server: Server, model: str, name: str, *, batched: bool = False) -> AsyncIterator[System]:
    """A model, by `ModelInfer`. `batched`: Triton batches its requests, which then have a batch dimension of 1."""
    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc_url) as client:
        options = {"client_timeout": REQUEST_TIMEOUT}
        yield TritonModel(server, tritonclient.grpc, client, model, name, options, batched=batched)


@asynccontextmanager
async def over_http(server: Server, model: str, name: str) -> AsyncIterator[System]:
    """A model, by `infer` with the tensors as binary data."""
    host = server.http_url.removeprefix("http://")
    async with tritonclient.http.aio.InferenceServerClient(
        host,
        conn_limit=0,  # as many connections as there are requests
        conn_timeout=REQUEST_TIMEOUT,
    ) as client:
        yield TritonModel(server, tritonclient.http, client, model, name, {}, batched=False)


@asynccontextmanager
async def gateway(server: Server) -> AsyncIterator[System]:
    """The gateway's `/v1/images/generations`, whose answer is base64 in JSON."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=server.api_url or "", timeout=REQUEST_TIMEOUT, limits=limits, trust_env=False
    ) as client:
        yield Gateway(server, client)


class _ServerSystem:
    """What all ways into a server have in common.

    Args:
        server: It has the engine's metrics.
        name: What the report calls it.
    """

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self._metrics_url = server.metrics_url

    async def steps(self) -> Steps | None:
        if self._metrics_url is None:
            return None
        async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT, trust_env=False) as client:
            try:
                answer = (await client.get(self._metrics_url)).raise_for_status()
            except httpx.HTTPError as error:
                raise BenchmarkError(f"{self._metrics_url}: {error!r}") from error
        return steps_of(answer.text)


class TritonModel(_ServerSystem):
    """A model of a running Triton, through tritonclient's `library` and one of its clients."""

    def __init__(
        self,
        server: Server,
        library: ModuleType,
        client: Any,
        model: str,
        name: str,
        options: dict[str, Any],
        *,
        batched: bool,
    ) -> None:
        super().__init__(server, name)
        self._library = library
        self._client = client
        self._model = model
        self._options = options
        self._batched = batched

    async def draw(self, request: ImageRequest) -> bytes:
        inputs = [
            self._input("prompt", "BYTES", request.prompt.encode()),
            self._input("width", "INT32", request.side),
            self._input("height", "INT32", request.side),
            self._input("num_inference_steps", "INT32", request.steps),
            self._input("guidance_scale", "FP32", GUIDANCE_SCALE),
            self._input("seed", "INT64", request.seed),
        ]
        if not self._batched:
            inputs.append(self._input("scheduler", "BYTES", SCHEDULER.encode()))
        try:
            result = await self._client.infer(self._model, inputs, **self._options)
            return bytes(result.as_numpy("image").reshape(-1)[0])
        except Exception as error:  # tritonclient's own, and those of the libraries below it
            raise DrawingFailed(f"{self.name}: {error!r}") from error

    async def steps(self) -> Steps | None:
        return None if self._batched else await super().steps()

    def _input(self, name: str, datatype: str, value: Any) -> Any:
        array = np.array([value], dtype=_TYPES[datatype]).reshape([1, 1] if self._batched else [1])
        tensor = self._library.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor


class Gateway(_ServerSystem):
    def __init__(self, server: Server, client: httpx.AsyncClient) -> None:
        super().__init__(server, "gateway")
        self._client = client

    async def draw(self, request: ImageRequest) -> bytes:
        body = {
            "prompt": request.prompt,
            "size": f"{request.side}x{request.side}",
            "num_inference_steps": request.steps,
            "guidance_scale": GUIDANCE_SCALE,
            "scheduler": SCHEDULER,
            "seed": request.seed,
        }
        try:
            answer = await self._client.post("/v1/images/generations", json=body)
            answer.raise_for_status()
            return base64.b64decode(answer.json()["data"][0]["b64_json"])
        except (httpx.HTTPError, LookupError, ValueError) as error:
            raise DrawingFailed(f"{self.name}: {error!r}") from error


def steps_of(metrics: str) -> Steps:
    """The sum of all engines' denoising steps in Triton's metrics."""
    totals = {f"{_STEP_IMAGES}_count": 0.0, f"{_STEP_IMAGES}_sum": 0.0}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name in totals:
                totals[sample.name] += sample.value
    steps, images = totals.values()
    return Steps(steps, images)
