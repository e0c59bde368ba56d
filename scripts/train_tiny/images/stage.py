"""A stage of training: the loop, its learning rate, its averaged weights, its checkpoints and its curve."""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn

Losses = dict[str, torch.Tensor]
"""Scalars by name; `loss` is what is minimised."""

_WARM_UP = 200  # steps
_FLOOR = 0.02  # of the learning rate at the end
_NOTE_EVERY = 20  # steps between two points of the curve, which wait for the device
_PRINT_EVERY = 10.0  # seconds


@dataclass(frozen=True)
class Plan:
    """How long and how fast a stage learns; it ends with its steps or its seconds, whichever comes first.

    Steps alone make it reproducible: with a time limit, the pace of the learning rate is that of the machine.
    """

    steps: int
    learning_rate: float
    seconds: float | None = None
    weight_decay: float = 0.01
    average: float = 0.999
    """Of the exponential moving average of the weights, which is what is kept."""
    checkpoint_seconds: float = 120.0


@dataclass
class Progress:
    """How far a stage is; part of its checkpoints."""

    step: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    """Points with `step`, `seconds`, `learning_rate` and the mean losses since the last."""

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def train(name: str, module: nn.Module, losses: Callable[[nn.Module, int], Losses], plan: Plan, work: Path) -> Progress:
    """Trains `module` in place and leaves the averaged weights in it.

    Args:
        name: Of the stage, for what is printed and for its checkpoint.
        module: On its device already.
        losses: The losses of a step, by its number, which alone decides the examples: so a stage can be resumed.
        plan: How long and how fast.
        work: Where the checkpoint lies, and is taken up if there is one.
    """
    accelerator = Accelerator(mixed_precision="bf16" if next(module.parameters()).is_cuda else "no")
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=plan.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=plan.weight_decay,
        fused=next(module.parameters()).is_cuda,
    )
    average = EMAModel(module.parameters(), decay=plan.average, use_ema_warmup=True, power=0.8, foreach=True)
    prepared, optimizer = accelerator.prepare(module, optimizer)
    progress = Progress()
    accelerator.register_for_checkpointing(average, progress)
    checkpoint = work / f"{name}-checkpoint"
    if checkpoint.is_dir():
        accelerator.load_state(str(checkpoint))
        average.to(next(module.parameters()).device)
        print(f"{name}: goes on from step {progress.step}", flush=True)
    prepared.train()
    _loop(name, prepared, losses, plan, accelerator, optimizer, average, progress, checkpoint)
    average.copy_to(module.parameters())
    accelerator.free_memory()
    shutil.rmtree(checkpoint, ignore_errors=True)
    module.eval()
    return progress


def _loop(
    name: str,
    module: nn.Module,
    losses: Callable[[nn.Module, int], Losses],
    plan: Plan,
    accelerator: Accelerator,
    optimizer: Any,
    average: EMAModel,
    progress: Progress,
    checkpoint: Path,
) -> None:
    begun = time.monotonic() - progress.seconds
    printed, saved = progress.seconds, progress.seconds
    sums: Losses = {}
    while (done := _done(progress, plan)) < 1:
        rate = plan.learning_rate * _pace(progress.step, done)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with accelerator.autocast():
            parts = losses(module, progress.step)
        accelerator.backward(parts["loss"])
        accelerator.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.step(module.parameters())
        progress.step += 1
        sums = {key: sums.get(key, 0) + value.detach() for key, value in parts.items()}
        if progress.step % _NOTE_EVERY == 0:
            point = {key: float(value) / _NOTE_EVERY for key, value in sums.items()}
            sums = {}
            progress.curve.append(
                {"step": progress.step, "seconds": time.monotonic() - begun, "learning_rate": rate, **point}
            )
        progress.seconds = time.monotonic() - begun
        if progress.curve and progress.seconds - printed > _PRINT_EVERY:
            printed = progress.seconds
            print(f"{name}: {_shown(progress, plan)}", flush=True)
        if progress.seconds - saved > plan.checkpoint_seconds:
            saved = progress.seconds
            _save(accelerator, checkpoint)


def _save(accelerator: Accelerator, checkpoint: Path) -> None:
    """Writes a checkpoint beside the last one and then takes its place, so that there is always a whole one."""
    fresh = checkpoint.with_suffix(".new")
    accelerator.save_state(str(fresh))
    shutil.rmtree(checkpoint, ignore_errors=True)
    fresh.rename(checkpoint)


def _done(progress: Progress, plan: Plan) -> float:
    by_time = progress.seconds / plan.seconds if plan.seconds else 0.0
    return max(progress.step / plan.steps, by_time)


def _pace(step: int, done: float) -> float:
    """The learning rate from 0 to 1: a short rise, then half a cosine down to `_FLOOR`."""
    return min(1, (step + 1) / _WARM_UP) * (_FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * min(done, 1))) / 2)


def _shown(progress: Progress, plan: Plan) -> str:
    last = progress.curve[-1]
    losses = ", ".join(
        f"{key} {value:.4f}" for key, value in last.items() if key not in ("step", "seconds", "learning_rate")
    )
    return f"{_done(progress, plan):4.0%}, step {progress.step}, {progress.seconds:.0f} s, {losses}"
