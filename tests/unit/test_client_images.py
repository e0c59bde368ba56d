"""The clients' image calls against a small Triton of their own in this process, as in `test_clients`.

Tests that take `kind` run twice: the synchronous and the asynchronous client promise the same.
"""

import asyncio
import io
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image
from test_clients import KINDS, health
from tritonclient.grpc import service_pb2 as pb

import fictures
from fake_triton import FakeTriton, failure
from fictures import AsyncClient, Client, GeneratedImage, ImageChunk, InvalidRequest, ServerError
from fictures.errors import from_stream_message
from fictures.image_request import INPUTS

ROOT = Path(__file__).resolve().parents[2]
CODES = {"INT32": "i", "INT64": "q", "FP32": "f"}
PICTURE = Image.radial_gradient("L").resize((16, 8)).convert("RGB")
STEPS = 3


def image_file(kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind.upper())
    return buffer.getvalue()


def tensors(**outputs: Any) -> Any:
    """A response of these outputs, each a name to a type and its values."""
    answer = pb.ModelInferResponse()
    for name, (datatype, values) in outputs.items():
        answer.outputs.add(name=name, datatype=datatype, shape=[len(values)])
        if datatype == "BYTES":
            raw = b"".join(struct.pack("<I", len(value)) + value for value in values)
        else:
            raw = struct.pack(f"<{len(values)}{CODES[datatype]}", *values)
        answer.raw_output_contents.append(raw)
    return answer


def images(files: list[bytes], seeds: list[int]) -> Any:
    return tensors(image=("BYTES", files), seed=("INT64", seeds))


def streamed(answer: Any, *, final: bool = False) -> Any:
    answer.parameters["triton_final_response"].bool_param = final
    return pb.ModelStreamInferResponse(infer_response=answer)


