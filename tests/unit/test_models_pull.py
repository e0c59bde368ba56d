"""`fictures models pull` as a person runs it, with a hub on loopback and the project's tiny models."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from little_hub import GOOD_TOKEN, POOR_TOKEN, Hub, Repository, running_hub
from safetensors.numpy import save, save_file

ROOT = Path(__file__).resolve().parents[2]
FICTURES = Path(sys.executable).parent / "fictures"
COMMIT = Repository({}).commit
PLAIN = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Gemma with the adapter `bold`, and the tiny Stable Diffusion XL."""
    folder = tmp_path_factory.mktemp("models")
    for script, *options in (("make_tiny_gemma.py", "--lora", "bold"), ("make_tiny_sdxl.py",)):
        command = [sys.executable, ROOT / "scripts" / script, "--output", folder / script.split("_")[2][:-3], *options]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture
def hub(models: Path) -> Iterator[Hub]:
    """A hub that has them as google/gemma and owner/sdxl, and more beside them than a server loads."""
    with running_hub() as running:
        gemma, sdxl = Repository.of(models / "gemma"), Repository.of(models / "sdxl")
        gemma.files |= {"README.md": b"about", "gemma.gguf": b"x", "pytorch_model.bin": b"x"}
        sdxl.files |= {"sdxl.safetensors": b"x", "unet/diffusion_pytorch_model.bin": b"x", "unet/model.onnx": b"x"}
        adapter = {
            name.removeprefix("adapters/bold/"): content
            for name, content in gemma.files.items()
            if name.startswith("adapters/")
        }
        running.repositories |= {"google/gemma": gemma, "owner/sdxl": sdxl, "owner/bold": Repository(adapter)}
        yield running


@pytest.fixture
def pull(hub: Hub, tmp_path: Path) -> Any:
    """Runs the command in a folder of its own, with a cache of its own."""
    work = tmp_path / "work"
    work.mkdir()
    nothing = dict.fromkeys(("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN"))

    def run(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        own = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url, "HF_HUB_ETAG_TIMEOUT": "2"}
        env = {name: value for name, value in os.environ.items() if name not in nothing} | own | variables
        return subprocess.run(
            [FICTURES, "models", "pull", *options], cwd=work, env=env, capture_output=True, text=True, timeout=60
        )

    return run


