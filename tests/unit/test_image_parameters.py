"""One table of parameters: `config.pbtxt`, the documentation, the client and the checks say the same."""

import re
from pathlib import Path

import pytest

from image_engine.errors import InvalidArgument
from image_engine.parameters import BY_NAME, PARAMETERS, SCHEDULER_NAMES

ROOT = Path(__file__).resolve().parents[2]


def declared(model: str) -> dict[str, tuple[str, bool]]:
    """Name to type and whether it is optional, of the inputs in `config.pbtxt`."""
    text = (ROOT / "model_repository" / model / "config.pbtxt").read_text()
    inputs = text[text.index("input [") : text.index("output [")]
    found = re.findall(r'name: "(\w+)" data_type: (\w+) dims: \[ 1 \]( optional: true)?', inputs)
    return {name: (kind, bool(optional)) for name, kind, optional in found}


@pytest.mark.parametrize("model", ["sdxl", "sdxl_stream"])
def test_the_declared_inputs_are_those_of_the_table(model: str) -> None:
    table = {
        parameter.name: (parameter.data_type, not parameter.required)
        for parameter in PARAMETERS
        if model == "sdxl_stream" or not parameter.streamed_only
    }
    assert declared(model) == table


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_the_documentation_has_a_row_for_each(parameter) -> None:
    page = (ROOT / "docs" / "image-model.md").read_text()
    assert re.search(rf"^\| `{parameter.name}` \|", page, re.MULTILINE)


@pytest.mark.parametrize("scheduler", SCHEDULER_NAMES)
def test_the_documentation_names_every_scheduler(scheduler: str) -> None:
    assert f"`{scheduler}`" in (ROOT / "docs" / "image-model.md").read_text()


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_a_default_is_allowed(parameter) -> None:
    if parameter.default is not None:
        parameter.check_untyped(parameter.default)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 2049),
        ("width", "256"),
        ("width", 256.0),
        ("width", True),
        ("num_inference_steps", 4.5),
        ("guidance_scale", True),
        ("guidance_scale", float("nan")),
        ("base64", 1),
        ("scheduler", "Euler"),
        ("seed", None),
    ],
)
def test_what_is_not_allowed_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: .* is not allowed: "):
        BY_NAME[name].check_untyped(value)


@pytest.mark.parametrize(
    ("name", "value"), [("guidance_scale", 0), ("seed", 2**63 - 1), ("width", 2048), ("negative_prompt", "")]
)
def test_the_ends_of_a_range_are_allowed(name: str, value: object) -> None:
    BY_NAME[name].check_untyped(value)


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(InvalidArgument, match=r"\(20002 characters\)"):
        BY_NAME["prompt"].check("x" * 20_000)
