"""What torch.compile is to make faster, and what happens where it cannot. That it does is an integration test's."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._inductor import config as inductor

from image_engine.compiling import with_compiled_blocks
from image_engine.config import ModelSettings, compiled_part
from image_engine.errors import SetupError
from image_engine.model import ImageModel
from tiny_models.sdxl_pipeline import build_pipeline

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def pipeline() -> Any:
    made = build_pipeline(["a lighthouse at night"], seed=0)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def no_compiler() -> Iterator[None]:
    with inductor.patch({"cpp.cxx": ("/nowhere/g++",), "force_disable_caches": True}):
        yield
    torch.compiler.set_stance("default")  # a model that is ready lets nothing be compiled
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("settings", "device", "part"),
    [
        ({}, CPU, "off"),
        ({}, GPU, "blocks"),
        ({"enable_attention_slicing": True}, GPU, "off"),
        ({"enable_cpu_offload": True}, GPU, "off"),
        ({"compile": "off"}, GPU, "off"),
        ({"compile": "model"}, CPU, "model"),
        ({"compile": "model"}, GPU, "model"),
        ({"compile": "model", "enable_cpu_offload": True}, GPU, "off"),
    ],
    ids=str,
)
def test_what_is_compiled(settings: dict[str, Any], device: torch.device, part: str) -> None:
    assert compiled_part(ModelSettings(model="any", **settings), device) == part


@pytest.mark.parametrize("part", ["blocks", "model"])
def test_compiling_and_sliced_attention_exclude_each_other(part: str) -> None:
    with pytest.raises(ValueError, match=f"compile: {part} and enable_attention_slicing exclude each other"):
        ModelSettings(model="any", compile=part, enable_attention_slicing=True)  # type: ignore[arg-type]


def test_a_unet_with_compiled_blocks_shares_its_weights_and_leaves_the_other_as_it_is(pipeline: Any) -> None:
    compiled = with_compiled_blocks(pipeline.unet)
    shared = dict(compiled.named_parameters())
    assert all(shared[name] is weight for name, weight in pipeline.unet.named_parameters())
    are_compiled = [
        sum(module._compiled_call_impl is not None for module in unet.modules()) for unet in (compiled, pipeline.unet)
    ]
    blocks = [module for module in pipeline.unet.modules() if type(module).__name__ == "BasicTransformerBlock"]
    assert are_compiled == [len(blocks), 0]


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_what_is_asked_for_fails_with_a_reason(pipeline: Any) -> None:
    with pytest.raises(SetupError, match=r"^compile: tiny could not be compiled: .*/nowhere/g"):
        ImageModel.of(pipeline, ModelSettings(model="tiny", compile="blocks"), CPU)


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_what_is_left_to_the_engine_is_drawn_without(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("image_engine.model.compiled_part", lambda *_: "blocks")  # as on a GPU
    model = ImageModel.of(pipeline, ModelSettings(model="tiny"), CPU)
    assert "could not be compiled, so that steps take longer: " in model.description
    embeddings = model.encoder.encode("", None, guided=False)
    drawing = model.denoiser.start(
        embeddings, width=64, height=64, steps=1, guidance_scale=1.0, scheduler="euler", seed=0
    )
    model.denoise([drawing])
    assert drawing.finished
