"""A stage of training: the loop, its learning rate, its averaged weights, its checkpoints and its curve."""

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn

Examples = tuple[torch.Tensor, ...]
"""What a step learns from, on the training device."""

Losses = dict[str, torch.Tensor]
"""Scalars by name; `loss` is what is minimised."""

FindLosses = Callable[[nn.Module, Examples], Losses]
"""Of the module, of some examples; waits for nothing on the device, so that it can be part of a CUDA graph."""

_WARM_UP = 200  # steps
_FLOOR = 0.02  # of the learning rate at the end
_NOTE_EVERY = 20  # steps between two points of the curve, which wait for the device
_PRINT_EVERY = 10.0  # seconds
_EAGER_STEPS = 4  # for each shape of examples, before its step becomes a CUDA graph


class Stopped(Exception):
    """The time of this run is over and a checkpoint is written; the same run again goes on from it."""


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
    stop_at: float = math.inf
    """The `time.monotonic()` at which to write a checkpoint and raise `Stopped`."""
    cuda_graphs: bool = True
    """On a GPU, where a tiny model's steps otherwise wait for their hundreds of kernels to be launched."""


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


def train(
    name: str,
    module: nn.Module,
    examples: Callable[[int], Examples],
    find_losses: FindLosses,
    plan: Plan,
    work: Path,
) -> Progress:
    """Trains `module` in place and leaves the averaged weights in it.

    Args:
        name: Of the stage, for what is printed and for its checkpoint.
        module: On its device already.
        examples: Of a step, by its number, which alone decides them: so a stage can be resumed.
        find_losses: The losses of a step.
        plan: How long and how fast.
        work: Where the checkpoint lies, and is taken up if there is one.

    Raises:
        Stopped: `plan.stop_at` has come.
    """
    on_gpu = next(module.parameters()).is_cuda
    accelerator = Accelerator(mixed_precision="bf16" if on_gpu else "no")
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=plan.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=plan.weight_decay,
        fused=on_gpu,
        capturable=on_gpu,
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
    step = _Step(accelerator, prepared, optimizer, find_losses, graphs=on_gpu and plan.cuda_graphs)
    with _stream_of_its_own() if on_gpu else nullcontext():
        _loop(name, step, examples, plan, average, progress, checkpoint)
    average.copy_to(module.parameters())
    accelerator.free_memory()
    shutil.rmtree(checkpoint, ignore_errors=True)
    module.eval()
    return progress


@contextmanager
def _stream_of_its_own() -> Iterator[None]:
    """CUDA graphs cannot be recorded on the default stream, nor hold gradients that were begun there."""
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        yield
    torch.cuda.synchronize()


class _Step:
    """A step of learning: losses, gradients, new weights. With `graphs` it is recorded once for each shape of examples.

    A recorded step is replayed with one launch, whatever the number of its kernels.
    """

    def __init__(
        self, accelerator: Accelerator, module: nn.Module, optimizer: Any, find_losses: FindLosses, *, graphs: bool
    ) -> None:
        self.accelerator = accelerator
        self.module = module
        self._optimizer = optimizer
        self._find_losses = find_losses
        self._seen: Counter[tuple[torch.Size, ...]] | None = Counter() if graphs else None
        self._recorded: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, Examples, Losses]] = {}
        for group in optimizer.param_groups if next(module.parameters()).is_cuda else ():
            # A tensor, since a recorded step would keep a number for ever.
            group["lr"] = torch.tensor(float(group["lr"]), device="cuda")

    def __call__(self, examples: Examples, learning_rate: float) -> Losses:
        """The losses before the step; with graphs they hold until the next."""
        for group in self._optimizer.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate
        shapes = tuple(example.shape for example in examples)
        if self._seen is None:
            return self._learn(examples)
        self._seen[shapes] += 1
        if self._seen[shapes] <= _EAGER_STEPS:
            return self._learn(examples)
        if shapes not in self._recorded:
            self._recorded[shapes] = self._record(examples)
        graph, places, losses = self._recorded[shapes]
        for place, example in zip(places, examples, strict=True):
            place.copy_(example)
        graph.replay()
        return losses

    def _learn(self, examples: Examples) -> Losses:
        with self.accelerator.autocast():
            losses = self._find_losses(self.module, examples)
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.module.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return {key: value.detach() for key, value in losses.items()}

    def _record(self, examples: Examples) -> tuple[torch.cuda.CUDAGraph, Examples, Losses]:
        places = tuple(example.clone() for example in examples)
        graph = torch.cuda.CUDAGraph()
        # All share memory: they are replayed one at a time, and nothing but their losses is read afterwards.
        pool = next(iter(self._recorded.values()))[0].pool() if self._recorded else None
        with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream()):
            losses = self._learn(places)
        return graph, places, losses


def _loop(
    name: str,
    step: _Step,
    examples: Callable[[int], Examples],
    plan: Plan,
    average: EMAModel,
    progress: Progress,
    checkpoint: Path,
) -> None:
    begun = time.monotonic() - progress.seconds
    printed, saved = progress.seconds, progress.seconds
    sums: Losses = {}
    while (done := _done(progress, plan)) < 1:
        rate = plan.learning_rate * _pace(progress.step, done)
        parts = step(examples(progress.step), rate)
        average.step(step.module.parameters())
        progress.step += 1
        sums = {key: sums.get(key, 0) + value for key, value in parts.items()}
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
        stops = time.monotonic() >= plan.stop_at
        if stops or progress.seconds - saved > plan.checkpoint_seconds:
            saved = progress.seconds
            _save(step.accelerator, checkpoint)
        if stops:
            raise Stopped(f"{name}: stopped at step {progress.step}; the same command goes on from there")


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
