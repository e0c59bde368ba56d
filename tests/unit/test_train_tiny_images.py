"""The pictures that the tiny Stable Diffusion XL learns from, how they are read back, and the training loop."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from train_tiny.images.captions import describe, describe_fully
from train_tiny.images.dataset import SIZES, render_scenes
from train_tiny.images.evaluation import Score
from train_tiny.images.reading import read_pictures
from train_tiny.images.rendering import Frame, render
from train_tiny.images.scene import Scene, sample_scene
from train_tiny.images.stage import Examples, Losses, Plan, Stopped, train

HOME = Frame.whole(256, 256)


def scenes_of_one_object(count: int, *, held_out: bool = True) -> list[Scene]:
    rng = random.Random(1)
    return [sample_scene(rng, held_out=held_out, alone=True) for _ in range(count)]


@pytest.mark.parametrize("size", [(256, 256), (512, 256), (256, 384), (512, 512)])
def test_what_is_rendered_is_read_back(size: tuple[int, int]) -> None:
    scenes = scenes_of_one_object(60)
    readings = read_pictures([Image.fromarray(render(scene, Frame.whole(*size))) for scene in scenes])
    assert Score.of(readings, scenes).all_three >= 0.97
    swapped = Score.of(readings, scenes[1:] + scenes[:1])
    assert max(swapped.sky, swapped.colour, swapped.kind) < 0.4


def test_an_empty_picture_has_no_object() -> None:
    [reading] = read_pictures([Image.new("RGB", (256, 256), (124, 190, 246))])
    assert (reading.sky, reading.colour, reading.kind) == ("blue", None, None)


def test_training_never_sees_the_combinations_of_the_examination() -> None:
    def combinations(scenes: list[Scene]) -> set[tuple[str, str, str]]:
        return {(scene.main.kind, scene.main.colour, scene.sky) for scene in scenes}

    examined = combinations(scenes_of_one_object(200))
    trained = combinations(scenes_of_one_object(2000, held_out=False))
    assert len(examined) > 20
    assert not examined & trained


def test_the_same_scene_is_the_same_picture_and_a_frame_is_a_cut_of_it() -> None:
    [scene] = scenes_of_one_object(1)
    whole = render(scene, Frame.whole(320, 288))
    assert np.array_equal(whole, render(scene, Frame.whole(320, 288)))
    frame = Frame(256, 256, original_width=320, original_height=288, left=40, top=10)
    assert np.array_equal(render(scene, frame), whole[10:266, 40:296])
    assert frame.time_ids == (288, 320, 10, 40, 256, 256)


def test_a_full_caption_names_object_colour_and_sky_and_others_leave_out_some() -> None:
    rng = random.Random(2)
    for scene in scenes_of_one_object(50):
        words = describe_fully(scene, rng)
        assert scene.main.colour in words or scene.main.colour in ("purple", "red")  # those have another name
        assert " sky" in words or " at " in words or " day" in words or "night" in words or " the " in words
    [scene] = scenes_of_one_object(1)
    lengths = {len(describe(scene, rng).split()) for _ in range(200)}
    assert min(lengths) <= 4
    assert max(lengths) >= 10


def test_scenes_come_in_all_sizes_the_same_for_the_same_seed_and_a_reader_may_leave() -> None:
    first, second = (list(render_scenes(30, 5, workers)) for workers in (1, 2))
    assert {chunk.size for chunk in first} == set(SIZES)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))
    assert [a.captions for a in first] == [b.captions for b in second]
    left_early = render_scenes(1000, 5, 1, only=(256, 256))
    assert next(left_early).pixels.shape == (64, 256, 256, 3)
    left_early.close()


def learn_a_line(
    work: Path, stop: int | None = None, checkpoint_seconds: float = 1e9, **times: float
) -> tuple[nn.Module, list[float]]:
    """40 steps towards y = 2x; `stop` breaks the run off before that step."""
    torch.manual_seed(0)
    module, seen = nn.Linear(1, 1), []

    def examples(step: int) -> Examples:
        if step == stop:
            raise KeyboardInterrupt
        return (torch.randn((8, 1), generator=torch.Generator().manual_seed(step)),)

    def losses(line: nn.Module, given: Examples) -> Losses:
        loss = (line(given[0]) - 2 * given[0]).square().mean()
        seen.append(loss.item())
        return {"loss": loss}

    plan = Plan(steps=40, learning_rate=0.5, checkpoint_seconds=checkpoint_seconds, **times)
    train("line", module, examples, losses, plan, work)
    return module, seen


def test_a_run_that_was_broken_off_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    straight, losses = learn_a_line(tmp_path / "straight")
    assert losses[-1] < losses[0] / 2
    with pytest.raises(KeyboardInterrupt):
        learn_a_line(tmp_path / "broken", stop=25, checkpoint_seconds=0)
    resumed, rest = learn_a_line(tmp_path / "broken")
    assert rest == losses[25:]
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert not list((tmp_path / "broken").iterdir())


def test_a_run_whose_time_is_over_leaves_a_checkpoint_from_which_it_goes_on(tmp_path: Path) -> None:
    straight, _ = learn_a_line(tmp_path / "straight")
    with pytest.raises(Stopped, match="line: stopped at step 1; the same command goes on"):
        learn_a_line(tmp_path / "stopped", stop_at=0.0)
    resumed, rest = learn_a_line(tmp_path / "stopped")
    assert len(rest) == 39
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
