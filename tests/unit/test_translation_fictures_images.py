"""The Fictures API's images, translated: bodies to Triton's tensors, and its responses to bodies and events."""

import base64
import math
import reprlib
from typing import Any

import pytest
from translated import NUMBERS_ARE_NOT, image_call, image_stream_call, inputs, refused, response
from tritonclient.grpc import service_pb2 as pb

from fictures import ServerError
from fictures.tensors import inputs_of
from fictures.translation import fictures_api as api
from fictures.translation.answers import ImageFile, ImageStep, read_image_event
from fictures.translation.answers import read_images as images_of

# # Requests for images


def test_a_prompt_is_all_that_an_image_needs() -> None:
    call = image_call()
    assert call.to_triton(stream=False).model_name == "sdxl"
    assert inputs(call) == {
        "prompt": "harbour",
        "width": 1344,
        "height": 768,
        "num_inference_steps": 30,
        "guidance_scale": 7.5,
    }


def test_everything_that_is_given_of_an_image_is_sent() -> None:
    given = {
        "prompt": "harbour",
        "negative_prompt": "fog",
        "width": 512,
        "height": 256,
        "num_inference_steps": 8,
        "guidance_scale": 2.5,
        "seed": 2**62,
    }
    assert inputs(image_call(**given)) == given


def test_an_image_streams_from_the_streaming_model() -> None:
    request = image_stream_call(preview_every=5, seed=3).to_triton(stream=True, request_id="abc")
    assert (request.model_name, request.id) == ("sdxl_stream", "abc")
    assert inputs_of(request)["preview_every"] == [5]
    assert inputs_of(request)["seed"] == [3]
    assert request.parameters["triton_enable_empty_final_response"].bool_param is True


def test_no_preview_is_asked_for_unless_it_is_wanted() -> None:
    assert inputs(image_stream_call(), stream=True) == inputs(image_call())
    assert inputs(image_stream_call(preview_every=0), stream=True) == inputs(image_call())


def test_seed_0_and_an_empty_negative_prompt_are_values() -> None:
    sent = inputs(image_call(seed=0, negative_prompt=""))
    assert (sent["seed"], sent["negative_prompt"]) == (0, "")


def test_null_is_no_seed_and_no_negative_prompt() -> None:
    assert inputs(image_call(seed=None, negative_prompt=None)) == inputs(image_call())


SIDES: tuple[list[Any], list[Any]] = ([256, 264, 2048], [0, -8, 248, 255, 257, 260, 2049, 2056, 2**40])
IMAGE_LIMITS: list[tuple[str, list[Any], list[Any]]] = [
    ("width", *SIDES),
    ("height", *SIDES),
    ("num_inference_steps", [1, 100], [0, -1, 101]),
    ("guidance_scale", [1, 1.0, 20], [0, 0.99, 20.01, -1, math.nan, math.inf, 10**400]),
    ("seed", [0, 2**63 - 1], [-1, 2**63, 10**100]),
    ("prompt", ["a", "a" * 10_000, " a\n", "𝄞" * 10_000], ["", " ", "\n\t", "\u00a0\u2003", "a" * 10_001]),
    ("negative_prompt", ["", " ", "a" * 10_000], ["a" * 10_001]),
    ("preview_every", [0, 100], [-1, 101]),
]


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, within, _ in IMAGE_LIMITS for value in within], ids=reprlib.repr
)
def test_an_image_request_within_the_limits_is_taken(field: str, value: Any) -> None:
    image_stream_call(**{field: value}).to_triton(stream=True)


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, _, beyond in IMAGE_LIMITS for value in beyond], ids=reprlib.repr
)
def test_an_image_request_beyond_them_is_refused_by_the_name_of_the_field(field: str, value: Any) -> None:
    assert refused(api.ImageStreamRequest, {"prompt": "harbour", field: value}) == {field}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (name, value)
        for name in ("width", "height", "num_inference_steps", "guidance_scale", "preview_every")
        for value in NUMBERS_ARE_NOT
    ]
    + [("width", 512.0), ("seed", 1.0), ("seed", "1"), ("seed", True)]
    + [("prompt", value) for value in (5, None, ["harbour"], "half \ud800")]
    + [("negative_prompt", value) for value in (5, ["fog"], "\ud800")],
    ids=reprlib.repr,
)
def test_an_image_value_of_another_type_is_refused_and_never_converted(field: str, value: Any) -> None:
    assert refused(api.ImageStreamRequest, {"prompt": "harbour", field: value}) == {field}


