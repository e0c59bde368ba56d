"""The tensors of `sdxl` and `sdxl_stream`: what they answer, and how they refuse what is wrong."""

import asyncio
import base64
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from PIL import Image
from tritonclient.utils import InferenceServerException

from conftest import Server, loaded_image_engine, stub_of, wait_for
from fictures import AsyncClient, Client, GeneratedImage, ServerError, Unavailable
from triton_image import SMALL, infer_grpc, infer_http, pictures, tensors

METRICS = (
    "images_total",
    "failures_total",
    "step_seconds_sum",
    "step_seconds_count",
    "step_images_count",
    "step_images_sum",
    "requests_waiting",
    "requests_running",
)
INPUTS = [
    "prompt",
    "negative_prompt",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "seed",
    "num_images",
    "scheduler",
    "output_format",
    "base64",
]
WAITING = "fictures_image_requests_waiting"

BAD = [
    ({"prompt": ""}, "prompt: '' is not allowed: UTF-8 text of 1 to 10000 characters"),
    ({"prompt": " \n"}, "prompt: ' \\n' is not allowed"),
    ({"prompt": "x" * 10_000_000}, "prompt: 10000000 bytes are not allowed"),
    ({"prompt": b"\xff\xfe"}, "prompt: b'\\xff\\xfe' is not allowed: UTF-8 text"),
    ({"prompt": ["a", "b"]}, "prompt"),
    ({"negative_prompt": "x" * 10_001}, "negative_prompt: "),
    ({"width": 100}, "width: 100 is not allowed: a multiple of 8 from 256 to 2048"),
    ({"width": 257}, "width: 257 is not allowed"),
    ({"width": 2056}, "width: 2056 is not allowed"),
    ({"height": -256}, "height: -256 is not allowed"),
    ({"height": 0}, "height: 0 is not allowed"),
    ({"num_inference_steps": 0}, "num_inference_steps: 0 is not allowed: a whole number from 1 to 100"),
    ({"num_inference_steps": 101}, "num_inference_steps: 101 is not allowed"),
    ({"num_inference_steps": 51, "scheduler": "lcm"}, "num_inference_steps: 51 is not allowed: scheduler lcm takes 50"),
    ({"guidance_scale": -1.0}, "guidance_scale: -1.0 is not allowed: a number from 0 to 30"),
    ({"guidance_scale": float("nan")}, "guidance_scale: nan is not allowed"),
    ({"guidance_scale": float("inf")}, "guidance_scale: inf is not allowed"),
    ({"seed": -1}, "seed: -1 is not allowed: a whole number, 0 or more"),
    ({"num_images": 0}, "num_images: 0 is not allowed: a whole number from 1 to 4"),
    ({"num_images": 5}, "num_images: 5 is not allowed"),
    ({"scheduler": "magic"}, "scheduler: 'magic' is not allowed: one of euler, euler_ancestral, dpmpp_2m,"),
    ({"output_format": "gif"}, "output_format: 'gif' is not allowed: one of png, jpeg, webp"),
]
IDS = [f"{next(reversed(values))}-{number}" for number, (values, _) in enumerate(BAD)]


def by_grpc(server: Server, values: dict[str, Any]) -> tuple[str, str]:
    """Status and message of a refusal."""
    with pytest.raises(InferenceServerException) as refused:
        infer_grpc(server.grpc_url, **values)
    return refused.value.status(), refused.value.message()


def by_http(server: Server, values: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as refused:
        infer_http(f"127.0.0.1:{server.ports['http']}", **values)
    return refused.value.status(), refused.value.message()


def by_stream(server: Server, values: dict[str, Any]) -> tuple[str | None, str]:
    answers: list[Any] = []
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.append(error))
        client.async_stream_infer("sdxl_stream", tensors(triton_grpc, values))
        client.stop_stream()
    (error,) = answers
    return error.status(), error.message()


