"""The whole training: both stages, the examination, and what is written."""

import json
import math
import tarfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline

from train_tiny.images import evaluation, models
from train_tiny.images.autoencoder import train_autoencoder
from train_tiny.images.card import write_card
from train_tiny.images.dataset import CAPTIONS_A_SCENE, example_captions
from train_tiny.images.denoiser import train_denoiser
from train_tiny.images.report import write_contact_sheet, write_curves
from train_tiny.images.stage import Plan, Progress

_CAPTIONS_FOR_TOKENIZER = 20_000
_SHOWN = 30  # pictures on the contact sheet
_OTHER_SIZES = {
    (512, 256): "a red boat on the sea at sunset",
    (256, 384): "a yellow balloon over the hills under a blue sky",
    (384, 384): "a black cat in the snow at night, with the moon",
    (320, 256): "two white houses in a meadow",
    (512, 512): "a pink rabbit in a meadow under a green sky",
    (448, 320): "a purple car on the beach and a white bird",
}


@dataclass(frozen=True)
class Options:
    """Of the command, which explains them."""

    output: Path
    seed: int
    scenes: int
    vae_scenes: int
    vae_steps: int
    vae_batch: int
    vae_learning_rate: float
    vae_seconds: float | None
    unet_steps: int
    unet_batch: int
    unet_learning_rate: float
    unet_seconds: float | None
    examined: int
    workers: int
    stop_after: float | None
    cuda_graphs: bool

    def plan(self, steps: int, learning_rate: float, seconds: float | None, begun: float) -> Plan:
        """Of one stage of a run that began at `begun`, in the time of `time.monotonic`."""
        stop_at = math.inf if self.stop_after is None else begun + self.stop_after
        return Plan(steps, learning_rate, seconds, stop_at=stop_at, cuda_graphs=self.cuda_graphs)


def run(given: Options) -> None:
    """Trains and writes everything under `given.output`; an interrupted run is taken up where its checkpoints are.

    Raises:
        Stopped: `given.stop_after` seconds are over and a checkpoint is written.
    """
    begun = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    work = given.output / "work"
    work.mkdir(parents=True, exist_ok=True)
    vae, vae_progress = _autoencoder(given, device, work, begun)
    tokenizer = models.build_tokenizer(example_captions(_CAPTIONS_FOR_TOKENIZER, given.seed))
    plan = given.plan(given.unet_steps, given.unet_learning_rate, given.unet_seconds, begun)
    options = {"scenes": given.scenes, "batch": given.unet_batch, "seed": given.seed, "workers": given.workers}
    denoiser, unet_progress = train_denoiser(plan, vae, tokenizer, work=work, **options)
    pipeline = models.build_trained_pipeline(vae, denoiser.unet, denoiser.text_encoders, tokenizer)
    folder = given.output / "tiny-sdxl"
    models.save_pipeline(pipeline, folder)
    report = {
        "seed": given.seed,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "the CPU",
        "torch": torch.__version__,
        "parameters": sum(
            parameter.numel()
            for part in (vae, denoiser.unet, *denoiser.text_encoders)
            for parameter in part.parameters()
        ),
        "captions_a_scene": CAPTIONS_A_SCENE,
        "vae_steps": vae_progress.step,
        "vae_seconds": vae_progress.seconds,
        "unet_steps": unet_progress.step,
        "unet_seconds": unet_progress.seconds,
        **{
            key: value
            for key, value in asdict(given).items()
            if key in ("scenes", "vae_scenes", "vae_batch", "unet_batch")
        },
    }
    _write_results(given, folder, report, device, {"autoencoder": vae_progress, "denoiser": unet_progress}, begun)


def _autoencoder(given: Options, device: torch.device, work: Path, begun: float) -> tuple[AutoencoderKL, Progress]:
    """A finished one from an interrupted run with the same output folder, else a new one."""
    folder, curve = work / "autoencoder", work / "autoencoder.json"
    if curve.exists():
        return AutoencoderKL.from_pretrained(folder).to(device).eval(), Progress(**json.loads(curve.read_text()))
    plan = given.plan(given.vae_steps, given.vae_learning_rate, given.vae_seconds, begun)
    options = {"scenes": given.vae_scenes, "batch": given.vae_batch, "seed": given.seed, "workers": given.workers}
    vae, progress = train_autoencoder(plan, device=device, work=work, **options)
    print(f"autoencoder: {evaluation.examine_autoencoder(vae, given.examined)}", flush=True)
    vae.save_pretrained(folder)
    curve.write_text(json.dumps(asdict(progress)))
    return vae, progress


def _write_results(
    given: Options,
    folder: Path,
    report: dict[str, Any],
    device: torch.device,
    stages: dict[str, Progress],
    begun: float,
) -> None:
    """Examines the model as it lies in its folder and writes report, pictures, model card and `result.tar`."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    pipeline.to(device)
    found = evaluation.examine(pipeline, given.examined)
    numbers = {key: value for key, value in asdict(found).items() if key not in ("captions", "pictures")}
    numbers |= {"count": given.examined, "steps": evaluation.STEPS, "guidance": evaluation.GUIDANCE}
    report |= {"examination": numbers, "all_seconds": time.monotonic() - begun}
    print(json.dumps(report, indent=2), flush=True)
    write_contact_sheet(folder / "samples.jpg", found.pictures[:_SHOWN], found.captions[:_SHOWN], columns=6)
    others = [evaluation.draw(pipeline, [caption], size=size)[0] for size, caption in _OTHER_SIZES.items()]
    write_contact_sheet(given.output / "sizes.jpg", others, list(_OTHER_SIZES.values()), columns=3)
    write_curves(folder / "curves.png", stages)
    curves = {name: progress.curve for name, progress in stages.items()}
    (given.output / "report.json").write_text(json.dumps({**report, "curves": curves}) + "\n")
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (folder / "README.md").write_text(write_card(report))
    with tarfile.open(given.output / "result.tar", "w") as archive:
        for name in (folder.name, "report.json", "sizes.jpg"):
            archive.add(given.output / name, name)