class FakeImageTriton(FakeTriton):
    """Has `sdxl` and `sdxl_stream` beside the text model. Answers as the first word of the prompt says."""

    def __init__(self) -> None:
        super().__init__()
        self.index += [
            pb.RepositoryIndexResponse.ModelIndex(name=name, version="1", state="READY")
            for name in ("sdxl", "sdxl_stream")
        ]
        self.image_probe_error: str | None = None
        self.probed: list[str] = []

    def inputs(self) -> dict[str, Any]:
        values = {}
        for tensor, raw in zip(self.request.inputs, self.request.raw_input_contents, strict=True):
            assert list(tensor.shape) == [1]
            if tensor.datatype == "BYTES":
                values[tensor.name] = raw[4:].decode()
            else:
                (values[tensor.name],) = struct.unpack(f"<{CODES.get(tensor.datatype, '?')}", raw)
        return values

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self.request = request
        word, _, rest = self.inputs()["prompt"].partition(" ")
        return getattr(self, f"image_{word}", self.image_harbour)(rest, context)

    def ModelStreamInfer(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        request = next(requests)
        if request.parameters["health_check"].bool_param:
            self.probed.append(request.model_name)
        if not request.model_name.endswith("_stream"):
            yield from super().ModelStreamInfer(iter([request]), context)
            return
        self.request = request
        if request.parameters["health_check"].bool_param:
            yield failure(self.image_probe_error) if self.image_probe_error else streamed(images([], []), final=True)
            return
        word, _, rest = self.inputs()["prompt"].partition(" ")
        yield from getattr(self, f"stream_{word}", self.stream_harbour)(rest, context)

    def answer(self) -> Any:
        asked = self.inputs()
        count, seed = asked.get("num_images", 1), asked.get("seed", 7)
        return images([image_file(asked.get("output_format", "png"))] * count, list(range(seed, seed + count)))

    def step(self, number: int) -> Any:
        asked = self.inputs()
        outputs: dict[str, Any] = {"step": ("INT32", [number]), "total_steps": ("INT32", [STEPS])}
        if asked.get("preview_every") and number % asked["preview_every"] == 0:
            outputs["preview"] = ("BYTES", [image_file("jpeg")] * asked.get("num_images", 1))
        return streamed(tensors(**outputs))

    def image_harbour(self, rest: str, context: Any) -> Any:
        return self.answer()

    def image_abort(self, rest: str, context: Any) -> Any:
        status, _, message = rest.partition(" ")
        context.abort(getattr(grpc.StatusCode, status), message)

    def image_broken(self, rest: str, context: Any) -> Any:
        return images([BROKEN[rest]], [7])

    def image_nothing(self, rest: str, context: Any) -> Any:
        return images([], [])

    def image_seedless(self, rest: str, context: Any) -> Any:
        return images([image_file()], [])

    def image_silent(self, rest: str, context: Any) -> Any:
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(20)
        return self.answer()

    def stream_harbour(self, rest: str, context: Any) -> Iterator[Any]:
        yield from map(self.step, range(1, STEPS + 1))
        yield streamed(self.answer(), final=True)

    def stream_late(self, rest: str, context: Any) -> Iterator[Any]:
        """The images, and then the final response, empty."""
        yield streamed(self.answer())
        yield streamed(tensors(), final=True)

    def stream_fail(self, message: str, context: Any) -> Iterator[Any]:
        yield failure(message)

    def stream_abort(self, rest: str, context: Any) -> Iterator[Any]:
        yield self.image_abort(rest, context)

    def stream_broken(self, rest: str, context: Any) -> Iterator[Any]:
        yield self.step(1)
        yield streamed(self.image_broken(rest, context), final=True)

    def stream_blurred(self, rest: str, context: Any) -> Iterator[Any]:
        yield streamed(tensors(step=("INT32", [1]), total_steps=("INT32", [STEPS]), preview=("BYTES", [b"?"])))

    def stream_nothing(self, rest: str, context: Any) -> Iterator[Any]:
        yield self.step(1)
        yield streamed(images([], []), final=True)

    def stream_seedless(self, rest: str, context: Any) -> Iterator[Any]:
        yield streamed(self.image_seedless(rest, context), final=True)

    def stream_endless(self, rest: str, context: Any) -> Iterator[Any]:
        context.add_callback(self.cancelled.set)
        while not self.cancelled.is_set() and not self.stopping.is_set():
            yield self.step(1)
            time.sleep(0.01)

    def stream_silent(self, rest: str, context: Any) -> Iterator[Any]:
        context.add_callback(self.cancelled.set)
        yield self.step(1)
        self.cancelled.wait(20)


BROKEN = {"bytes": b"not an image", "half": image_file()[:-30], "kind": image_file("gif"), "empty": b""}


@pytest.fixture
def triton() -> Iterator[FakeImageTriton]:
    server = FakeImageTriton()
    yield server
    server.stop()


def generate(kind: str, url: str, prompt: str = "harbour", **arguments: Any) -> list[GeneratedImage]:
    if kind == "sync":
        with Client(url, timeout=5) as client:
            return client.generate_images(prompt, **arguments)

    async def run() -> list[GeneratedImage]:
        async with AsyncClient(url, timeout=5) as client:
            return await client.generate_images(prompt, **arguments)

    return asyncio.run(run())


def generate_one(kind: str, url: str, prompt: str = "harbour", **arguments: Any) -> GeneratedImage:
    if kind == "sync":
        with Client(url, timeout=5) as client:
            return client.generate_image(prompt, **arguments)

    async def run() -> GeneratedImage:
        async with AsyncClient(url, timeout=5) as client:
            return await client.generate_image(prompt, **arguments)

    return asyncio.run(run())


def stream(kind: str, url: str, prompt: str = "harbour", **arguments: Any) -> list[ImageChunk]:
    if kind == "sync":
        with Client(url, timeout=5) as client:
            return list(client.stream_image(prompt, **arguments))

    async def run() -> list[ImageChunk]:
        async with AsyncClient(url, timeout=5) as client:
            return [chunk async for chunk in client.stream_image(prompt, **arguments)]

    return asyncio.run(run())


BOTH = pytest.mark.parametrize("call", [generate, stream])
Call = Callable[..., Any]


# Answers


@KINDS
def test_an_image_comes_with_its_seed_file_and_format(kind: str, triton: FakeImageTriton) -> None:
    made = generate_one(kind, triton.url, seed=5)
    assert (made.image.size, made.image.mode) == ((16, 8), "RGB")
    assert (made.seed, made.data, made.format) == (5, image_file(), "png")


@KINDS
def test_several_images_come_in_order_each_with_its_own_seed(kind: str, triton: FakeImageTriton) -> None:
    assert [made.seed for made in generate(kind, triton.url, num_images=3)] == [7, 8, 9]


@KINDS
def test_an_images_parameters_make_it_again(kind: str, triton: FakeImageTriton) -> None:
    _, second = generate(kind, triton.url, num_images=2, width=512, negative_prompt=None)
    assert second.parameters == {"prompt": "harbour", "width": 512, "seed": 8}
    again = generate_one(kind, triton.url, **second.parameters)
    assert triton.inputs() == second.parameters
    assert again == second


@KINDS
def test_a_stream_tells_of_each_step_and_ends_with_the_images(kind: str, triton: FakeImageTriton) -> None:
    *steps, last = stream(kind, triton.url, num_images=2)
    assert [(chunk.step, chunk.total_steps, chunk.images) for chunk in steps] == [(1, 3, ()), (2, 3, ()), (3, 3, ())]
    assert (last.step, last.total_steps) == (3, 3)
    assert [made.seed for made in last.images] == [7, 8]
    assert last.images[0].parameters == {"prompt": "harbour", "seed": 7}


@KINDS
def test_previews_come_with_the_steps_they_belong_to(kind: str, triton: FakeImageTriton) -> None:
    chunks = stream(kind, triton.url, preview_every=2, num_images=2)
    assert [len(chunk.previews) for chunk in chunks] == [0, 2, 0, 0]
    assert chunks[1].previews[0].size == (16, 8)


@KINDS
def test_an_empty_final_response_after_the_images_is_no_chunk(kind: str, triton: FakeImageTriton) -> None:
    (last,) = stream(kind, triton.url, "late")
    assert len(last.images) == 1


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_an_image_may_be_of_any_format(output_format: str, triton: FakeImageTriton) -> None:
    made = generate_one("sync", triton.url, output_format=output_format)
    assert (made.format, made.data) == (output_format, image_file(output_format))


# Requests


ALL = {
    "negative_prompt": "fog",
    "width": 512,
    "height": 256,
    "num_inference_steps": 8,
    "guidance_scale": 2.5,
    "seed": 2**62,
    "scheduler": "euler",
    "output_format": "webp",
}


@KINDS
def test_only_what_is_given_is_sent(kind: str, triton: FakeImageTriton) -> None:
    generate_one(kind, triton.url)
    assert triton.request.model_name == "sdxl"
    assert triton.inputs() == {"prompt": "harbour"}
    stream(kind, triton.url)
    assert triton.request.model_name == "sdxl_stream"
    assert triton.inputs() == {"prompt": "harbour"}


@KINDS
def test_everything_that_is_given_is_sent(kind: str, triton: FakeImageTriton) -> None:
    generate(kind, triton.url, num_images=2, **ALL)
    assert triton.inputs() == {"prompt": "harbour", "num_images": 2} | ALL
    stream(kind, triton.url, num_images=2, preview_every=2, **ALL)
    assert triton.inputs() == {"prompt": "harbour", "num_images": 2, "preview_every": 2} | ALL


@BOTH
@KINDS
def test_a_request_goes_to_the_model_that_it_names(kind: str, call: Call, triton: FakeImageTriton) -> None:
    call(kind, triton.url, model="other_stream" if call is stream else "other")
    assert triton.request.model_name.startswith("other")


def test_the_client_may_have_an_image_model_of_its_own(triton: FakeImageTriton) -> None:
    with Client(triton.url, image_model="turbo") as client:
        client.generate_image("harbour")
        assert triton.request.model_name == "turbo"
        list(client.stream_image("harbour"))
        assert triton.request.model_name == "turbo_stream"


def test_the_tensors_have_the_types_that_the_server_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "model_repository/sdxl_stream/1")
    from image_engine.parameters import PARAMETERS

    declared = {entry.name: entry.data_type.removeprefix("TYPE_").replace("STRING", "BYTES") for entry in PARAMETERS}
    assert declared.pop("base64") == "BOOL"
    assert declared == INPUTS