@pytest.mark.parametrize(("values", "words"), BAD, ids=IDS)
@pytest.mark.parametrize("ask", [by_grpc, by_http, by_stream])
def test_bad_input_names_the_tensor_the_value_and_what_is_allowed(
    server: Server, ask: Callable[[Server, dict[str, Any]], tuple[str | None, str]], values: dict[str, Any], words: str
) -> None:
    status, message = ask(server, {"prompt": "a", **SMALL} | values)
    assert status == {by_grpc: "StatusCode.INVALID_ARGUMENT", by_http: "400", by_stream: None}[ask]
    assert words in message
    assert "Traceback" not in message
    assert server.takes_requests("sdxl", "prompt")


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("protocol", [triton_grpc, triton_http], ids=["gRPC", "HTTP"])
def test_a_tensor_of_a_wrong_type_or_shape_is_named(server: Server, protocol: Any, name: str) -> None:
    url = server.grpc_url if protocol is triton_grpc else f"127.0.0.1:{server.ports['http']}"
    for array, kind in ((np.array([2.5]), "FP64"), (np.zeros((2, 2), np.float32), "FP32")):
        tensor = protocol.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        others = tensors(protocol, {} if name == "prompt" else {"prompt": "a"})
        with protocol.InferenceServerClient(url) as client, pytest.raises(InferenceServerException) as refused:
            client.infer("sdxl", [*others, tensor])
        assert refused.value.status() in ("StatusCode.INVALID_ARGUMENT", "400")
        assert name in refused.value.message()


def test_the_prompt_must_be_there(server: Server) -> None:
    assert by_grpc(server, SMALL) == (
        "StatusCode.INVALID_ARGUMENT",
        "prompt: must be given: UTF-8 text of 1 to 10000 characters",
    )


