"""The model card of the trained model, with the numbers of its examination."""

from pathlib import Path
from typing import Any

from train_tiny.images import palette
from train_tiny.images.dataset import SIZES
from train_tiny.images.scene import KINDS

_CARD = Path(__file__).with_name("card.md")
_OF_TRAINING = ("scenes", "captions_a_scene", "vae_steps", "unet_steps", "seed", "device")


def write_card(report: dict[str, Any]) -> str:
    """The card's Markdown, from the report of the training."""
    found = report["examination"]
    rows = {
        name: " | ".join(f"{found[name][part]:.1%}" for part in ("sky", "colour", "kind", "all_three"))
        for name in ("own_words", "swapped_words", "renderer", "autoencoder")
    }
    return _CARD.read_text().format(
        kinds=", ".join(KINDS),
        colours=", ".join(palette.OBJECTS),
        skies=", ".join(palette.SKIES),
        sizes=", ".join(f"{width}x{height}" for width, height in SIZES),
        parameters=report["parameters"] / 1e6,
        minutes=(report["vae_seconds"] + report["unet_seconds"]) / 60,
        unasked=found["blue_sky_unasked"],
        refused=found["blue_sky_refused"],
        **{key: found[key] for key in ("count", "steps", "guidance")},
        **{key: report[key] for key in _OF_TRAINING},
        **rows,
    )