def problem(run: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that the command ended with."""
    assert run.returncode == code, run.stdout + run.stderr
    assert run.stderr.startswith("fictures: ")
    assert run.stderr.count("\n") == 1, run.stderr
    return run.stderr


def cached(tmp_path: Path, repository: str, name: str) -> Path:
    return tmp_path / f"cache/hub/models--{repository.replace('/', '--')}/snapshots/{COMMIT}" / name


def test_what_the_server_loads_is_fetched_once_and_checked_and_its_revisions_can_be_pinned(hub: Hub, pull: Any) -> None:
    settings = {
        "TEXT_MODEL_NAME": "google/gemma",
        "IMAGE_MODEL_NAME": "owner/sdxl",
        "TEXT_LORA_MODULES": '{"bold": "owner/bold"}',
    }
    first = pull(**settings)
    assert (first.returncode, first.stderr) == (0, "")
    assert "google/gemma: GemmaForCausalLM, main is commit c0ffee" in first.stdout
    assert "bold=owner/bold: LoRA adapter of rank 8" in first.stdout
    pins = {"TEXT_REVISION": COMMIT, "IMAGE_REVISION": COMMIT}
    assert first.stdout.splitlines()[-2:] == [f"{variable}={commit}" for variable, commit in pins.items()]
    assert len(hub.sent) == len(set(hub.sent))
    unwanted = ("README.md", "gemma.gguf", "sdxl.safetensors")
    assert not [
        name for name in hub.sent if name in unwanted or name.endswith((".bin", ".onnx")) or "adapters/" in name
    ]
    hub.sent.clear()
    again = pull("--json", **settings, **pins)
    text, lora, image = json.loads(again.stdout)
    assert hub.sent == []
    assert [part["fetched_bytes"] for part in (text, lora, image)] == [0, 0, 0]
    assert (text["pin"], text["commit"], image["architecture"]) == (None, COMMIT, "StableDiffusionXLPipeline")


def test_only_what_is_served_is_fetched_and_a_tag_is_a_commit(hub: Hub, pull: Any) -> None:
    hub.repositories["google/gemma"].branches = ("main", "v1")
    run = pull(TEXT_MODEL_NAME="google/gemma", TEXT_REVISION="v1", IMAGE_MODEL_NAME="no/such", SERVE="text,gateway")
    assert f"v1 is commit {COMMIT}" in run.stdout
    assert f"TEXT_REVISION={COMMIT}" in run.stdout


@pytest.mark.parametrize(
    ("repository", "variables", "code", "words"),
    [
        ("gated", {}, 2, "accept its licence at https://huggingface.co/google/gemma, then set HF_TOKEN"),
        ("gated", {"HF_TOKEN": POOR_TOKEN}, 2, "the account of HF_TOKEN has no access"),
        ("gated", {"HF_TOKEN": "hf_mistyped"}, 2, "HF_TOKEN: the Hugging Face hub does not know this token"),
        ("private", {}, 2, "TEXT_MODEL_NAME=google/gemma: no such model on the Hugging Face hub, or a private one"),
        ("open", {"TEXT_MODEL_NAME": "google/none"}, 2, "TEXT_MODEL_NAME=google/none: no such model"),
        ("open", {"TEXT_MODEL_NAME": "./gemma"}, 2, "TEXT_MODEL_NAME=./gemma: no such folder"),
        ("open", {"TEXT_MODEL_NAME": "owner/sdxl"}, 2, "owner/sdxl: holds no such model (it has no config.json)"),
        ("open", {"TEXT_REVISION": "v9"}, 2, "TEXT_REVISION=v9: google/gemma has no such branch, tag or commit"),
        ("open", {"TEXT_REVISION": 40 * "a"}, 2, f"TEXT_REVISION={40 * 'a'}: google/gemma has no such"),
        ("open", {"HF_ENDPOINT": "http://127.0.0.1:9"}, 3, "the Hugging Face hub cannot be reached"),
        ("open", {"HF_HUB_OFFLINE": "1"}, 2, "google/gemma: not in the Hugging Face cache"),
    ],
)
def test_what_keeps_a_model_from_coming_is_one_line(
    hub: Hub, pull: Any, repository: str, variables: dict[str, str], code: int, words: str
) -> None:
    hub.repositories["google/gemma"].gated = repository == "gated"
    hub.repositories["google/gemma"].private = repository == "private"
    assert words in problem(pull(**{"TEXT_MODEL_NAME": "google/gemma"} | variables), code)
    assert "model.safetensors" not in hub.sent


def test_a_token_in_the_env_file_opens_a_gated_model(hub: Hub, pull: Any, tmp_path: Path) -> None:
    hub.repositories["google/gemma"].gated = True
    (tmp_path / "work/.env").write_text(f"HF_TOKEN={GOOD_TOKEN}\nTEXT_MODEL_NAME=google/gemma\n")
    assert pull().returncode == 0


def without_safetensors(hub: Hub) -> None:
    del hub.repositories["google/gemma"].files["model.safetensors"]


def of_another_architecture(hub: Hub) -> None:
    hub.repositories["google/gemma"].files["config.json"] = b'{"architectures": ["LlamaForCausalLM"]}'


def with_broken_json(hub: Hub) -> None:
    hub.repositories["google/gemma"].files["config.json"] = b"{"


def without_tokenizer(hub: Hub) -> None:
    del hub.repositories["google/gemma"].files["tokenizer.json"]


def without_a_shard(hub: Hub) -> None:
    split(hub.repositories["google/gemma"])
    del hub.repositories["google/gemma"].files["model-2.safetensors"]


def with_an_unet_of_pickles(hub: Hub) -> None:
    del hub.repositories["owner/sdxl"].files[f"unet/{PLAIN}"]


def of_another_pipeline(hub: Hub) -> None:
    hub.repositories["owner/sdxl"].files["model_index.json"] = b'{"_class_name": "StableDiffusionPipeline"}'


def split(repository: Repository) -> None:
    """Make one weight file two, with an index."""
    tensors = load_bytes(repository.files.pop("model.safetensors"))
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[:5], names[5:]), 1):
        repository.files[f"model-{number}.safetensors"] = save({name: tensors[name] for name in part})
        weight_map |= dict.fromkeys(part, f"model-{number}.safetensors")
    repository.files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()


def load_bytes(content: bytes) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    return load(content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_safetensors, "google/gemma: it has no safetensors weights (only pytorch_model.bin)"),
        (of_another_architecture, "google/gemma: its architecture is LlamaForCausalLM"),
        (with_broken_json, "google/gemma: its config.json is not JSON"),
        (without_tokenizer, "google/gemma: it has no tokenizer"),
        (without_a_shard, "lacks model-2.safetensors, which model.safetensors.index.json names"),
        (with_an_unet_of_pickles, "owner/sdxl: its unet has no safetensors weights (only diffusion_pytorch_model.bin)"),
        (of_another_pipeline, "owner/sdxl: it is a StableDiffusionPipeline"),
    ],
)
def test_what_the_server_would_not_load_is_refused_before_weights_are_fetched(
    hub: Hub, pull: Any, change: Any, words: str
) -> None:
    change(hub)
    assert words in problem(pull(TEXT_MODEL_NAME="google/gemma", IMAGE_MODEL_NAME="owner/sdxl"), 2)
    assert not [name for name in hub.sent if name.endswith((".safetensors", ".bin"))]


def test_weights_in_several_files_are_held_against_their_index(hub: Hub, pull: Any, tmp_path: Path) -> None:
    repository = hub.repositories["google/gemma"]
    split(repository)
    run = pull(TEXT_MODEL_NAME="google/gemma")
    assert run.returncode == 0, run.stderr
    assert cached(tmp_path, "google/gemma", "model-2.safetensors").is_file()
    index = json.loads(repository.files["model.safetensors.index.json"])
    index["weight_map"]["model.layers.99.weight"] = "model-2.safetensors"
    other = replace(repository, files=repository.files | {"model.safetensors.index.json": json.dumps(index).encode()})
    hub.repositories["owner/other"] = other
    assert "model-2.safetensors has no tensor model.layers.99.weight" in problem(pull(TEXT_MODEL_NAME="owner/other"), 1)


def test_other_bytes_than_the_hub_has_are_not_taken_for_the_model(hub: Hub, pull: Any) -> None:
    repository = hub.repositories["google/gemma"]
    content = repository.files["model.safetensors"]
    repository.sent_instead["model.safetensors"] = content[:-1] + bytes([content[-1] ^ 1])
    assert "model.safetensors has the digest" in problem(pull(TEXT_MODEL_NAME="google/gemma"), 1)
    assert hub.sent.count("model.safetensors") == 2
    repository.sent_instead["model.safetensors"] = content[:-1]
    hub.repositories["owner/cut"] = repository
    assert "the download broke off (Consistency check failed: " in problem(pull(TEXT_MODEL_NAME="owner/cut"), 3)


def test_a_file_that_was_damaged_in_the_cache_is_found_and_fetched_again(hub: Hub, pull: Any, tmp_path: Path) -> None:
    assert pull(TEXT_MODEL_NAME="google/gemma").returncode == 0
    weights = cached(tmp_path, "google/gemma", "model.safetensors")
    whole = weights.read_bytes()
    weights.resolve().write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "model.safetensors has the digest" in problem(pull("--check", TEXT_MODEL_NAME="google/gemma"), 1)
    hub.sent.clear()
    assert pull(TEXT_MODEL_NAME="google/gemma").returncode == 0
    assert hub.sent == ["model.safetensors"]
    assert weights.read_bytes() == whole
    weights.unlink()
    line = problem(pull("--check", TEXT_MODEL_NAME="google/gemma"), 2)
    assert "no safetensors weights" in line
    assert "fictures models pull" in line
    assert pull("--check", TEXT_MODEL_NAME="google/gemma", HF_ENDPOINT="http://127.0.0.1:9").returncode == 2


def test_on_a_gpu_the_half_precision_files_are_fetched_where_there_are_such(
    hub: Hub, pull: Any, tmp_path: Path
) -> None:
    files = hub.repositories["owner/sdxl"].files
    half = {name: tensor.astype(np.float16) for name, tensor in load_bytes(files[f"unet/{PLAIN}"]).items()}
    files["unet/diffusion_pytorch_model.fp16.safetensors"] = save(half)
    variant = cached(tmp_path, "owner/sdxl", "unet/diffusion_pytorch_model.fp16.safetensors")
    assert pull("--device", "gpu", IMAGE_MODEL_NAME="owner/sdxl").returncode == 0
    assert variant.is_file()
    assert not variant.with_name(PLAIN).exists()
    assert variant.parents[1].joinpath("vae", PLAIN).is_file()
    assert pull("--device", "cpu", IMAGE_MODEL_NAME="owner/sdxl").returncode == 0
    assert variant.with_name(PLAIN).is_file()


def test_the_image_engines_own_vae_and_unet_are_fetched(hub: Hub, pull: Any, tmp_path: Path) -> None:
    files = hub.repositories["owner/sdxl"].files
    vae = {name.removeprefix("vae/"): content for name, content in files.items() if name.startswith("vae/")}
    hub.repositories["owner/vae"] = Repository(vae)
    hub.repositories["owner/fast"] = Repository(
        {"4step/unet.safetensors": files[f"unet/{PLAIN}"], "other.safetensors": b""}
    )
    engine = tmp_path / "work/model_repository/sdxl_stream/1/model.json"
    engine.parent.mkdir(parents=True)
    engine.write_text(json.dumps({"vae": "owner/vae", "unet": "owner/fast/4step/unet.safetensors"}))
    run = pull("--json", IMAGE_MODEL_NAME="owner/sdxl")
    assert run.returncode == 0, run.stderr
    assert [part["name"] for part in json.loads(run.stdout)] == ["owner/sdxl", "owner/vae", "owner/fast"]
    assert f"vae/{PLAIN}" not in hub.sent
    assert cached(tmp_path, "owner/fast", "4step/unet.safetensors").is_file()
    engine.write_text("[]")
    assert "must hold a JSON object" in problem(pull(IMAGE_MODEL_NAME="owner/sdxl"), 2)


def test_models_in_folders_are_checked_where_they_are(hub: Hub, pull: Any, models: Path, tmp_path: Path) -> None:
    run = pull(TEXT_MODEL_NAME=str(models / "gemma"), IMAGE_MODEL_NAME=str(models / "sdxl"))
    assert run.returncode == 0, run.stderr
    assert f"TEXT_MODEL_NAME={models}/gemma: GemmaForCausalLM, on this machine" in run.stdout
    assert "REVISION" not in run.stdout
    assert hub.sent == []
    (tmp_path / "cut").mkdir()
    for file in (models / "gemma").glob("*.*"):
        (tmp_path / "cut" / file.name).write_bytes(file.read_bytes()[: 1 << 20])
    assert "model.safetensors is no whole safetensors file" in problem(pull(TEXT_MODEL_NAME=str(tmp_path / "cut")), 1)


def test_a_model_in_one_file_needs_the_configuration_of_the_base(hub: Hub, pull: Any, tmp_path: Path) -> None:
    base = "stabilityai/stable-diffusion-xl-base-1.0"
    hub.repositories[base] = hub.repositories["owner/sdxl"]
    whole = tmp_path / "whole.safetensors"
    tensor = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
    save_file({tensor: np.zeros(1)}, whole)
    run = pull(IMAGE_MODEL_NAME=str(whole))
    assert run.returncode == 0, run.stderr
    assert cached(tmp_path, base, "tokenizer_2/tokenizer.json").is_file()
    assert not [name for name in hub.sent if name.endswith(".safetensors")]
    save_file({"another": np.zeros(1)}, whole)
    assert "is no Stable Diffusion XL in one file" in problem(pull(IMAGE_MODEL_NAME=str(whole)), 1)


def test_ctrl_c_ends_a_download_at_once_and_leaves_no_half_of_a_file(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["google/gemma"].held = "model.safetensors"
    env = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url, "TEXT_MODEL_NAME": "google/gemma"}
    process = subprocess.Popen(
        [FICTURES, "models", "pull"],
        cwd=tmp_path,
        env=env,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's tests ignore it
    )
    blobs = tmp_path / "cache/hub/models--google--gemma/blobs"
    for _ in range(300):
        if list(blobs.glob("*.incomplete")):
            break
        time.sleep(0.1)
    else:
        process.kill()
        pytest.fail("the download did not begin")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr) == (130, b"")
    assert list(blobs.glob("*.incomplete")) == []


def test_the_tiny_models_are_said_to_be_the_servers_own(pull: Any) -> None:
    run = pull()
    assert run.returncode == 0
    assert run.stdout.count("is not set: the server has a tiny model of its own") == 2


def test_what_was_fetched_is_all_that_the_image_engine_asks_for(pull: Any, tmp_path: Path) -> None:
    assert pull(IMAGE_MODEL_NAME="owner/sdxl").returncode == 0
    load = (
        "import torch; from image_engine.config import ModelSettings; from image_engine.loading import load_pipeline; "
        "print(load_pipeline(ModelSettings(model='owner/sdxl', variant='fp16'), torch.device('cpu')).unet.dtype)"
    )
    path = str(ROOT / "model_repository/sdxl_stream/1")
    env = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    run = subprocess.run([sys.executable, "-c", load], env=env, capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "torch.float32", run.stderr


def test_the_launcher_fetches_adapters_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    find = (
        "from launcher.models import find_lora_modules; from fictures.settings import Settings; "
        "print(find_lora_modules(Settings())['bold'])"
    )
    path = f"{ROOT / 'scripts'}:{ROOT / 'client'}"
    env = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.url, "PYTHONPATH": path}
    env |= {"TEXT_LORA_MODULES": '{"bold": "owner/bold"}'}
    run = subprocess.run([sys.executable, "-c", find], env=os.environ | env, capture_output=True, text=True, timeout=60)
    folder = cached(tmp_path, "owner/bold", "")
    assert run.stdout.strip() == f"LoraAdapter(folder='{folder}', rank=8)", run.stderr
    assert (folder / "adapter_model.safetensors").is_file()
    env |= {"HF_ENDPOINT": "http://127.0.0.1:9"}  # where nobody is: what was fetched serves the next start
    again = subprocess.run(
        [sys.executable, "-c", find], env=os.environ | env, capture_output=True, text=True, timeout=60
    )
    assert again.stdout == run.stdout, again.stderr


def test_no_space_is_found_out_before_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    from fictures.checkpoints import hub as client
    from fictures.errors import FicturesError

    client.check_space(1000)
    with pytest.raises(FicturesError, match=r"no space: the models take 1000000000\.0 GB more.*HF_HOME"):
        client.check_space(10**18)


def test_without_the_hubs_client_the_extra_is_named() -> None:
    code = "import sys; sys.modules['huggingface_hub'] = None; from fictures.cli import app; app(['models', 'pull'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert problem(run, 2) == "fictures: this needs the package huggingface_hub: pip install 'fictures[hub]'\n"
