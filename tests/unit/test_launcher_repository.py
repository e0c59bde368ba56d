"""The settings reach the models through a copy; the committed repository stays as it is."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from fictures.settings import Settings
from launcher.errors import LaunchError
from launcher.models import (
    LORA_RANKS,
    TINY_GEMMA,
    TINY_KV_CACHE,
    TINY_SDXL,
    ImageModel,
    LoraAdapter,
    TextModel,
    find_image_model,
    find_lora_modules,
    find_text_model,
)
from launcher.repository import image_settings, lay_out, lora_arguments

MODEL = TextModel("google/gemma-2b-it", "auto", is_local=False)
IMAGES = ImageModel("owner/sdxl", is_local=False)


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    version = tmp_path / "committed" / "gemma" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text('backend: "vllm"\n')
    (version / "model.json").write_text('{"model": "committed/model", "max_model_len": 1, "seed": 7}')
    engine = tmp_path / "committed" / "sdxl_stream" / "1"
    engine.mkdir(parents=True)
    (engine.parent / "config.pbtxt").write_text('backend: "python"\n')
    (engine / "model.json").write_text('{"model": "committed/sdxl", "variant": "fp16", "max_batch_size": 3}')
    (tmp_path / "committed" / "sdxl").mkdir()
    return tmp_path / "committed"


def laid_out(
    committed: Path,
    settings: Settings,
    model: TextModel = MODEL,
    lora_modules: dict[str, LoraAdapter] | None = None,
    *,
    compiled: bool = True,
) -> Path:
    target = committed.parent / "run" / "model_repository"
    lay_out(committed, target, settings, model, IMAGES, lora_modules or {}, compiled=compiled, tracing=None)
    return target / "gemma"


def test_settings_replace_engine_arguments_and_leave_the_others(committed: Path) -> None:
    settings = Settings(text_max_model_len=512, text_gpu_memory_utilization=0.3, vllm_max_num_seqs=8)
    engine = json.loads((laid_out(committed, settings) / "1" / "model.json").read_text())
    assert engine == {
        "model": "google/gemma-2b-it",
        "dtype": "auto",
        "max_model_len": 512,
        "gpu_memory_utilization": 0.3,
        "max_num_seqs": 8,
        "tensor_parallel_size": 1,
        "seed": 7,
    }


def test_settings_replace_the_image_engines_and_leave_the_others(committed: Path) -> None:
    settings = Settings(image_gpu_memory_utilization=0.4, diffusers_enable_vae_tiling=True)
    folder = laid_out(committed, settings).parent / "sdxl_stream"
    assert json.loads((folder / "1" / "model.json").read_text()) == {
        "model": "owner/sdxl",
        "variant": "fp16",
        "max_batch_size": 3,
        "gpu_memory_utilization": 0.4,
        "enable_cpu_offload": False,
        "enable_attention_slicing": False,
        "enable_vae_slicing": False,
        "enable_vae_tiling": True,
    }


@pytest.mark.parametrize(
    ("serve", "models"), [("text", ["gemma"]), ("images,gateway", ["sdxl", "sdxl_stream"]), ("text,images", None)]
)
def test_only_what_is_served_is_laid_out(committed: Path, serve: str, models: list[str] | None) -> None:
    settings = Settings(serve=serve, model_loading="lazy")  # type: ignore[arg-type]
    repository = laid_out(committed, settings).parent
    assert sorted(folder.name for folder in repository.iterdir()) == (models or ["gemma", "sdxl", "sdxl_stream"])


def test_a_split_or_quantized_model_is_said_to_vllm(committed: Path) -> None:
    settings = Settings(
        vllm_tensor_parallel_size=4,
        vllm_pipeline_parallel_size=2,
        vllm_distributed_executor_backend="ray",
        text_quantization="fp8",
    )
    engine = json.loads((laid_out(committed, settings) / "1" / "model.json").read_text())
    wanted = {"tensor_parallel_size": 4, "pipeline_parallel_size": 2, "distributed_executor_backend": "ray"}
    assert engine.items() >= (wanted | {"quantization": "fp8"}).items()


def test_random_weights_are_said_to_vllm(committed: Path) -> None:
    engine = json.loads((laid_out(committed, Settings(text_load_format="dummy")) / "1" / "model.json").read_text())
    assert engine["load_format"] == "dummy"


def test_a_revision_of_the_image_model_counts_on_the_hub_only(committed: Path) -> None:
    settings = Settings(image_revision="v1")
    folder = laid_out(committed, settings).parent / "sdxl_stream"
    assert json.loads((folder / "1" / "model.json").read_text())["revision"] == "v1"
    assert "revision" not in image_settings(settings, ImageModel("/models/sdxl", is_local=True))


def test_lazy_loading_is_said_to_both_engines(committed: Path) -> None:
    repository = laid_out(committed, Settings(model_loading="lazy")).parent
    for model in ("gemma", "sdxl_stream"):
        assert 'string_value: "lazy"' in (repository / model / "config.pbtxt").read_text()


def test_without_an_image_model_the_tiny_one_is_served() -> None:
    model = find_image_model(Settings())
    assert model == ImageModel(str(TINY_SDXL), is_local=True, side=256)
    assert image_settings(Settings(), model)["defaults"] == {"width": 256, "height": 256}
    assert "defaults" not in image_settings(Settings(), ImageModel("/models/sdxl", is_local=True))


def test_an_image_model_may_be_a_single_file(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    assert find_image_model(Settings(image_model_name=str(file))).name == str(file)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/no/such/model", "no such folder"),
        ("a b", "neither a folder"),
        (".", r"model_index\.json"),
        ("x.safetensors", "no such file"),
    ],
)
def test_a_wrong_image_model_is_named(name: str, words: str) -> None:
    with pytest.raises(LaunchError, match=f"IMAGE_MODEL_NAME={name}: .*{words}"):
        find_image_model(Settings(image_model_name=name))


def test_without_a_compiler_the_model_runs_as_it_is(committed: Path) -> None:
    model = laid_out(committed, Settings(), compiled=False)
    assert json.loads((model / "1" / "model.json").read_text())["enforce_eager"] is True


def test_the_committed_files_are_not_touched(committed: Path) -> None:
    before = {path: path.read_bytes() for path in committed.rglob("*") if path.is_file()}
    laid_out(committed, Settings(), lora_modules={"poet": LoraAdapter("/models/poet", 8)})
    assert {path: path.read_bytes() for path in committed.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("interval", [0, 50])
def test_how_long_text_may_be_held_back_is_all_that_the_models_configuration_gets(
    committed: Path, interval: int
) -> None:
    poet = {"poet": LoraAdapter("/models/poet", 8)}
    model = laid_out(committed, Settings(text_stream_interval_ms=interval), lora_modules=poet)
    added = f'parameters: {{\n  key: "STREAM_INTERVAL_MS"\n  value: {{ string_value: "{interval}" }}\n}}\n'
    assert (model / "config.pbtxt").read_text() == (committed / "gemma" / "config.pbtxt").read_text() + added


def test_lora_adapters_are_switched_on_and_listed_and_get_the_room_they_need(committed: Path) -> None:
    adapters = {"poet": LoraAdapter("/models/poet", 64), "bard": LoraAdapter("/models/bard", 5)}
    model = laid_out(committed, Settings(), lora_modules=adapters)
    engine = json.loads((model / "1" / "model.json").read_text())
    assert engine.items() >= {"enable_lora": True, "max_lora_rank": 64, "max_loras": 2}.items()
    assert json.loads((model / "1" / "multi_lora.json").read_text()) == {"poet": "/models/poet", "bard": "/models/bard"}


@pytest.mark.parametrize(
    ("ranks", "committed", "wanted"),
    [
        ([8], {}, (8, 1)),
        ([24], {}, (32, 1)),
        ([8], {"max_lora_rank": 128, "max_loras": 3}, (128, 3)),
        ([64], {"max_lora_rank": 16}, (64, 1)),
        ([8] * 20, {}, (8, 8)),
    ],
)
def test_room_for_adapters_is_by_their_ranks_and_by_the_committed_file(
    ranks: list[int], committed: dict[str, int], wanted: tuple[int, int]
) -> None:
    adapters = {f"adapter{number}": LoraAdapter("/models/poet", rank) for number, rank in enumerate(ranks)}
    arguments = lora_arguments(adapters, committed)
    assert (arguments["max_lora_rank"], arguments["max_loras"]) == wanted


def test_the_ranks_are_those_that_vllm_takes() -> None:
    package = find_spec("vllm")
    assert package is not None
    source = (Path(package.origin or "").parent / "config" / "lora.py").read_text()
    (ranks,) = re.findall(r"^MaxLoRARanks = Literal\[(.*)\]", source, re.MULTILINE)
    assert tuple(map(int, ranks.split(","))) == LORA_RANKS


def test_a_second_layout_leaves_nothing_of_the_first(committed: Path) -> None:
    laid_out(committed, Settings(), lora_modules={"poet": LoraAdapter("/models/poet", 8)})
    assert not (laid_out(committed, Settings()) / "1" / "multi_lora.json").exists()


def test_without_a_model_name_the_tiny_gemma_serves_in_float32() -> None:
    assert find_text_model(Settings()) == TextModel(
        str(TINY_GEMMA), "float32", is_local=True, kv_cache_bytes=TINY_KV_CACHE
    )


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(LaunchError, match="TEXT_MODEL_NAME=/no/such/model: no such folder"):
        find_text_model(Settings(text_model_name="/no/such/model"))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"no config\.json"):
        find_text_model(Settings(text_model_name=str(tmp_path)))


def test_a_name_that_is_neither_folder_nor_hub_name_is_refused() -> None:
    with pytest.raises(LaunchError, match="neither a folder nor a Hugging Face name"):
        find_text_model(Settings(text_model_name="gemma 2b"))


def test_offline_a_model_must_be_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LaunchError, match=r"fictures models pull.*HF_HUB_OFFLINE"):
        find_text_model(Settings(text_model_name="nobody/nothing"))


def test_an_adapter_in_a_relative_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_adapter(tmp_path / "poet", rank=64)
    settings = Settings(text_lora_modules={"poet": "poet"})
    assert find_lora_modules(settings) == {"poet": LoraAdapter(str((tmp_path / "poet").resolve()), 64)}


@pytest.mark.parametrize(("rank", "words"), [(1000, "vLLM takes 512 at most"), ("8", "r is 8, must be a whole number")])
def test_an_adapter_with_a_wrong_rank_is_named(tmp_path: Path, rank: object, words: str) -> None:
    make_adapter(tmp_path / "poet", rank)
    with pytest.raises(LaunchError, match=f"TEXT_LORA_MODULES: poet={tmp_path}/poet: .*{words}"):
        find_lora_modules(Settings(text_lora_modules={"poet": str(tmp_path / "poet")}))


def test_an_adapter_of_pickles_is_refused(tmp_path: Path) -> None:
    make_adapter(tmp_path / "poet", rank=8)
    (tmp_path / "poet" / "adapter_model.safetensors").rename(tmp_path / "poet" / "adapter_model.bin")
    with pytest.raises(LaunchError, match=r"no safetensors weights \(only adapter_model\.bin\)"):
        find_lora_modules(Settings(text_lora_modules={"poet": str(tmp_path / "poet")}))


def make_adapter(folder: Path, rank: object) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "adapter_model.safetensors").touch()


@pytest.mark.parametrize("place", ["/no/such/adapter", "./nothing", "~/no-such-adapter", "not a name"])
def test_an_adapter_that_is_not_there_is_named(place: str) -> None:
    with pytest.raises(LaunchError, match=f"TEXT_LORA_MODULES: poet={place}: "):
        find_lora_modules(Settings(text_lora_modules={"poet": place}))
