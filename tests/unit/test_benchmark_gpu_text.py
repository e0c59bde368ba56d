"""The sizes that `benchmark_gpu.text` measures are Gemma's own."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from benchmark_gpu.text.__main__ import app
from benchmark_gpu.text.command import benchmark, share_of_memory
from benchmark_gpu.text.sizes import Size, make_folder


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        (Size.gemma_2b, 2_506_172_416),  # as Hugging Face counts those of google/gemma-2b and google/gemma-2-9b
        (Size.gemma_2_9b, 9_241_705_984),
        (Size.tiny, 4_344_064),
    ],
)
def test_a_size_has_as_many_parameters_as_the_real_model(size: Size, parameters: int, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = make_folder(size, tmp_path)
    assert folder.name == f"{size.value}-random-weights"
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert model.num_parameters() == parameters
    assert config.dtype == torch.bfloat16
    assert config.rope_parameters["rope_theta"] == 10_000


@pytest.mark.parametrize("size", Size)
def test_a_size_has_a_tokenizer_that_fits_its_vocabulary(size: Size, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    folder = make_folder(size, tmp_path)
    assert len(AutoTokenizer.from_pretrained(folder)) <= AutoConfig.from_pretrained(folder).vocab_size


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command sets is as it was afterwards."""
    for name in ("TEXT_MODEL_NAME", "TEXT_LOAD_FORMAT", "TEXT_GPU_MEMORY_UTILIZATION"):
        monkeypatch.setenv(name, "")


@pytest.mark.usefixtures("environment")
def test_options_of_the_text_benchmark_are_passed_on() -> None:
    refused = CliRunner().invoke(app, ["--size", "tiny-gemma", "--streams", "0"])
    assert refused.exit_code == 2
    assert "0: must be whole numbers from 1 to 1024" in refused.output


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("given", "measured"), [([], "1,32,256"), (["--streams", "8"], "8")])
def test_few_many_and_very_many_streams_unless_told_otherwise(
    given: list[str], measured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def text(streams: Annotated[str, typer.Option()]) -> None:
        seen.append(streams)

    monkeypatch.setattr(benchmark, "text", text)
    assert CliRunner().invoke(app, ["--size", "tiny-gemma", *given]).exit_code == 0
    assert seen == [measured]


@pytest.mark.parametrize(
    ("options", "share"),
    [([], 0.4), (["--engine"], 0.8 / 3), (["--stream-interval=10", "--one-process", "--seconds", "3"], 0.2)],
)
def test_engines_that_live_at_the_same_time_share_the_memory(options: list[str], share: float) -> None:
    assert share_of_memory(options) == pytest.approx(share)
