"""OpenAI's images: requests to tensors, and answers that OpenAI's own types read strictly."""

import base64
import io
import math
import reprlib
from typing import Any

import PIL.Image
import pytest
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse
from pydantic import ValidationError
from translated import (
    BASES,
    NUMBERS_ARE_NOT,
    asked,
    images,
    parse,
    refused,
    reparse,
)

from fictures.tensors import inputs_of
from fictures.translation.answers import ImageFile, ImageStep
from fictures.translation.openai_images import ImageEvents, images_response
from fictures.translation.openai_requests import ImagesRequest

# Requests for images


def test_a_prompt_is_all_that_an_image_needs() -> None:
    request = ImagesRequest.model_validate({"prompt": "harbour"})
    model, sent = asked(request.to_call())
    assert model == "sdxl"
    assert sent == {"prompt": "harbour", "output_format": "png"}


def test_everything_that_is_given_of_an_image_is_sent() -> None:
    given = {
        "negative_prompt": "fog",
        "num_inference_steps": 8,
        "guidance_scale": 0,
        "seed": 0,
        "scheduler": "euler",
        "output_format": "webp",
    }
    _, sent = asked(images(**given, n=4, size="512x256"))
    assert sent == given | {"prompt": "harbour", "width": 512, "height": 256, "num_images": 4}


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        ("256x256", (256, 256)),
        ("2048x264", (2048, 264)),
        ("1024x1536", (1024, 1536)),
        ("auto", ()),
        (None, ()),
    ],
)
def test_a_size_is_width_by_height_and_auto_is_left_to_the_model(size: str | None, sides: tuple[int, ...]) -> None:
    _, sent = asked(images(size=size))
    assert tuple(sent[side] for side in ("width", "height") if side in sent) == sides


@pytest.mark.parametrize(
    "size",
    [
        *("", "1024", "1024x", "x1024", "1024X1024", "1024 x 1024", "1024x1024x3", "-512x512", "512x512\n"),
        *("248x256", "256x2056", "260x256", "0x0", "999999999x256", "1e3x256", "Auto", "wide", 1024, [512, 512]),
    ],
)
def test_a_size_that_no_image_can_have_is_refused(size: Any) -> None:
    assert refused(ImagesRequest, BASES[ImagesRequest] | {"size": size}) == {"size"}


