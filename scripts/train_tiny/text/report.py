"""Writes the model card out of card.md: what the model is, its loss curves, its measures and some of its answers."""

from pathlib import Path
from typing import Any

from train_tiny.text.stories import plots


def write_card(folder: Path, report: dict[str, Any]) -> None:
    """Writes README.md into the model folder, from the training's report with its evaluation."""
    evaluation = report["evaluation"]
    history = report["history"]
    evaluated = [entry for entry in history if "eval_loss" in entry]
    logged = [entry for entry in history if "loss" in entry]
    nearest = [min(logged, key=lambda entry: abs(entry["step"] - at["step"]))["loss"] for at in evaluated]
    facts = {name: value for name, value in report.items() if name not in ("settings", "evaluation", "history")}
    card = (
        Path(__file__)
        .with_name("card.md")
        .read_text(encoding="utf-8")
        .format(
            **facts | report["settings"] | evaluation | {"parameters": report["parameters"] / 1e6},
            plots=len(plots()),
            eval_steps=", ".join(str(entry["step"]) for entry in evaluated),
            eval_losses=", ".join(f"{entry['eval_loss']:.3f}" for entry in evaluated),
            train_losses=", ".join(f"{loss:.3f}" for loss in nearest),
            samples=_samples(evaluation),
        )
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _samples(evaluation: dict[str, Any]) -> str:
    parts = []
    for name, title in (("greedy", "Greedy"), ("sampled", "Temperature 0.7")):
        for sample in evaluation[name]["samples"]:
            story = sample["story"].replace("\n\n", "\n>\n> ")
            parts.append(f"{title}: *{sample['request']}*\n\n> {story}")
    for sample in evaluation["json"]["samples"]:
        parts.append(f"Greedy: *{sample['request']}*\n\n```json\n{sample['json']}\n```")
    return "\n\n".join(parts)
