"""The images are those of diffusers' own `StableDiffusionXLPipeline`, alone and in company."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image

from conftest import Server, loaded_image_engine
from fictures import AsyncClient, Client
from image_engine.parameters import SCHEDULER_NAMES

PROMPT = "a lighthouse at night, waves"
SIZE = {"width": 256, "height": 256}

# The classes as diffusers documents these samplers, not as the server's table has them.
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "ddim": (DDIMScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, {}),
}


class Reference:
    """The plain pipeline with the server's own weights."""

    def __init__(self, folder: Any) -> None:
        self._pipeline = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32)
        self._pipeline.set_progress_bar_config(disable=True)
        self._schedule = self._pipeline.scheduler.config

    def draw(self, *, seed: int, scheduler: str = "dpmpp_2m_karras", prompt: str = PROMPT, **options: Any) -> Any:
        kind, changes = SCHEDULERS[scheduler]
        self._pipeline.scheduler = kind.from_config(self._schedule, **changes)
        arguments = SIZE | {"guidance_scale": 7.5} | options
        generator = torch.Generator().manual_seed(seed)
        return self._pipeline(prompt, generator=generator, **arguments).images[0]


@pytest.fixture(scope="module")
def reference(server: Server) -> Reference:
    return Reference(server.image_model_dir)


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of a colour value, of 255."""
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max())


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB; infinite for the same image."""
    error = np.mean((np.asarray(one).astype(float) - np.asarray(other)) ** 2)
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def test_every_scheduler_that_is_offered_is_compared() -> None:
    assert set(SCHEDULERS) == set(SCHEDULER_NAMES)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_alone_an_image_is_the_pipelines_own_to_the_pixel(server: Server, reference: Reference, scheduler: str) -> None:
    options = {"seed": 11, "scheduler": scheduler, "num_inference_steps": 7, "guidance_scale": 6.3}
    with Client(server.grpc_url) as client:
        made = client.generate_image(PROMPT, **SIZE, **options)
    assert difference(made.image, reference.draw(**options)) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"guidance_scale": 1.0},
        {"guidance_scale": 0.0},
        {"negative_prompt": "rain"},
        {"negative_prompt": ""},
        {"prompt": "sea " * 200},
        {"prompt": "Ein Leuchtturm bei Nacht, 灯台 🌊"},
        {"num_inference_steps": 1},
        {"width": 328, "height": 264},
    ],
    ids=str,
)
def test_what_a_request_may_say_means_what_it_means_to_the_pipeline(
    server: Server, reference: Reference, options: dict[str, Any]
) -> None:
    arguments = {"seed": 3, "num_inference_steps": 4, "prompt": PROMPT} | SIZE | options
    with Client(server.grpc_url) as client:
        made = client.generate_image(**arguments)
    assert difference(made.image, reference.draw(**arguments)) == 0


def test_in_a_mixed_batch_an_image_is_the_same_within_floating_point(server: Server, reference: Reference) -> None:
    requests: list[dict[str, Any]] = [
        {
            "prompt": f"{PROMPT} {number}",
            "seed": 100 + number,
            "scheduler": list(SCHEDULERS)[number % len(SCHEDULERS)],
            "num_inference_steps": 8 + 2 * number,
            "guidance_scale": 1.0 if number == 3 else 3.0 + number,
        }
        for number in range(8)
    ]

    async def all_at_once() -> list[Image.Image]:
        async with AsyncClient(server.grpc_url) as client:
            made = await asyncio.gather(*(client.generate_image(**SIZE, **request) for request in requests))
        return [each.image for each in made]

    steps = server.metric("fictures_image_step_images_count")
    images = asyncio.run(all_at_once())
    steps = server.metric("fictures_image_step_images_count") - steps

    own = [reference.draw(**request) for request in requests]
    print("largest difference", max(map(difference, images, own)), "least PSNR", min(map(psnr, images, own)))
    assert min(map(psnr, images, own)) >= 45
    alone = sum(request["num_inference_steps"] for request in requests)
    assert steps < alone / 3, "they shared their steps"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", ["blocks", "model"])
def test_a_compiled_model_draws_what_the_plain_pipeline_does_within_floating_point(
    server: Server, reference: Reference, part: str
) -> None:
    """Of the default size, in steps of any number of images, and of another; and alone without guidance, whose single
    row nothing was compiled for.
    """
    home, other = {"width": 320, "height": 256}, {"width": 256, "height": 320}
    requests: list[dict[str, Any]] = [
        {
            "prompt": f"{PROMPT} {number}",
            "seed": number,
            "guidance_scale": 3.0 + number,
            "num_inference_steps": 6 + number,
        }
        for number in range(3)
    ]
    requests = [request | home for request in requests] + [requests[0] | other]

    async def drawn(client: AsyncClient, request: dict[str, Any]) -> Image.Image:
        return [event async for event in client.stream_image(model="compiled", **request)][-1].images[0].image

    single_row = requests[0] | {"guidance_scale": 1.0}

    async def all_at_once() -> list[Image.Image]:
        async with AsyncClient(server.grpc_url, timeout=300) as client:
            together = await asyncio.gather(*(drawn(client, request) for request in requests))
            return [*together, await drawn(client, single_row)]

    with loaded_image_engine(server, "compiled", compile=part, defaults=home):
        images = asyncio.run(all_at_once())
    own = [reference.draw(**request) for request in (*requests, single_row)]
    assert min(map(psnr, images, own)) >= 45
    differences = list(map(difference, images, own))
    assert any(differences[:3]), "it was compiled"
    if part == "model":
        assert differences[3] == 0, "this size was not"
    assert differences[4] == 0, "a single row was not"


def test_each_of_several_images_is_made_again_by_its_own_seed(server: Server) -> None:
    with Client(server.grpc_url) as client:
        several = client.generate_images(PROMPT, num_images=4, seed=2**63 - 2, num_inference_steps=4, **SIZE)
        assert [made.seed for made in several] == [2**63 - 2, 2**63 - 1, 0, 1]
        for made in several:
            again = client.generate_image(**made.parameters)
            assert psnr(again.image, made.image) >= 45


def test_without_a_seed_each_image_is_another_and_can_be_made_again(server: Server) -> None:
    with Client(server.grpc_url) as client:
        one, other = (client.generate_image(PROMPT, num_inference_steps=4, **SIZE) for _ in range(2))
        assert one.seed != other.seed
        assert client.generate_image(**one.parameters).data == one.data


def test_a_png_says_what_made_it(server: Server) -> None:
    with Client(server.grpc_url) as client:
        made = client.generate_image(PROMPT, negative_prompt="ré", seed=5, num_inference_steps=2, **SIZE)
    assert json.loads(made.image.text["parameters"]) == {  # type: ignore[attr-defined]
        "prompt": PROMPT,
        "negative_prompt": "ré",
        "width": 256,
        "height": 256,
        "num_inference_steps": 2,
        "guidance_scale": 7.5,
        "seed": 5,
        "scheduler": "dpmpp_2m_karras",
    }


def test_jpeg_and_webp_show_the_same_picture(server: Server) -> None:
    with Client(server.grpc_url) as client:
        png, jpeg, webp = (
            client.generate_image(PROMPT, seed=5, num_inference_steps=2, output_format=kind, **SIZE)
            for kind in ("png", "jpeg", "webp")
        )
    assert (png.format, jpeg.format, webp.format) == ("png", "jpeg", "webp")
    assert psnr(jpeg.image, png.image) > 20
    assert psnr(webp.image, png.image) > 20
