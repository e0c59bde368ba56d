"""`fictures image` as a person runs it, in a process of its own, as in `test_client_cli`."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from test_client_cli import FICTURES, one_line, run
from test_client_images import STEPS, FakeImageTriton, image_file


@pytest.fixture
def triton() -> Iterator[FakeImageTriton]:
    server = FakeImageTriton()
    yield server
    server.stop()


# What is written


def test_image_writes_the_file_and_prints_its_name(triton: FakeImageTriton, tmp_path: Path) -> None:
    result = run("image", "harbour", "-o", "dawn.png", "--url", triton.url, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "dawn.png\n", "")
    assert (tmp_path / "dawn.png").read_bytes() == image_file()
    assert triton.request.model_name == "sdxl_stream"


def test_without_a_name_the_file_is_image_png(triton: FakeImageTriton, tmp_path: Path) -> None:
    assert run("image", "harbour", "--url", triton.url, cwd=tmp_path).stdout == "image.png\n"
    assert (tmp_path / "image.png").read_bytes() == image_file()


def test_several_images_are_numbered(triton: FakeImageTriton, tmp_path: Path) -> None:
    output = tmp_path / "dawn.png"
    result = run("image", "harbour", "-o", str(output), "--num-images", "2", "--url", triton.url)
    assert result.stdout == f"{tmp_path}/dawn-1.png\n{tmp_path}/dawn-2.png\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dawn-1.png", "dawn-2.png"]


@pytest.mark.parametrize(
    ("name", "sent"), [("a.png", "png"), ("a.jpg", "jpeg"), ("a.JPEG", "jpeg"), ("a.webp", "webp")]
)
def test_the_suffix_says_the_format(name: str, sent: str, triton: FakeImageTriton, tmp_path: Path) -> None:
    run("image", "harbour", "-o", name, "--url", triton.url, cwd=tmp_path)
    assert triton.inputs()["output_format"] == sent
    assert (tmp_path / name).read_bytes() == image_file(sent)


def test_a_format_that_is_named_wins(triton: FakeImageTriton, tmp_path: Path) -> None:
    run("image", "harbour", "-o", "dawn", "--format", "webp", "--url", triton.url, cwd=tmp_path)
    assert (tmp_path / "dawn").read_bytes() == image_file("webp")


@pytest.mark.parametrize("options", [["--preview", "--preview-every", "2"], ["--preview-every", "2"]])
def test_previews_are_written_beside_the_output(options: list[str], triton: FakeImageTriton, tmp_path: Path) -> None:
    result = run("image", "harbour", "-o", "dawn.png", *options, "--url", triton.url, cwd=tmp_path)
    assert result.stdout == "dawn.png\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dawn.png", "dawn.preview.jpg"]
    with Image.open(tmp_path / "dawn.preview.jpg") as preview:
        assert (preview.format, preview.size) == ("JPEG", (16, 8))


def test_previews_of_several_images_are_numbered(triton: FakeImageTriton, tmp_path: Path) -> None:
    run("image", "harbour", "--num-images", "2", "--preview-every", "1", "--url", triton.url, cwd=tmp_path)
    names = ["image-1.png", "image-1.preview.jpg", "image-2.png", "image-2.preview.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_previews_come_every_five_steps_unless_told_otherwise(triton: FakeImageTriton, tmp_path: Path) -> None:
    run("image", "harbour", "--preview", "--url", triton.url, cwd=tmp_path)
    assert triton.inputs()["preview_every"] == 5
    run("image", "harbour", "--url", triton.url, cwd=tmp_path)
    assert "preview_every" not in triton.inputs()


def test_image_prints_one_json_object(triton: FakeImageTriton, tmp_path: Path) -> None:
    options = ["--num-images", "2", "--seed", "3", "--steps", "8", "--json", "--url", triton.url]
    assert json.loads(run("image", "harbour", *options, cwd=tmp_path).stdout) == {
        "files": ["image-1.png", "image-2.png"],
        "seeds": [3, 4],
        "parameters": {"prompt": "harbour", "num_inference_steps": 8, "output_format": "png"},
    }


# What is sent


def test_image_passes_the_options_on(triton: FakeImageTriton, tmp_path: Path) -> None:
    sizes = ["--width", "256", "--height", "512", "--steps", "8", "--guidance-scale", "2.5"]
    rest = ["--negative-prompt", "fog", "--seed", "1", "--scheduler", "euler", "--model", "turbo_stream"]
    run("image", "harbour", *sizes, *rest, "--url", triton.url, cwd=tmp_path)
    assert triton.request.model_name == "turbo_stream"
    assert triton.inputs() == {
        "prompt": "harbour",
        "negative_prompt": "fog",
        "width": 256,
        "height": 512,
        "num_inference_steps": 8,
        "guidance_scale": 2.5,
        "seed": 1,
        "scheduler": "euler",
        "output_format": "png",
    }


def test_image_reads_the_prompt_from_standard_input(triton: FakeImageTriton, tmp_path: Path) -> None:
    run("image", "-", "--url", triton.url, stdin="a harbour\nat dawn", cwd=tmp_path)
    assert triton.inputs()["prompt"] == "a harbour\nat dawn"


# How it ends


def test_progress_is_shown_on_a_terminal(triton: FakeImageTriton, tmp_path: Path) -> None:
    terminal, stderr = pty.openpty()
    command = [*FICTURES, "image", "harbour", "--url", triton.url]
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        os.close(stderr)
        shown = b"".join(iter(lambda: read_terminal(terminal), b""))
        assert process.stdout is not None
        assert process.stdout.read() == "image.png\n"
    os.close(terminal)
    assert f"{STEPS}/{STEPS}".encode() in shown


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("nowhere/dawn.png", "--output nowhere/dawn.png: there is no folder nowhere"),
        ("file/dawn.png", "--output file/dawn.png: there is no folder file"),
        ("folder.png", "--output folder.png: is a folder"),
        ("dawn.gif", "--output dawn.gif: must end in one of .png, .jpg, .jpeg, .webp, or --format be given"),
        ("dawn", "--output dawn: must end in one of .png, .jpg, .jpeg, .webp, or --format be given"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_line_before_anything_is_sent(
    output: str, words: str, triton: FakeImageTriton, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    result = run("image", "harbour", "-o", output, "--url", triton.url, cwd=tmp_path)
    assert (result.returncode, one_line(result)) == (2, words)
    assert triton.request is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_one_line(triton: FakeImageTriton, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    result = run("image", "harbour", "-o", "locked/dawn.png", "--url", triton.url, cwd=tmp_path)
    assert (result.returncode, triton.request) == (2, None)
    assert "folder locked cannot be written to" in one_line(result)


def test_a_disk_that_is_full_is_one_line(triton: FakeImageTriton) -> None:
    result = run("image", "harbour", "-o", "/dev/full", "--format", "png", "--url", triton.url)
    assert (result.returncode, result.stdout) == (2, "")
    assert one_line(result) == "--output: /dev/full cannot be written: No space left on device"


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("broken half", 1),
        ("nothing", 1),
        ("fail width: 100 is not allowed: a multiple of 8 from 256 to 2048", 2),
        ("abort NOT_FOUND no such model", 2),
        ("fail the image engine is starting; try again in some seconds", 3),
        ("silent", 4),
    ],
)
def test_each_failure_is_one_line_and_its_exit_code_and_writes_nothing(
    prompt: str, code: int, triton: FakeImageTriton, tmp_path: Path
) -> None:
    result = run("image", prompt, "--url", triton.url, "--timeout", "1", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (code, "")
    assert one_line(result)
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_is_too_large_is_exit_code_2(triton: FakeImageTriton, tmp_path: Path) -> None:
    result = run("image", "harbour", "--seed", str(2**70), "--url", triton.url, cwd=tmp_path)
    assert result.returncode == 2
    assert one_line(result) == f"seed: {2**70} is not allowed: a whole number of 64 bits"


def test_interrupting_cancels_the_request_and_is_exit_code_130(triton: FakeImageTriton, tmp_path: Path) -> None:
    def heed_interrupts() -> None:
        # What a shell starts in the background ignores them, and so does what that starts: such as a test run.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [*FICTURES, "image", "endless", "--preview-every", "1", "--url", triton.url]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        assert process.stderr is not None
        while not (tmp_path / "image.preview.jpg").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert triton.cancelled.wait(5)
        assert process.wait(5) == 130
        assert "Traceback" not in process.stderr.read()


# Health


def test_health_asks_the_image_model_that_it_is_told_of(triton: FakeImageTriton) -> None:
    assert run("health", "--url", triton.url).returncode == 0
    assert run("health", "--url", triton.url, "--image-model", "other").returncode == 0
    assert triton.probed == ["gemma", "sdxl_stream", "gemma"]
