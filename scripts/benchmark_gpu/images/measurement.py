"""The measurements, those that matter most first: a run that is ended early reports what it has."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image

from benchmark_gpu.images.findings import Findings, Floors, Kind, Row
from benchmark_gpu.images.model import PROMPT
from benchmark_gpu.images.timing import Rates, Timing, operations, rates, timed
from benchmark_gpu.images.variants import PLAIN, VARIANTS, Variant
from image_engine.compiling import with_compiled_blocks
from image_engine.config import ModelSettings
from image_engine.denoising import Drawing
from image_engine.errors import SetupError
from image_engine.graphs import GraphedUNet, UNetInputs, call
from image_engine.model import ImageModel
from image_engine.prompts import PromptEmbeddings

GUIDANCE = 7.5
SEED = 1
UNGUIDED_AFTER = 0.6  # of the steps, where guidance is cut short


@dataclass(frozen=True)
class Effort:
    side: int
    """Pixels of an image."""
    steps: int
    counts: Sequence[int]
    """Images at a time."""
    repeats: int
    with_compile: bool
    only_engine: bool
    """Nothing that is done to the plain pipeline."""


class Measurement:
    """One pipeline on one device; `say` is told what goes on."""

    def __init__(
        self,
        pipeline: StableDiffusionXLPipeline,
        device: torch.device,
        effort: Effort,
        findings: Findings,
        say: Callable[[str], None],
    ) -> None:
        self._pipeline, self._device, self._effort = pipeline, device, effort
        self._findings, self._say = findings, say
        self._reference: Image.Image | None = None
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
            pipeline.scheduler.config, algorithm_type="dpmsolver++", use_karras_sigmas=True
        )

    def run(self) -> None:
        """Everything."""
        self._floors()
        self._unet_calls(PLAIN, self._pipeline.unet, self._effort.counts)
        self._whole_image(PLAIN)
        self._decoding(PLAIN)
        self._engines_model()
        torch.compiler.set_stance("default")  # one that compiles has let nothing be compiled since it was ready
        if self._effort.with_compile:
            self._compiled_blocks()
        if self._effort.only_engine:
            return
        self._without_fused_attention()
        for variant in VARIANTS:
            if self._effort.with_compile or not variant.is_compiled:
                self.variant(variant)

    def _compiled_blocks(self) -> None:
        name = f"{PLAIN}, blocks compiled"
        with self._told(self._first("unet", name)):
            self._unet_calls(name, with_compiled_blocks(self._pipeline.unet), self._effort.counts)

    def variant(self, variant: Variant) -> None:
        """The plain pipeline with one optimisation more."""
        with self._told(self._first("unet", variant.name)):
            variant.apply(self._pipeline)
            self._unet_calls(variant.name, self._pipeline.unet, self._counts(variant), is_compiled=variant.is_compiled)
            self._whole_image(variant.name)
            self._decoding(variant.name)

    def _floors(self) -> None:
        self._say("what the chip reaches, and what a step takes of it")
        found: Rates = rates(self._device, self._pipeline.unet.dtype)
        inputs = self._inputs(1)
        with torch.inference_mode():
            needed = operations(lambda: call(self._pipeline.unet, inputs))
        weights = sum(weight.numel() * weight.element_size() for weight in self._pipeline.unet.parameters())
        self._findings.know(Floors(found.operations, found.bytes, needed, weights))

    def _without_fused_attention(self) -> None:
        """What PyTorch's attention in one operation (SDPA) is worth, which diffusers takes by itself."""
        unet = self._pipeline.unet
        fused = unet.attn_processors
        unet.set_attn_processor(AttnProcessor())
        try:
            self._unet_calls("without SDPA", unet, self._effort.counts)
            self._whole_image("without SDPA")
        finally:
            unet.set_attn_processor(fused)

    def _unet_calls(self, name: str, unet: Any, counts: Sequence[int], *, is_compiled: bool = False) -> None:
        for count in counts:
            self._say(f"{name}: the UNet, {count} at a time")
            self._unet_call(Row("unet", name, count), unet, is_compiled=is_compiled)

    def _unet_call(self, row: Row, unet: Any, *, is_compiled: bool) -> None:
        """Without a graph and, on a GPU, with one."""
        inputs = self._inputs(row.images)
        if is_compiled:
            with self._told(row), torch.inference_mode():
                compiling = timed(lambda: call(unet, inputs), self._device, 1, warm_up=0)
                row = replace(row, ready_after=compiling.median)
            if row.ready_after is None:
                return
        self._time(row, lambda: call(unet, inputs))
        if self._device.type == "cuda":
            graphed = GraphedUNet(unet)
            row = replace(row, name=f"{row.name}, CUDA graph", ready_after=None)
            self._time(row, lambda: graphed(inputs), warm_up=3, is_valid=lambda: graphed.graph_count > 0)
            graphed.release()

    def _whole_image(self, name: str) -> None:
        self._say(f"{name}: a whole image")
        self._pipeline.vae.to(self._pipeline.unet.dtype)  # the pipeline turns it into float32 itself, for each image
        pictures: list[Image.Image] = []

        def draw() -> None:
            generator = torch.Generator().manual_seed(SEED)
            pictures[:] = self._pipeline(
                PROMPT,
                width=self._effort.side,
                height=self._effort.side,
                num_inference_steps=self._effort.steps,
                guidance_scale=GUIDANCE,
                generator=generator,
            ).images

        self._time(Row("image", f"pipeline, {name}", 1), draw, repeats=2, picture=lambda: pictures[0])
        if name == PLAIN and pictures:
            self._reference = pictures[0]

    def _decoding(self, name: str) -> None:
        vae = self._pipeline.vae
        if vae.dtype == torch.float16:
            vae.to(torch.float32)  # as the pipeline does for each image, and the engine once
        side = self._effort.side // 8
        latents = torch.randn(1, 4, side, side, device=self._device, dtype=vae.dtype)
        self._time(Row("vae", name, 1), lambda: vae.decode(latents, return_dict=False))

    def _engines_model(self) -> None:
        """What the image engine does for requests that came together, in each of its ways; without its queue and PNG
        files, which `./scripts/benchmark images` measures.
        """
        for name, settings in self._ways().items():
            self._say(f"{name}: getting ready")
            began = time.perf_counter()
            with self._told(self._first("image", name)):
                model = ImageModel.of(self._pipeline, settings, self._device)
                ready_after = None if settings.compile == "off" else time.perf_counter() - began
                for count in self._effort.counts:
                    self._say(f"{name}: {count} at a time")
                    self._time_model(Row("image", name, count, ready_after=ready_after), model)
                model.denoiser.release_graphs()
                for count in self._counts_of_cut_guidance(settings):
                    cut = Row("image", f"{name}, no guidance in the last {1 - UNGUIDED_AFTER:.0%}", count)
                    self._time_model(cut, model, UNGUIDED_AFTER)
                model.denoiser.release_graphs()

    def _ways(self) -> dict[str, ModelSettings]:
        """The settings that make a difference, by the name of the row."""
        side, on_gpu = self._effort.side, self._device.type == "cuda"
        plain = ModelSettings(
            model="random", cuda_graphs=False, compile="off", max_batch_size=max(self._effort.counts)
        ).model_copy(
            update={"defaults": {"width": side, "height": side}}  # unchecked: tests draw smaller than requests may
        )
        ways = {"engine's model": plain}
        if on_gpu:
            ways["engine's model, CUDA graphs"] = plain.model_copy(update={"cuda_graphs": True})
        for part in ("blocks", "model") if self._effort.with_compile else ():
            name = f"engine's model, {'CUDA graphs, ' if on_gpu else ''}{part} compiled"
            ways[name] = plain.model_copy(update={"cuda_graphs": True, "compile": part})
        return ways

    def _counts_of_cut_guidance(self, settings: ModelSettings) -> Sequence[int]:
        """Those for whose steps without guidance the model is ready: a single row is compiled apart, and `model` is
        compiled for guided steps.
        """
        return {
            "off": self._ends(),
            "blocks": [count for count in self._ends() if count > 1],
            "model": [],
        }[settings.compile]

    def _time_model(self, row: Row, model: ImageModel, guided_part: float = 1.0) -> None:
        pictures: list[Image.Image] = []

        def draw() -> None:
            pictures[:] = self._draw(model, row.images, guided_part)

        self._time(row, draw, repeats=2, picture=lambda: pictures[0])

    def _counts(self, variant: Variant) -> Sequence[int]:
        """Compiling takes a minute and a half for each: only for the fewest and the most."""
        return self._ends() if variant.is_compiled else self._effort.counts

    def _first(self, what: Kind, name: str) -> Row:
        return Row(what, name, self._effort.counts[0])

    def _ends(self) -> Sequence[int]:
        return sorted({min(self._effort.counts), max(self._effort.counts)})

    def _draw(self, model: ImageModel, count: int, guided_part: float = 1.0) -> list[Image.Image]:
        """As the engine's loop does it, with requests that come together."""
        effort = self._effort
        drawings = [self._drawing(model, SEED + number) for number in range(count)]
        for step in range(effort.steps):
            if step >= guided_part * effort.steps:
                for drawing in drawings:
                    drawing.embeddings = PromptEmbeddings(drawing.embeddings.positive, None)
            model.denoise(drawings)
        return [picture for drawing in drawings for picture in model.decoder.decode(drawing.latents)]

    def _drawing(self, model: ImageModel, seed: int) -> Drawing:
        return model.denoiser.start(
            model.encoder.encode(PROMPT, None, guided=True),
            width=self._effort.side,
            height=self._effort.side,
            steps=self._effort.steps,
            guidance_scale=GUIDANCE,
            scheduler="dpmpp_2m_karras",
            seed=seed,
        )

    def _inputs(self, images: int) -> UNetInputs:
        unet, rows = self._pipeline.unet, 2 * images
        config, side = unet.config, self._effort.side // 8
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(rows, *shape, device=self._device, dtype=unet.dtype)

        return UNetInputs(
            sample=random(config.in_channels, side, side),
            timesteps=torch.full((rows,), 500.0, device=self._device),
            tokens=random(77, config.cross_attention_dim),
            pooled=random(pooled),
            time_ids=random(6),
            guidance=None,
        )

    @contextmanager
    def _told(self, row: Row) -> Iterator[None]:
        """What cannot be had is noted in place of its time, and the rest goes on."""
        try:
            yield
        except (SetupError, RuntimeError) as error:  # a compiler's, and memory that is not there, too
            self._findings.add(replace(row, error=first_line(error)))

    def _time(
        self,
        row: Row,
        run: Callable[[], object],
        *,
        repeats: int | None = None,
        warm_up: int = 1,
        picture: Callable[[], Image.Image] | None = None,
        is_valid: Callable[[], bool] = lambda: True,
    ) -> None:
        """Times something and notes it; what fails, or was not what it is called, is noted as that."""
        with self._told(row):
            with torch.inference_mode():
                timing: Timing = timed(run, self._device, repeats or self._effort.repeats, warm_up)
            if not is_valid():
                raise RuntimeError("not possible")
            row = replace(row, seconds=timing.seconds, peak_bytes=timing.peak)
            if picture is not None and self._reference is not None:
                row = replace(row, is_compared=True, psnr=psnr(self._reference, picture()))
            self._findings.add(row)


def first_line(error: Exception) -> str:
    """What went wrong, short enough for a table."""
    return str(error).partition("\n")[0][:200]


def psnr(first: Image.Image, second: Image.Image) -> float | None:
    """How alike two pictures are, in dB; None: the same, pixel for pixel."""
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    error = float(np.mean(difference**2))
    return None if error == 0 else 10 * math.log10(255**2 / error)
