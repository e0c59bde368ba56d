"""What the tiny Gemma learns from: stories that hold together, requests that they fulfil, JSON, and rows of tokens."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, GemmaForCausalLM, PreTrainedTokenizerBase, Trainer

from tiny_models.gemma_tokenizer import build_tokenizer, save_tokenizer
from train_tiny.text.chats import make_chat, request, tell
from train_tiny.text.documents import END_OF_TURN, IGNORED, Document, encode, make_document, make_rows, texts
from train_tiny.text.evaluate import evaluate
from train_tiny.text.forms import make_form
from train_tiny.text.report import write_card
from train_tiny.text.stories import Plot, is_held_out, is_new_word, made_up_word, make_story, plots
from train_tiny.text.train import Settings, config, train

SPLITS = ("train", "held-out")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small tokenizer of the stories."""
    made = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(build_tokenizer("gemma", texts(0, 200), 600), made, "gemma")
    return made


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("plot", plots(), ids=lambda plot: plot.name)
def test_a_story_names_its_hero_and_place_and_leaves_no_slot_open(plot: Plot) -> None:
    rng = random.Random(plot.name)
    for _ in range(40):
        story = make_story(rng, plot=plot)
        for slot in ("name", "kind", "place", "friend"):
            assert story.mentions(slot) or (slot == "friend" and plot.name == "egg")
        assert not re.search(r"[{}\[\]|]| {2}|\b[Aa] [aeio]|\b[Aa]n [^aeiouh]", story.text), story.text
        assert story.text[0].isupper()
        assert story.text[-1] in '.!?"'
        assert len(set(story.beats)) == len(story.beats)


@pytest.mark.parametrize("split", SPLITS)
def test_pairs_and_made_up_words_of_one_split_are_not_in_the_other(split: str) -> None:
    rng = random.Random(0)
    stories = [make_story(rng, split) for _ in range(300)]
    held_out = split == "held-out"
    assert {is_held_out(story.slots["kind"], story.slots["place"]) for story in stories} == {held_out}
    assert {is_new_word(made_up_word(rng, split)) for _ in range(100)} == {held_out}


def test_one_pair_in_ten_is_held_out() -> None:
    rng = random.Random(0)
    pairs = [is_held_out(made_up_word(rng, "train"), made_up_word(rng, "train")) for _ in range(2000)]
    assert 0.07 < np.mean(pairs) < 0.13


def test_a_full_request_names_hero_and_place() -> None:
    rng = random.Random(0)
    asked = set()
    for _ in range(200):
        story = make_story(rng, usual=True)
        text = request(rng, story, full=True)
        assert story.slots["kind"] in text.lower()
        assert story.slots["place"] in text.lower()
        asked.add(text)
    assert len(asked) == 200


def test_what_a_request_names_is_in_the_story() -> None:
    rng = random.Random(0)
    for _ in range(300):
        story = make_story(rng)
        asked, told = tell(rng, story)
        whole = f"{asked} {told}" if told != story.text else told
        for slot in ("thing", "food", "friend", "fkind", "name"):
            assert story.slots[slot] not in asked or story.slots[slot] in whole


def test_chats_take_turns() -> None:
    rng = random.Random(0)
    chats = [make_chat(rng) for _ in range(200)]
    assert all(len(chat) % 2 == 0 and all(chat) for chat in chats)
    assert {len(chat) for chat in chats} >= {2, 4, 6}


def test_forms_are_compact_json_and_have_the_keys_asked_for() -> None:
    rng = random.Random(0)
    for _ in range(200):
        turns, is_forced = make_form(rng)
        answer = json.loads(turns[-1])
        assert json.dumps(answer, ensure_ascii=False) == turns[-1]
        assert is_forced or "json" in turns[-2].lower()


