"""`python -m train_tiny.images`: renders scenes, trains a tiny Stable Diffusion XL on them, examines it and writes it.

A new run with the output folder of an interrupted one, and the same options, goes on where that one was.
"""

import argparse
import os
from pathlib import Path


def main() -> None:
    """The command."""
    options = vars(_arguments())
    # Not above: processes that render import this file.
    from train_tiny.images.stage import Stopped
    from train_tiny.images.training import Options, run

    try:
        run(Options(**options))
    except Stopped as stopped:
        print(stopped, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train_tiny.images", description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder for the model, its report and, meanwhile, checkpoints")
    add("--seed", type=int, default=0, help="decides weights, scenes and noise")
    add("--scenes", type=int, default=60_000, help="for UNet and text encoders")
    add("--vae-scenes", type=int, default=12_000, help="for the autoencoder; 196 KB of the device's memory each")
    add("--vae-steps", type=int, default=5_100)
    add("--vae-batch", type=int, default=32, help="pictures a step")
    add("--vae-learning-rate", type=float, default=1e-3)
    add("--vae-seconds", type=float, help="ends the autoencoder's training earlier if need be")
    add("--unet-steps", type=int, default=17_300)
    add("--unet-batch", type=int, default=256, help="pictures of 256x256 a step; of larger ones so many fewer")
    add("--unet-learning-rate", type=float, default=1e-3)
    add("--unet-seconds", type=float, help="ends the training of UNet and text encoders earlier if need be")
    add("--examined", type=int, default=200, help="held-out captions that the model is examined with")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes that render")
    add("--stop-after", type=float, help="seconds after which to write a checkpoint and end; the same command goes on")
    graphs = (
        "replay each step as one CUDA graph: a tiny model's steps wait for launches otherwise; without effect on a CPU"
    )
    add("--cuda-graphs", action=argparse.BooleanOptionalAction, default=True, help=graphs)
    return parser.parse_args()


if __name__ == "__main__":
    main()