# Errors


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"width": 2**40}, "width"),
        ({"width": "512"}, "width"),
        ({"height": 512.5}, "height"),
        ({"seed": 2**70}, "seed"),
        ({"seed": 10**5000}, "seed"),
        ({"guidance_scale": "strong"}, "guidance_scale"),
        ({"guidance_scale": 1e300}, "guidance_scale"),
        ({"negative_prompt": 3}, "negative_prompt"),
        ({"scheduler": ["euler"]}, "scheduler"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "\ud83d"}, "prompt"),
        ({"num_images": "two"}, "num_images"),
        ({"num_images": None}, "num_images"),
        ({"widht": 512}, "widht"),
        ({"base64": True}, "base64"),
        ({"timeout": 0}, "timeout"),
    ],
)
@BOTH
@KINDS
def test_what_cannot_be_sent_is_an_invalid_request_that_names_it(
    kind: str, call: Call, arguments: dict[str, Any], name: str, triton: FakeImageTriton
) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}[:=]"):
        call(kind, triton.url, **{"prompt": "harbour"} | arguments)
    assert triton.request is None


@KINDS
def test_a_preview_every_that_cannot_be_sent_is_an_invalid_request(kind: str, triton: FakeImageTriton) -> None:
    with pytest.raises(InvalidRequest, match=r"^preview_every: 0\.5 is not allowed"):
        stream(kind, triton.url, preview_every=0.5)


