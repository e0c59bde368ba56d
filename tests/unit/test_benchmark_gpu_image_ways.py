"""The ways to draw an image that the GPU benchmark compares do what they are called."""

from collections.abc import Sequence

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor

from benchmark_gpu.images import measurement
from benchmark_gpu.images.findings import Findings, Row
from benchmark_gpu.images.measurement import Effort, Measurement
from benchmark_gpu.images.model import make_pipeline
from benchmark_gpu.images.variants import VARIANTS, Variant
from image_engine.graphs import UNetInputs, call
from tiny_models.sdxl_pipeline import BASE, build_unet, build_vae

CPU = torch.device("cpu")


@pytest.fixture
def pipeline() -> StableDiffusionXLPipeline:
    return make_pipeline("tiny", CPU, torch.float32)


def measured(pipeline: StableDiffusionXLPipeline, *, steps: int = 2, only_engine: bool = True) -> Sequence[Row]:
    findings = Findings(None)
    effort = Effort(64, steps, [1], repeats=1, with_compile=False, only_engine=only_engine)
    Measurement(pipeline, CPU, effort, findings, lambda told: None).run()
    return findings.rows


def compiled(pipeline: StableDiffusionXLPipeline, counts: Sequence[int]) -> Sequence[Row]:
    """Of a variant that compiles, as far as the measurement knows."""
    findings = Findings(None)
    effort = Effort(64, 2, counts, repeats=1, with_compile=True, only_engine=False)
    run = Measurement(pipeline, CPU, effort, findings, lambda told: None)
    run.variant(Variant("+ as it is", lambda pipeline: None, is_compiled=True))
    return findings.rows


def test_the_base_size_is_stable_diffusion_xls() -> None:
    with torch.device("meta"):
        parts = build_unet(BASE), build_vae(BASE)
    weights = [sum(weight.numel() for weight in part.parameters()) for part in parts]
    assert weights == [2_567_463_684, 83_653_863]  # stabilityai's base 1.0


def test_variants_change_the_pipeline(pipeline: StableDiffusionXLPipeline) -> None:
    channels_last, fused, whole_compiled = VARIANTS
    convolutions = (pipeline.unet.conv_in.weight, pipeline.vae.decoder.conv_in.weight)
    channels_last.apply(pipeline)
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in convolutions)
    fused.apply(pipeline)
    assert any(name.endswith("to_qkv") for name, _ in pipeline.unet.named_modules())
    plain_decode = pipeline.vae.decode
    whole_compiled.apply(pipeline)  # compiles at the first call
    assert pipeline.unet._compiled_call_impl is not None
    assert pipeline.vae.decode is not plain_decode


def test_without_sdpa_attention_is_made_of_single_operations(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Counted(AttnProcessor):
        def __call__(self, *args: object, **more: object) -> torch.Tensor:
            calls.append(args)
            return super().__call__(*args, **more)

    monkeypatch.setattr(measurement, "AttnProcessor", Counted)
    monkeypatch.setattr(measurement, "VARIANTS", ())
    before = pipeline.unet.attn_processors
    measured(pipeline, only_engine=False)
    assert calls
    assert pipeline.unet.attn_processors == before


def test_guidance_is_cut_short_in_the_last_steps(pipeline: StableDiffusionXLPipeline) -> None:
    rows_of_steps = []
    pipeline.unet.register_forward_pre_hook(lambda unet, arguments: rows_of_steps.append(len(arguments[0])))
    measured(pipeline, steps=5)
    assert rows_of_steps[-5:] == [2, 2, 2, 1, 1]
    assert rows_of_steps.count(1) == 2 * 3  # of one warm-up and two measured images, and of no other way


def test_what_cannot_be_done_is_told_and_the_rest_goes_on(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pipeline: StableDiffusionXLPipeline) -> None:
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr(measurement, "VARIANTS", (Variant("+ broken", fail), VARIANTS[0]))
    rows = measured(pipeline, only_engine=False)
    assert [row.error for row in rows if row.name == "+ broken"] == ["no compiler"]
    assert [row.error for row in rows if row.name == "+ channels last"] == ["", ""]  # the UNet and decoding


def test_compiling_is_timed_apart_from_what_is_compiled(pipeline: StableDiffusionXLPipeline) -> None:
    calls = [row for row in compiled(pipeline, [1, 2, 4]) if row.what == "unet"]
    assert [row.images for row in calls] == [1, 4]  # each compiles
    assert all(row.ready_after is not None and row.ready_after > 0 for row in calls)


def test_what_cannot_be_compiled_for_one_count_is_told_for_that_one(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(unet: object, inputs: UNetInputs) -> torch.Tensor:
        if len(inputs.sample) > 2:
            raise RuntimeError("no compiler for that many")
        return call(unet, inputs)

    monkeypatch.setattr(measurement, "call", failing)
    told = [(row.what, row.images, row.error) for row in compiled(pipeline, [1, 4])]
    assert told == [("unet", 1, ""), ("unet", 4, "no compiler for that many"), ("image", 1, ""), ("vae", 1, "")]


def test_without_the_plain_pipelines_picture_none_is_compared(
    pipeline: StableDiffusionXLPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(StableDiffusionXLPipeline, "__call__", fail)
    plain, engine, *_ = [row for row in measured(pipeline) if row.what == "image"]
    assert plain.error == "no memory"
    assert engine.seconds
    assert not engine.is_compared