IMAGE_LIMITS: list[tuple[str, list[Any], list[Any]]] = [
    ("n", [1, 4], [0, 5, -1]),
    ("num_inference_steps", [1, 100], [0, 101]),
    ("guidance_scale", [0, 30], [-0.01, 30.01, math.nan, math.inf, 10**400]),
    ("seed", [0, 2**63 - 1], [-1, 2**63]),
    ("prompt", ["a", "𝄞" * 10_000], ["", " \n", "a" * 10_001]),
    ("negative_prompt", ["", "a" * 10_000], ["a" * 10_001]),
    ("output_format", ["png", "jpeg", "webp"], ["PNG", "jpg", "gif", ""]),
    ("response_format", ["b64_json"], ["url", "png", ""]),
    ("scheduler", ["euler"], [""]),
    ("model", ["other"], [""]),
]


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, within, _ in IMAGE_LIMITS for value in within], ids=reprlib.repr
)
def test_an_image_request_within_the_limits_is_taken(field: str, value: Any) -> None:
    images(**{field: value}).to_triton(stream=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, value) for name, _, beyond in IMAGE_LIMITS for value in beyond]
    + [(name, value) for name in ("n", "num_inference_steps", "guidance_scale") for value in NUMBERS_ARE_NOT if value]
    + [
        ("n", 1.0),
        ("seed", "1"),
        ("partial_images", 4),
        ("partial_images", -1),
        ("prompt", ["a"]),
        ("prompt", "\ud800"),
    ]
    + [("negative_prompt", 5), ("stream", "true"), ("user", 5)],
    ids=reprlib.repr,
)
def test_an_image_request_beyond_them_is_refused_by_the_name_of_the_field(field: str, value: Any) -> None:
    assert refused(ImagesRequest, BASES[ImagesRequest] | {field: value}) == {field}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stream": True, "n": 2}, "n: must be 1 when streaming"),
        ({"partial_images": 1}, "partial_images: only together with stream"),
        ({"partial_images": 1, "stream": False}, "partial_images: only together with stream"),
    ],
)
def test_a_stream_of_images_has_rules_of_its_own(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parse(ImagesRequest, **fields)


# Answers with images


def drawn(**fields: Any) -> ImagesRequest:
    return parse(ImagesRequest, **{"size": "512x256"} | fields)


def test_images_come_in_base64_with_their_size_and_seeds() -> None:
    request = drawn(n=2, size="512x256", output_format="webp")
    told = images_response([ImageFile(b"\xff1", 5), ImageFile(b"2", 6)], request, 1234)
    found = ImagesResponse.model_validate_json(told.model_dump_json(exclude_unset=True), strict=True)
    assert (found.created, found.size, found.output_format) == (1234, "512x256", "webp")
    assert not found.model_extra
    assert found.data
    assert [base64.b64decode(image.b64_json or "") for image in found.data] == [b"\xff1", b"2"]
    assert [image.model_extra for image in found.data] == [{"seed": 5}, {"seed": 6}]


def test_the_size_that_is_told_of_is_never_auto() -> None:
    file = io.BytesIO()
    PIL.Image.new("RGB", (256, 128)).save(file, "png")
    image = ImageFile(file.getvalue(), 5)
    assert images_response([image], drawn(size="auto"), 0).size == "256x128"
    told = ImageEvents(drawn(size="auto", stream=True), 1234)((image,))
    assert told is not None
    assert told.size == "256x128"


def stream_events(request: ImagesRequest, steps: int) -> list[Any]:
    """The events of a stream, out of an engine that keeps to what it was asked for: no preview after the last step."""
    every = inputs_of(request.to_call().to_triton(stream=True)).get("preview_every", [0])[0]
    told = ImageEvents(request, 1234)
    done = [
        ImageStep(step, steps, (f"preview {step}".encode(),) if every and step % every == 0 and step < steps else ())
        for step in range(1, steps + 1)
    ]
    return [event for event in map(told, [*done, (ImageFile(b"image", 5),)]) if event is not None]


def test_an_image_stream_is_openais() -> None:
    request = drawn(stream=True, partial_images=1, size="512x256", output_format="webp", num_inference_steps=4)
    preview, image = stream_events(request, 4)
    common = {"created_at": 1234, "size": "512x256", "quality": "auto", "background": "opaque"}
    assert reparse(ImageGenPartialImageEvent, preview).model_dump(exclude_unset=True) == common | {
        "type": "image_generation.partial_image",
        "b64_json": base64.b64encode(b"preview 2").decode(),
        "partial_image_index": 0,
        "output_format": "jpeg",
    }
    found = ImageGenCompletedEvent.model_validate_json(image.model_dump_json(exclude_unset=True), strict=True)
    assert found.model_extra == {"seed": 5}
    assert (found.type, found.output_format, found.size) == ("image_generation.completed", "webp", "512x256")
    assert base64.b64decode(found.b64_json) == b"image"
    assert found.usage.total_tokens == 0


@pytest.mark.parametrize(
    ("steps", "partial_images"),
    [
        *[(30, 0), (30, 1), (30, 2), (30, 3), (4, 1), (4, 3), (100, 3), (2, 1)],
        (4, 2),
        (5, 3),
    ],
)
def test_as_many_previews_come_as_were_asked_for(steps: int, partial_images: int) -> None:
    request = drawn(stream=True, partial_images=partial_images, num_inference_steps=steps)
    *previews, last = stream_events(request, steps)
    assert [preview.partial_image_index for preview in previews] == list(range(partial_images))
    assert last.type == "image_generation.completed"


@pytest.mark.parametrize("steps", [8, 30, 50])
def test_steps_that_are_not_given_are_as_many_as_the_model_says(steps: int) -> None:
    *previews, _ = stream_events(drawn(stream=True, partial_images=2), steps)
    evenly = [f"preview {steps // 3}".encode(), f"preview {steps // 3 * 2}".encode()]
    assert [base64.b64decode(preview.b64_json) for preview in previews] == evenly


def test_an_image_of_one_step_has_no_previews() -> None:
    assert len(stream_events(drawn(stream=True, partial_images=3, num_inference_steps=1), 1)) == 1


def test_previews_that_nobody_asked_for_are_no_events() -> None:
    told = ImageEvents(drawn(stream=True, partial_images=1), 1234)
    steps = [ImageStep(number, 3, (b"small",)) for number in (1, 2, 3)]
    assert [told(step) is not None for step in steps] == [True, False, False]