REFUSED = "width: 100 is not allowed: a multiple of 8 from 256 to 2048"


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        ("INVALID_ARGUMENT", REFUSED, InvalidRequest),
        ("NOT_FOUND", "Request for unknown model: 'sdxl' is not found", fictures.ModelNotFound),
        ("UNAVAILABLE", "the image engine is starting; try again in some seconds", fictures.Unavailable),
        ("CANCELLED", "the request was cancelled", fictures.Cancelled),
        ("INTERNAL", "the image engine failed", ServerError),
    ],
)
@KINDS
def test_the_servers_refusals_keep_their_words(
    kind: str, status: str, message: str, error: type[Exception], triton: FakeImageTriton
) -> None:
    prompts = {generate: f"abort {status} {message}", stream: f"fail {message}"}
    for call, prompt in prompts.items():
        with pytest.raises(error) as caught:
            call(kind, triton.url, prompt)
        assert type(caught.value) is error
        assert str(caught.value) == message


@pytest.mark.parametrize(
    "message",
    [
        "prompt: 'try again' is not allowed: UTF-8 text of 1 to 10000 characters",
        "seed: -1 is not allowed: a whole number, 0 or more",
        "widht: no such parameter; there are prompt, negative_prompt",
        "output_format: 'the request was cancelled' is not allowed: one of png, jpeg, webp",
    ],
)
def test_a_refusal_is_not_mistaken_for_the_words_it_quotes(message: str) -> None:
    assert type(from_stream_message(message)) is InvalidRequest


@pytest.mark.parametrize("what", BROKEN)
@BOTH
@KINDS
def test_a_file_that_is_no_image_is_a_server_error(kind: str, call: Call, what: str, triton: FakeImageTriton) -> None:
    with pytest.raises(ServerError, match=r"^image: .* cannot be read as an image file"):
        call(kind, triton.url, f"broken {what}")


@KINDS
def test_a_preview_that_is_no_image_is_a_server_error(kind: str, triton: FakeImageTriton) -> None:
    with pytest.raises(ServerError, match=r"^preview: "):
        stream(kind, triton.url, "blurred")


@BOTH
@KINDS
def test_an_answer_without_an_image_is_a_server_error(kind: str, call: Call, triton: FakeImageTriton) -> None:
    with pytest.raises(ServerError, match="without an image"):
        call(kind, triton.url, "nothing")


@BOTH
@KINDS
def test_an_image_without_a_seed_is_a_server_error(kind: str, call: Call, triton: FakeImageTriton) -> None:
    with pytest.raises(ServerError, match="1 images and 0 seeds"):
        call(kind, triton.url, "seedless")


# Timeouts and cancellation


@BOTH
@KINDS
def test_no_wait_is_longer_than_the_timeout_and_the_request_is_cancelled(
    kind: str, call: Call, triton: FakeImageTriton
) -> None:
    began = time.monotonic()
    with pytest.raises(fictures.DeadlineExceeded):
        call(kind, triton.url, "silent", timeout=0.3)
    assert time.monotonic() - began < 5  # the answer would take 20
    assert triton.cancelled.wait(5)


def test_breaking_out_of_a_stream_cancels_the_request(triton: FakeImageTriton) -> None:
    with Client(triton.url) as client:
        for _ in client.stream_image("endless"):
            break
        assert triton.cancelled.wait(5)


async def test_breaking_out_of_an_async_stream_cancels_the_request(triton: FakeImageTriton) -> None:
    async with AsyncClient(triton.url) as client:
        async for _ in client.stream_image("endless"):
            break
        assert await asyncio.to_thread(triton.cancelled.wait, 5)