@pytest.mark.parametrize("model", ["sdxl", "sdxl_stream"])
def test_an_unknown_request_parameter_is_refused(server: Server, model: str) -> None:
    body = {"prompt": "a", "steps": 3}
    answer = httpx.post(f"{server.http_url}/v2/models/{model}/generate", json=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("steps: no such parameter")


def test_json_endpoints_carry_base64(server: Server) -> None:
    body = {"prompt": "a", "base64": True, "seed": 4, **SMALL}
    answer = httpx.post(f"{server.http_url}/v2/models/sdxl/generate", json=body, timeout=30).json()
    assert answer["seed"] == 4
    assert Image.open(io.BytesIO(base64.b64decode(answer["image"]))).size == (256, 256)


def test_a_stream_tells_of_each_step_and_ends_with_the_image(server: Server) -> None:
    body = {"prompt": "a", "base64": True, "preview_every": 3, **SMALL, "num_inference_steps": 7}
    url = f"{server.http_url}/v2/models/sdxl_stream/generate_stream"
    with httpx.stream("POST", url, json=body, timeout=30) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    assert [(event["step"], event["total_steps"]) for event in events[:-1]] == [(step, 7) for step in range(1, 8)]
    assert ["preview" in event for event in events] == [step in (3, 6) for step in range(1, 9)]
    assert Image.open(io.BytesIO(base64.b64decode(events[2]["preview"]))).size == (32, 32)
    assert "image" in events[-1]


@pytest.mark.parametrize("output", ["image", "seed"])
def test_only_the_outputs_that_a_request_names_are_answered(server: Server, output: str) -> None:
    inputs, wanted = tensors(triton_grpc, {"prompt": "a", **SMALL}), [triton_grpc.InferRequestedOutput(output)]
    streamed: list[Any] = []
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        whole = client.infer("sdxl", inputs, outputs=wanted, client_timeout=120)
        client.start_stream(lambda result, error: streamed.append(error or result))
        client.async_stream_infer("sdxl_stream", inputs, outputs=wanted)
        client.stop_stream()
    (end,) = streamed  # nothing of the steps

    for result in (whole, end):
        assert [tensor.name for tensor in result.get_response().outputs] == [output]


def test_a_preview_resembles_the_image(server: Server) -> None:
    with Client(server.grpc_url) as client:
        options = {**SMALL, "num_inference_steps": 12, "seed": 1}
        *events, last = client.stream_image("a", preview_every=11, **options)
    (preview,) = events[10].previews
    small = last.images[0].image.resize(preview.size, Image.Resampling.BOX)
    correlation = np.corrcoef(np.asarray(preview).ravel(), np.asarray(small).ravel())[0, 1]
    assert correlation > 0.2


def test_several_images_come_in_one_answer(server: Server) -> None:
    result = infer_http(f"127.0.0.1:{server.ports['http']}", prompt="a", num_images=3, seed=8, **SMALL)
    assert [picture.size for picture in pictures(result)] == [(256, 256)] * 3
    assert result.as_numpy("seed").tolist() == [8, 9, 10]


def test_more_requests_than_triton_has_threads_reach_the_engine_and_the_queues_bound_holds(server: Server) -> None:
    """72 fit: 64 that wait and 8 that are drawn. Triton has 32 threads for what one model asks of another."""

    async def all_at_once() -> list[Any]:
        async with AsyncClient(server.grpc_url) as client:
            requests = [client.generate_image("a", **SMALL) for _ in range(100)]
            return await asyncio.gather(*requests, return_exceptions=True)

    ends = asyncio.run(all_at_once())
    refused = [end for end in ends if isinstance(end, Unavailable)]
    assert all("image requests wait already" in str(end) and end.status == "UNAVAILABLE" for end in refused)
    assert 15 <= len(refused) <= 30
    assert len(refused) + sum(isinstance(end, GeneratedImage) for end in ends) == 100


def test_previews_have_a_range_too(server: Server) -> None:
    _, message = by_stream(server, {"prompt": "a", "preview_every": 101})
    assert message.endswith("preview_every: 101 is not allowed: a whole number from 0 to 100")


def test_beyond_the_queue_requests_are_refused_at_once_and_the_others_served(server: Server) -> None:
    with (
        loaded_image_engine(server, "small_queue", max_queue_size=2, max_batch_size=1),
        Client(server.grpc_url) as client,
    ):
        options = {**SMALL, "num_inference_steps": 60}
        first = client.stream_image("a", model="small_queue", **options)
        next(first)  # it runs, so that the next two wait and the fourth is one too many
        waiting = [client.stream_image("a", model="small_queue", **SMALL) for _ in range(2)]
        wait_for(lambda: server.metric(WAITING, model="small_queue") == 2, 30, "two wait")
        refused = client.stream_image("a", model="small_queue", **SMALL)
        with pytest.raises(Unavailable, match="2 image requests wait already"):
            next(refused)
        assert [len(list(stream)[-1].images) for stream in (first, *waiting)] == [1, 1, 1]


@pytest.mark.timeout(600)
def test_a_burst_of_large_images_queues_by_memory_and_none_fails(server: Server) -> None:
    """Working memory for one image of 1024x1024 in a step."""
    with (
        loaded_image_engine(server, "little_memory", working_memory=232_500_000, enable_vae_tiling=True),
        Client(server.grpc_url, timeout=240) as client,
    ):
        options = {"width": 1024, "height": 1024, "num_inference_steps": 1, "guidance_scale": 1.0}
        streams = [client.stream_image("a", model="little_memory", **options) for _ in range(2)]
        assert [list(stream)[-1].images[0].image.size for stream in streams] == [(1024, 1024)] * 2
        steps = server.metric("fictures_image_step_images_count", model="little_memory")
        assert steps == 2, "one image in a step"


def test_out_of_memory_fails_that_request_and_leaves_the_engine_working(server: Server) -> None:
    with loaded_image_engine(server, "starved"), Client(server.grpc_url, timeout=120) as client:
        stub = stub_of(server, "starved")
        before = stub.rlimit(psutil.RLIMIT_AS)
        assert list(client.stream_image("a", model="starved", **SMALL))[-1].images, "its threads run before the limit"
        stub.rlimit(psutil.RLIMIT_AS, (stub.memory_info().vms + (100 << 20), before[1]))
        with pytest.raises(ServerError, match="2048x2048 needs more memory than there is"):
            list(
                client.stream_image("a", model="starved", width=2048, height=2048, num_inference_steps=1, num_images=2)
            )
        assert list(client.stream_image("a", model="starved", **SMALL))[-1].images
        assert server.metric("fictures_image_failures_total", model="starved", reason="out_of_memory") == 1
        stub.rlimit(psutil.RLIMIT_AS, before)


def test_a_reload_with_a_wrong_setting_names_it_and_the_engine_goes_on(server: Server) -> None:
    # A first load that fails is not tried on the shared server: Triton calls itself not ready ever after.
    with loaded_image_engine(server, "wrong"), Client(server.grpc_url) as client:
        path = server.repository / "wrong/1/model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"scheduler": "euler"}))
        refused = httpx.post(f"{server.http_url}/v2/repository/models/wrong/load", timeout=60)
        assert refused.status_code == 400
        assert "scheduler: Extra inputs are not permitted" in refused.text
        assert list(client.stream_image("a", model="wrong", **SMALL))[-1].images
        assert client.health().ok


def test_a_lazy_engine_loads_with_its_first_request_and_those_that_come_meanwhile_wait(server: Server) -> None:
    async def both() -> list[GeneratedImage]:
        async with AsyncClient(server.grpc_url, timeout=120) as client:
            options = {"model": "lazy", "seed": 1, **SMALL}
            return [await last for last in [asyncio.create_task(final(client, options)) for _ in range(2)]]

    async def final(client: AsyncClient, options: dict[str, Any]) -> GeneratedImage:
        return [event async for event in client.stream_image("a", **options)][-1].images[0]

    with loaded_image_engine(server, "lazy", lazy=True):
        assert server.takes_requests("lazy", "prompt"), "it is up at once"
        first, second = asyncio.run(both())
        assert first.image.tobytes() == second.image.tobytes()


def test_a_lazy_engine_that_cannot_load_its_model_says_so_to_its_requests(server: Server) -> None:
    with loaded_image_engine(server, "lazy", lazy=True, model="/nowhere"), Client(server.grpc_url) as client:
        assert server.takes_requests("lazy", "prompt"), "nobody has asked for its model"
        with pytest.raises(Unavailable, match=r"the model could not be loaded: .*/nowhere"):
            list(client.stream_image("a", model="lazy", **SMALL))
        assert not server.takes_requests("lazy", "prompt")


@pytest.mark.parametrize(
    "settings",
    [
        {"enable_attention_slicing": True, "enable_vae_slicing": True, "enable_vae_tiling": True},
        {"dtype": "bfloat16", "enable_cpu_offload": True},
        {
            "scheduler_config": {"timestep_spacing": "trailing"},
            "defaults": {"num_inference_steps": 2, "guidance_scale": 0, "scheduler": "euler"},
        },
    ],
    ids=["slicing and tiling", "half precision", "a distilled model"],
)
def test_a_model_is_served_as_its_settings_say(server: Server, settings: dict[str, Any]) -> None:
    with loaded_image_engine(server, "other", **settings), Client(server.grpc_url) as client:
        *events, last = client.stream_image("a", model="other", width=256, height=512, num_images=2)
        assert [made.image.size for made in last.images] == [(256, 512)] * 2
        expected = settings.get("defaults", {}).get("num_inference_steps", 30)
        assert len(events) == expected


def test_the_engines_metrics_are_on_tritons_metrics_port(server: Server) -> None:
    before = {name: server.metric(f"fictures_image_{name}") for name in METRICS}
    infer_grpc(server.grpc_url, prompt="a", num_images=2, **SMALL)
    by_grpc(server, {"prompt": ""})
    grown = {name: server.metric(f"fictures_image_{name}") - before[name] for name in METRICS}
    assert grown.pop("step_seconds_sum") > 0
    assert grown == {
        "images_total": 2,
        "failures_total": 1,
        "step_seconds_count": 4,
        "step_images_count": 4,
        "step_images_sum": 8,
        "requests_waiting": 0,
        "requests_running": 0,
    }