@pytest.mark.parametrize("field", ["n", "num_images", "size", "scheduler", "output_format", "preview_every", "base64"])
def test_a_field_that_an_image_does_not_have_is_refused(field: str) -> None:
    assert refused(api.ImageRequest, {"prompt": "harbour", field: 1}) == {field}


# # Answers with images


def drawn(**fields: Any) -> api.ImageStreamRequest:
    return api.ImageStreamRequest.model_validate({"prompt": "harbour", "width": 512, "height": 256, **fields})


def test_an_image_comes_as_a_url_that_holds_it_with_its_size_and_seed() -> None:
    (file,) = images_of(response(image=("BYTES", [b"\x89PNG\xff"]), seed=("INT64", [2**62])))
    told = api.image_response(file, drawn(), "sdxl").model_dump()
    kind, _, data = told.pop("image_url").partition(",")
    assert (kind, base64.b64decode(data)) == ("data:image/png;base64", b"\x89PNG\xff")
    assert told == {"model": "sdxl", "width": 512, "height": 256, "seed": 2**62}


def test_an_image_of_which_only_the_prompt_was_given_has_the_default_size() -> None:
    request = api.ImageRequest(prompt="harbour")
    told = api.image_response(ImageFile(b"", 0), request, "sdxl")
    assert (told.width, told.height, told.seed) == (1344, 768, 0)


def test_an_image_stream_tells_of_each_step_of_previews_and_of_the_image() -> None:
    common = {"total_steps": 2, "model": "sdxl", "width": 512, "height": 256}
    responses = [
        response(step=("INT32", [1]), total_steps=("INT32", [2]), preview=("BYTES", [b"small"])),
        response(step=("INT32", [2]), total_steps=("INT32", [2])),
        response(image=("BYTES", [b"large"]), seed=("INT64", [0])),
    ]
    events = [event for event in map(read_image_event, responses) if event is not None]
    told = [api.image_event(event, drawn(num_inference_steps=2), "sdxl").model_dump() for event in events]
    nothing = {"preview_url": None, "image_url": None, "seed": None}
    preview, image = "data:image/jpeg;base64,c21hbGw=", "data:image/png;base64,bGFyZ2U="
    assert told == [
        common | nothing | {"step": 1, "preview_url": preview, "done": False},
        common | nothing | {"step": 2, "done": False},
        common | nothing | {"step": 2, "image_url": image, "seed": 0, "done": True},
    ]


def test_how_many_steps_there_are_is_what_the_model_says() -> None:
    told = api.image_event(ImageStep(3, 39, ()), drawn(num_inference_steps=20), "sdxl")
    assert (told.step, told.total_steps) == (3, 39)


def test_a_response_that_carries_nothing_is_no_image_event() -> None:
    assert read_image_event(pb.ModelInferResponse()) is None
    assert images_of(response(image=("BYTES", []), seed=("INT64", []))) == ()


@pytest.mark.parametrize("seeds", [[], [1, 2]])
def test_images_and_seeds_of_other_numbers_are_the_servers_fault(seeds: list[int]) -> None:
    with pytest.raises(ServerError, match="1 images and"):
        read_image_event(response(image=("BYTES", [b"x"]), seed=("INT64", seeds)))


def test_a_step_may_come_without_a_preview_or_their_total() -> None:
    assert read_image_event(response(step=("INT32", [1]))) == ImageStep(1, 0, ())