async def test_cancelling_the_task_cancels_the_request(triton: FakeImageTriton) -> None:
    async with AsyncClient(triton.url) as client:
        task = asyncio.create_task(client.generate_image("silent"))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(triton.cancelled.wait, 5)


def test_closing_the_client_ends_a_pending_call(triton: FakeImageTriton) -> None:
    client = Client(triton.url)
    threading.Timer(0.3, client.close).start()
    with pytest.raises(fictures.Cancelled, match="was closed"):
        client.generate_image("silent")
    assert triton.cancelled.wait(5)
    for method in (client.generate_image, client.generate_images, client.stream_image):
        with pytest.raises(fictures.Cancelled, match="was closed"):
            method("harbour")


async def test_closing_the_async_client_ends_a_pending_call_without_cancelling_its_task(
    triton: FakeImageTriton,
) -> None:
    client = AsyncClient(triton.url)
    call = asyncio.create_task(client.generate_image("silent"))
    await asyncio.sleep(0.3)
    await client.aclose()
    with pytest.raises(fictures.Cancelled, match="was closed"):
        await call


async def test_the_event_loop_goes_on_while_a_picture_is_read(
    triton: FakeImageTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def decode(name: str, data: bytes) -> Image.Image:
        threads.append(threading.current_thread())
        return PICTURE

    monkeypatch.setattr("fictures.image_files.decode", decode)
    async with AsyncClient(triton.url) as client:
        await client.generate_image("harbour")
        async for _ in client.stream_image("harbour", preview_every=1):
            pass
    assert len(threads) == 1 + STEPS + 1
    assert threading.current_thread() not in threads


# Values


@pytest.mark.parametrize("name", ["image.png", "image.PNG"])
def test_an_image_is_saved_as_it_came(name: str, triton: FakeImageTriton, tmp_path: Path) -> None:
    generate_one("sync", triton.url).save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == image_file()


def test_an_image_is_converted_where_the_name_asks_for_it(triton: FakeImageTriton, tmp_path: Path) -> None:
    made = generate_one("sync", triton.url)
    for suffix, kind in {"jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "gif": "GIF"}.items():
        made.save(str(tmp_path / f"image.{suffix}"))
        with Image.open(tmp_path / f"image.{suffix}") as saved:
            assert saved.format == kind
    with pytest.raises(ValueError, match="unknown file extension"):
        made.save(tmp_path / "image.what")


def test_an_image_shows_itself_without_its_bytes(triton: FakeImageTriton) -> None:
    assert "PNG\\r" not in repr(generate_one("sync", triton.url))


def test_text_does_not_pay_for_pillow() -> None:
    code = (
        "import sys, fictures; fictures.Client, fictures.AsyncClient, fictures.ImageChunk; print('PIL' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


# Health


@KINDS
def test_the_engines_of_the_text_and_the_image_model_are_asked(kind: str, triton: FakeImageTriton) -> None:
    found = health(kind, triton.url)
    assert (found.ok, found.models) == (True, {"gemma": "ready", "sdxl": "ready", "sdxl_stream": "ready"})
    assert triton.probed == ["gemma", "sdxl_stream"]


@KINDS
def test_an_image_model_whose_engine_is_down_is_unhealthy(kind: str, triton: FakeImageTriton) -> None:
    triton.image_probe_error = "the image engine is starting; try again in some seconds"
    found = health(kind, triton.url)
    assert (found.ok, found.reason) == (False, f"sdxl_stream: {triton.image_probe_error}")
    assert found.models["gemma"] == "ready"


@pytest.mark.parametrize("state", ["UNAVAILABLE", None])
@KINDS
def test_an_image_model_that_is_not_there_or_not_ready_is_not_asked(
    kind: str, state: str | None, triton: FakeImageTriton
) -> None:
    triton.index = [entry for entry in triton.index if entry.name != "sdxl_stream"]
    if state is not None:
        triton.index.append(pb.RepositoryIndexResponse.ModelIndex(name="sdxl_stream", state=state, reason="unloaded"))
    assert health(kind, triton.url).ok
    assert triton.probed == ["gemma"]


def test_a_probe_is_an_empty_prompt_with_a_request_parameter(triton: FakeImageTriton) -> None:
    with Client(triton.url) as client:
        client.health()
    assert triton.request.model_name == "sdxl_stream"
    assert triton.inputs() == {"prompt": ""}
    parameters: Mapping[str, Any] = triton.request.parameters
    assert parameters["triton_enable_empty_final_response"].bool_param
