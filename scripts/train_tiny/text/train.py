"""Trains the tiny Gemma from nothing, with transformers' Trainer, and writes its folder."""

import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import AutoTokenizer, GemmaConfig, GemmaForCausalLM, Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from tiny_models.gemma_tokenizer import BOS, EOS, PAD, build_tokenizer, save_tokenizer
from tiny_models.gemma_weights import make_config
from train_tiny.text.documents import END_OF_TURN, make_rows, texts

LAYERS, INTERMEDIATE = 4, 960
LEARNED_TOKENS = 2400
TOKENIZER_DOCUMENTS = 6000


@dataclass(frozen=True)
class Settings:
    """What makes one training differ from another."""

    seed: int
    documents: int
    steps: int
    rows_per_step: int
    context: int
    """Tokens in a row."""
    learning_rate: float


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Packed rows as the Trainer takes them."""

    def __init__(self, ids: np.ndarray, labels: np.ndarray) -> None:
        self.ids, self.labels = ids, labels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        columns = {"input_ids": self.ids[row], "labels": self.labels[row]}
        return {name: torch.from_numpy(column.astype(np.int64)) for name, column in columns.items()}


def train(output: Path, checkpoints: Path, settings: Settings, *, compiled: bool = False) -> dict[str, Any]:
    """Writes the model to `output` and returns the course of its training.

    Begun again with the same settings and checkpoints, it goes on from the last checkpoint.

    Raises:
        ValueError: `checkpoints` holds those of other settings.
    """
    _claim(checkpoints, settings)
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    if not (checkpoints / "tokenizer.json").exists():
        learned = build_tokenizer(
            "gemma", texts(settings.seed, min(TOKENIZER_DOCUMENTS, settings.documents)), LEARNED_TOKENS
        )
        save_tokenizer(learned, checkpoints, "gemma")
    tokenizer = AutoTokenizer.from_pretrained(checkpoints)
    rows = Rows(*make_rows(checkpoints, settings.seed, settings.documents, settings.context))
    held_out_documents = max(20, settings.documents // 800)  # few: they are measured twenty times
    held_out = Rows(*make_rows(checkpoints, settings.seed, held_out_documents, settings.context, "held-out"))
    prepared = time.monotonic()
    print(f"{len(rows)} rows of {settings.context} tokens after {prepared - started:.0f} s", flush=True)

    set_seed(settings.seed)
    model = GemmaForCausalLM(config(len(tokenizer)))
    trainer = Trainer(model, _arguments(checkpoints, settings, compiled), train_dataset=rows, eval_dataset=held_out)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(checkpoints)))
    _save(model, checkpoints, output)
    return {
        "settings": asdict(settings),
        "parameters": model.num_parameters(),
        "rows": len(rows),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"a CPU (torch threads: {torch.get_num_threads()})",
        "seconds_preparing": round(prepared - started),
        "seconds_training": round(time.monotonic() - prepared),
        "history": [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry],
    }


def config(vocabulary: int) -> GemmaConfig:
    """The shape of the model: some 4.3 million parameters, 8.7 MB in bfloat16."""
    shape = make_config("gemma", vocabulary)
    shape.num_hidden_layers, shape.intermediate_size = LAYERS, INTERMEDIATE
    return shape


def _arguments(checkpoints: Path, settings: Settings, compiled: bool) -> TrainingArguments:
    has_gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.rows_per_step,
        per_device_eval_batch_size=settings.rows_per_step,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.steps / 20),
        weight_decay=0.1,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        bf16=has_gpu,
        torch_compile=compiled,
        dataloader_num_workers=2 if has_gpu else 0,
        dataloader_pin_memory=has_gpu,
        logging_steps=math.ceil(settings.steps / 100),
        eval_strategy="steps",
        eval_steps=math.ceil(settings.steps / 20),
        save_steps=math.ceil(settings.steps / 10),
        save_total_limit=1,
        prediction_loss_only=True,
        seed=settings.seed,
        report_to="none",
        disable_tqdm=True,
    )


def _claim(checkpoints: Path, settings: Settings) -> None:
    """Makes the folder, or sees that it belongs to the same training."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    file = checkpoints / "settings.json"
    if file.exists() and json.loads(file.read_text()) != asdict(settings):
        raise ValueError(
            f"--checkpoints {checkpoints}: holds those of other settings: give another folder or delete it."
        )
    file.write_text(json.dumps(asdict(settings)) + "\n")


def _save(model: GemmaForCausalLM, checkpoints: Path, output: Path) -> None:
    model.config.use_cache = True  # the Trainer turned it off
    model.to("cpu", torch.bfloat16).save_pretrained(output)
    (output / "model.safetensors").chmod(0o644)  # safetensors makes its files private to their owner
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(checkpoints / name, output / name)
    generation = {"bos_token_id": BOS, "eos_token_id": [EOS, END_OF_TURN], "pad_token_id": PAD}
    (output / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
