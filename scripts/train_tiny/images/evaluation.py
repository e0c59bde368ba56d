"""Whether the words decide the picture: captions never trained on, drawn by the model and read back."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionXLPipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from train_tiny.images.autoencoder import to_signed
from train_tiny.images.captions import describe_fully
from train_tiny.images.reading import Reading, read_pictures
from train_tiny.images.rendering import Frame, render
from train_tiny.images.scene import Scene, sample_scene

STEPS = 30
GUIDANCE = 7.5
_GENTLER = 3.0
_SEED = 20_260  # of the captions; their scenes are of the kind that training leaves out
_NOISE_SEED = 7


@dataclass(frozen=True)
class Score:
    """Shares of pictures, from 0 to 1, in which what the caption names was found."""

    sky: float
    colour: float
    kind: float
    all_three: float

    @classmethod
    def of(cls, readings: Sequence[Reading], scenes: Sequence[Scene]) -> "Score":
        """How often readings say what the scenes are."""
        pairs = list(zip(readings, scenes, strict=True))
        matches = [
            (reading.sky == scene.sky, reading.colour == scene.main.colour, reading.kind == scene.main.kind)
            for reading, scene in pairs
        ]
        sky, colour, kind = (sum(column) / len(pairs) for column in zip(*matches, strict=True))
        return cls(sky, colour, kind, sum(map(all, matches)) / len(pairs))


@dataclass(frozen=True)
class Examination:
    """What came of it."""

    own_words: Score
    """Each picture against the caption that it was drawn from."""
    swapped_words: Score
    """Each picture against the caption of another: what chance gives."""
    gentler_guidance: Score
    """As `own_words`, but drawn with a guidance scale of 3."""
    renderer: Score
    """The renderer's pictures of the same scenes, which says how good the reading itself is."""
    autoencoder: Score
    """The same pictures through the autoencoder alone, which no denoising can be better than."""
    blue_sky_unasked: float
    """Share of blue skies when the caption does not name the sky."""
    blue_sky_refused: float
    """The same captions and noise, with a blue sky in the negative prompt."""
    seconds_a_picture: float
    captions: list[str]
    pictures: list[Image.Image]


def held_out_scenes(count: int) -> list[tuple[Scene, str]]:
    """Scenes of one object, in a combination of kind, colour and sky that training leaves out, and full captions."""
    rng = random.Random(_SEED)
    scenes = [sample_scene(rng, held_out=True, alone=True) for _ in range(count)]
    return [(scene, describe_fully(scene, rng)) for scene in scenes]


def examine(
    pipeline: StableDiffusionXLPipeline, count: int = 200, *, steps: int = STEPS, guidance: float = GUIDANCE
) -> Examination:
    """Draws `count` held-out captions at 256x256 as the server does by default, and reads the pictures.

    Args:
        pipeline: On its device, in float32.
        count: Of captions, 2 or more.
        steps: Of denoising.
        guidance: The guidance scale.
    """
    scenes, captions = (list(column) for column in zip(*held_out_scenes(count), strict=True))
    begun = time.monotonic()
    pictures = draw(pipeline, captions, steps=steps, guidance=guidance)
    seconds = (time.monotonic() - begun) / count
    readings = read_pictures(pictures)
    rendered = _rendered(scenes)
    unasked = [f"a {scene.main.colour} {scene.main.kind}" for scene in scenes[: max(2, count // 4)]]
    return Examination(
        own_words=Score.of(readings, scenes),
        swapped_words=Score.of(readings, scenes[1:] + scenes[:1]),
        gentler_guidance=Score.of(read_pictures(draw(pipeline, captions, steps=steps, guidance=_GENTLER)), scenes),
        renderer=Score.of(read_pictures(rendered), scenes),
        autoencoder=examine_autoencoder(pipeline.vae, count),
        blue_sky_unasked=_blue_skies(draw(pipeline, unasked, steps=steps, guidance=guidance)),
        blue_sky_refused=_blue_skies(
            draw(pipeline, unasked, steps=steps, guidance=guidance, negative_prompt="blue sky")
        ),
        seconds_a_picture=seconds,
        captions=captions,
        pictures=pictures,
    )


def examine_autoencoder(vae: AutoencoderKL, count: int = 200) -> Score:
    """Reads the renderer's pictures of `count` held-out scenes after they went through the autoencoder."""
    scenes = [scene for scene, _ in held_out_scenes(count)]
    pixels = torch.stack([torch.from_numpy(np.array(picture)) for picture in _rendered(scenes)]).to(vae.device)
    with torch.inference_mode():
        found = [vae.decode(vae.encode(to_signed(some)).latent_dist.mean).sample for some in pixels.split(20)]
    return Score.of(read_pictures(VaeImageProcessor().postprocess(torch.cat(found).float())), scenes)


def _rendered(scenes: Sequence[Scene]) -> list[Image.Image]:
    return [Image.fromarray(render(scene, Frame.whole(256, 256))) for scene in scenes]


def draw(
    pipeline: StableDiffusionXLPipeline,
    captions: Sequence[str],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    negative_prompt: str | None = None,
    size: tuple[int, int] = (256, 256),
    batch: int = 50,
) -> list[Image.Image]:
    """Pictures of `size` (width, height) of captions, with the server's default scheduler; noise from a fixed seed."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, algorithm_type="dpmsolver++", use_karras_sigmas=True
    )
    pictures: list[Image.Image] = []
    for start in range(0, len(captions), batch):
        some = list(captions[start : start + batch])
        with torch.inference_mode():
            pictures += pipeline(
                prompt=some,
                negative_prompt=None if negative_prompt is None else [negative_prompt] * len(some),
                width=size[0],
                height=size[1],
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(_NOISE_SEED + start + i) for i in range(len(some))],
            ).images
    return pictures


def _blue_skies(pictures: Sequence[Image.Image]) -> float:
    return sum(reading.sky == "blue" for reading in read_pictures(pictures)) / len(pictures)
