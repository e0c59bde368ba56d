"""The tiny Gemma models: Gemma's tokenizer and chat template, whole files, the same ones for the same seed."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
from jinja2.exceptions import TemplateError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from make_tiny_gemma import Family, make_model

CLASSES = {
    Family.gemma: "GemmaForCausalLM",
    Family.gemma2: "Gemma2ForCausalLM",
    Family.gemma3: "Gemma3ForCausalLM",
}
TEXTS = ["Once upon a time", "  two spaces,  twice", "café, 你好 and 😀👩‍👩‍👧", 'a\n\nb\t{"age": 42}', "<unused7> &<b>"]
CHAT = [
    {"role": "user", "content": "Hello "},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": [{"type": "text", "text": "Tell me a story"}]},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    folders = {family: tmp_path_factory.mktemp("models") / family for family in Family}
    for family, folder in folders.items():
        make_model(folder, family, loras=["bold"])
    return folders


@pytest.fixture(params=list(Family))
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture
def tokenizer(models: dict[Family, Path], family: Family) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(models[family])


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    token_ids = tokenizer(text).input_ids
    assert token_ids[0] == tokenizer.bos_token_id == 2
    assert tokenizer.unk_token_id not in token_ids
    assert tokenizer.decode(token_ids, skip_special_tokens=True) == text


def test_what_the_vocabulary_lacks_is_cut_into_bytes(tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = tokenizer.tokenize("é😀")
    assert tokens == [f"<0x{byte:02X}>" for byte in "é😀".encode()]
    assert tokenizer.convert_tokens_to_ids("<0x00>") == 217


def test_reserved_tokens_have_gemmas_ids(tokenizer: PreTrainedTokenizerBase, family: Family) -> None:
    first = 105 if family is Family.gemma3 else 106
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2, 3, first, first + 1]


def test_a_chat_becomes_turns(tokenizer: PreTrainedTokenizerBase) -> None:
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n"
        "<start_of_turn>user\nTell me a story<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_chat_must_take_turns(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(TemplateError, match="must take turns"):
        tokenizer.apply_chat_template([CHAT[0], CHAT[0]], tokenize=False)


@pytest.mark.parametrize("family", [Family.gemma, Family.gemma2], indirect=True)
def test_gemma_1_and_2_take_no_system_message(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(TemplateError, match="no system message"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, CHAT[0]], tokenize=False)


@pytest.mark.parametrize("family", [Family.gemma3], indirect=True)
def test_gemma_3_puts_the_system_message_before_the_first_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = [{"role": "system", "content": "Be brief."}, CHAT[0]]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    assert text == "<bos><start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n"


def test_greedy_text_varies_and_its_characters_are_whole(
    models: dict[Family, Path], tokenizer: PreTrainedTokenizerBase, family: Family
) -> None:
    model = AutoModelForCausalLM.from_pretrained(models[family], dtype=torch.float32, attn_implementation="eager")
    assert type(model).__name__ == CLASSES[family]
    assert 2e6 < model.num_parameters() < 4e6
    prompts = ["Once upon a time", "The quiet lighthouse", "Write 😀"]
    answers = []
    for prompt in prompts:
        encoded = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**encoded, max_new_tokens=64, do_sample=False)
        answers.append(output[0, encoded.input_ids.shape[1] :].tolist())
    assert all(len(set(answer)) > 24 for answer in answers)
    text = "".join(tokenizer.decode(answer, skip_special_tokens=True) for answer in answers)
    assert any(ord(letter) > 0x7F for letter in text)


def test_generation_ends_at_gemmas_end_tokens_and_samples_by_no_defaults(
    models: dict[Family, Path], family: Family
) -> None:
    generation = json.loads((models[family] / "generation_config.json").read_text())
    end_of_turn = 106 if family is Family.gemma3 else 107
    assert generation == {"bos_token_id": 2, "eos_token_id": [1, end_of_turn], "pad_token_id": 0}


def test_the_adapter_has_pefts_names_and_fits_the_model(models: dict[Family, Path], family: Family) -> None:
    adapter = load_file(models[family] / "adapters/bold/adapter_model.safetensors")
    weights = load_file(models[family] / "model.safetensors")
    config = json.loads((models[family] / "adapters/bold/adapter_config.json").read_text())
    assert len(adapter) == 2 * 4 * 3
    for name in (name for name in adapter if "lora_A" in name):
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        delta = adapter[name.replace("lora_A", "lora_B")] @ adapter[name]
        assert delta.shape == weights[f"{module}.weight"].shape
        assert module.rsplit(".", 1)[-1] in config["target_modules"]


def test_the_same_seed_makes_the_same_files_and_another_seed_other_weights(
    models: dict[Family, Path], tmp_path: Path
) -> None:
    make_model(tmp_path / "again", Family.gemma, loras=["bold"])
    make_model(tmp_path / "other", Family.gemma, seed=1)
    assert digests(tmp_path / "again") == digests(models[Family.gemma])
    changed = {
        name for name, digest in digests(tmp_path / "other").items() if digests(tmp_path / "again")[name] != digest
    }
    assert changed == {"model.safetensors"}


def test_a_model_is_replaced_and_other_folders_are_left_alone(models: dict[Family, Path], tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="holds files but no model"):
        make_model(tmp_path / "notes")
    make_model(tmp_path / "model", seed=1)
    make_model(tmp_path / "model", loras=["bold"])
    assert digests(tmp_path / "model") == digests(models[Family.gemma])
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "model"}


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
