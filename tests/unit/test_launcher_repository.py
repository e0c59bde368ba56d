"""The settings reach the models through a copy; the committed repository stays as it is."""

import json
from pathlib import Path

import pytest

from fictures.settings import Settings
from launcher.errors import LaunchError
from launcher.models import (
    TINY_GEMMA,
    TINY_KV_CACHE,
    TINY_SDXL,
    ImageModel,
    TextModel,
    find_image_model,
    find_lora_modules,
    find_text_model,
)
from launcher.repository import lay_out

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
    return tmp_path / "committed"


def laid_out(committed: Path, settings: Settings, model: TextModel = MODEL, *, compiled: bool = True) -> Path:
    target = committed.parent / "run" / "model_repository"
    lay_out(committed, target, settings, model, IMAGES, settings.text_lora_modules, compiled=compiled)
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


def test_lazy_loading_is_said_to_both_engines(committed: Path) -> None:
    repository = laid_out(committed, Settings(model_loading="lazy")).parent
    for model in ("gemma", "sdxl_stream"):
        assert 'string_value: "lazy"' in (repository / model / "config.pbtxt").read_text()


def test_without_an_image_model_the_tiny_one_is_served() -> None:
    assert find_image_model(Settings()) == ImageModel(str(TINY_SDXL), is_local=True)


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
    model = laid_out(committed, Settings(text_lora_modules={"poet": "/models/poet"}))
    assert {path: path.read_bytes() for path in committed.rglob("*") if path.is_file()} == before
    assert (model / "config.pbtxt").read_bytes() == (committed / "gemma" / "config.pbtxt").read_bytes()


def test_lora_adapters_are_switched_on_and_listed(committed: Path) -> None:
    model = laid_out(committed, Settings(text_lora_modules={"poet": "/models/poet"}))
    assert json.loads((model / "1" / "model.json").read_text())["enable_lora"] is True
    assert json.loads((model / "1" / "multi_lora.json").read_text()) == {"poet": "/models/poet"}


def test_a_second_layout_leaves_nothing_of_the_first(committed: Path) -> None:
    laid_out(committed, Settings(text_lora_modules={"poet": "/models/poet"}))
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
    with pytest.raises(LaunchError, match="HF_HUB_OFFLINE"):
        find_text_model(Settings(text_model_name="nobody/nothing"))


def test_an_adapter_in_a_relative_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "poet").mkdir()
    (tmp_path / "poet" / "adapter_config.json").touch()
    settings = Settings(text_lora_modules={"poet": "poet", "hub": "owner/adapter"})
    assert find_lora_modules(settings) == {"poet": str((tmp_path / "poet").resolve()), "hub": "owner/adapter"}


@pytest.mark.parametrize("place", ["/no/such/adapter", "./nothing", "~/no-such-adapter", "not a name"])
def test_an_adapter_that_is_not_there_is_named(place: str) -> None:
    with pytest.raises(LaunchError, match=f"TEXT_LORA_MODULES: poet={place}: "):
        find_lora_modules(Settings(text_lora_modules={"poet": place}))