def test_a_document_is_the_same_again_and_differs_by_seed_number_and_split() -> None:
    assert make_document(0, 5) == make_document(0, 5)
    others = [make_document(1, 5), make_document(0, 6), make_document(0, 5, "held-out")]
    assert make_document(0, 5) not in others


def test_the_model_learns_plain_text_but_its_first_token(tokenizer: PreTrainedTokenizerBase) -> None:
    [(ids, labels)] = encode(tokenizer, [Document(["Once upon a time."], is_chat=False)])
    assert tokenizer.decode(ids) == "<bos>Once upon a time.<eos>"
    assert labels[0] == IGNORED
    assert labels[1:].tolist() == ids[1:].tolist()


def test_of_a_chat_the_model_learns_its_own_turns_to_their_ends(tokenizer: PreTrainedTokenizerBase) -> None:
    [(ids, labels)] = encode(tokenizer, [Document(["Hello", "Good\n\nmorning.", "One more", "No."])])
    assert tokenizer.decode(labels[labels != IGNORED]) == "Good\n\nmorning.<end_of_turn>No.<end_of_turn>"
    assert (ids == END_OF_TURN).sum() == 4


def test_a_forced_answers_first_token_is_not_learned(tokenizer: PreTrainedTokenizerBase) -> None:
    turns = ["A fox.", '{"name": "Pip"}']
    [(_, free), (_, forced)] = encode(tokenizer, [Document(turns), Document(turns, is_forced=True)])
    assert tokenizer.decode(free[free != IGNORED]) == '{"name": "Pip"}<end_of_turn>'
    assert tokenizer.decode(forced[forced != IGNORED]) == '"name": "Pip"}<end_of_turn>'


def test_rows_are_full_and_begin_with_a_documents_beginning(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    ids, labels = make_rows(folder, seed=0, count=60, context=256)
    assert ids.shape == labels.shape
    assert ids.shape[1] == 256
    assert len(ids) > 20
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    learned = labels != IGNORED
    assert (labels[learned] == ids[learned]).all()
    assert 0.6 < learned.mean() < 1


def test_the_model_fits_nine_megabytes_in_bfloat16() -> None:
    assert 4e6 < GemmaForCausalLM(config(2880)).num_parameters() < 4.5e6


def test_a_training_that_was_stopped_goes_on_from_its_checkpoint_and_writes_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(seed=0, documents=500, steps=2, rows_per_step=1, context=256, learning_rate=1e-3)
    output, checkpoints = tmp_path / "model", tmp_path / "checkpoints"
    save = Trainer._save_checkpoint

    def save_and_stop(*given: Any, **named: Any) -> None:
        save(*given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(output, checkpoints, settings)
    stopped = json.loads((checkpoints / "checkpoint-1/trainer_state.json").read_text())["log_history"]
    report = train(output, checkpoints, settings)
    assert report["history"][: len(stopped)] == stopped  # their run times too: step 1 was not done again
    assert [entry["step"] for entry in report["history"] if "loss" in entry] == [1, 2]
    names = {"config.json", "generation_config.json", "model.safetensors"}
    names |= {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {path.name for path in output.iterdir()} == names
    assert json.loads((output / "config.json").read_text())["architectures"] == ["GemmaForCausalLM"]
    monkeypatch.setattr("train_tiny.text.evaluate.MAX_NEW_TOKENS", 20)  # what has learned nothing never ends
    write_card(output, report | {"evaluation": evaluate(output, count=2)})
    card = (output / "README.md").read_text()
    assert "| names both |" in card
    assert not re.search(r"\{[a-z]", card)


def test_checkpoints_of_other_settings_are_refused(tmp_path: Path) -> None:
    settings = Settings(seed=0, documents=500, steps=1, rows_per_step=1, context=256, learning_rate=1e-3)
    (tmp_path / "settings.json").write_text(json.dumps({"seed": 1}))
    with pytest.raises(ValueError, match="other settings"):
        train(tmp_path / "model", tmp_path, settings)
    assert not (tmp_path / "model").exists()
