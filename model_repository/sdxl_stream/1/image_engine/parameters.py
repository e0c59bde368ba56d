"""The one table of what a request for images may say; `config.pbtxt` and the documentation follow it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from image_engine.errors import InvalidArgument

MOST_CHARACTERS = 10_000
SCHEDULER_NAMES = ("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_karras", "ddim", "unipc", "lcm")
OUTPUT_FORMATS = ("png", "jpeg", "webp")


@dataclass(frozen=True)
class Parameter:
    """One input tensor of shape [1]."""

    name: str
    data_type: str
    """Triton's, as in `config.pbtxt`."""
    description: str
    default: Any = None
    lowest: float | None = None
    highest: float | None = None
    multiple_of: int | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    streamed_only: bool = False
    """Whether only the decoupled model has it."""

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.data_type == "TYPE_BOOL":
            return "true or false"
        if self.data_type == "TYPE_STRING":
            return f"UTF-8 text of {int(self.required)} to {MOST_CHARACTERS} characters"
        words = "a number" if self.data_type == "TYPE_FP32" else "a whole number"
        if self.multiple_of:
            words = f"a multiple of {self.multiple_of}"
        return f"{words} from {self.lowest:g} to {self.highest:g}" if self.highest else f"{words}, 0 or more"

    def check_untyped(self, value: Any) -> None:
        """As `check`, for a value that comes from JSON and may be of any type."""
        kinds = {"TYPE_STRING": str, "TYPE_BOOL": bool, "TYPE_FP32": (int, float)}.get(self.data_type, int)
        if not isinstance(value, kinds) or (isinstance(value, bool) and self.data_type != "TYPE_BOOL"):
            raise InvalidArgument.of(self.name, value, self.allowed)
        self.check(value)

    def check(self, value: Any) -> None:
        """Raises `InvalidArgument` if the value, already of the right type, is not allowed."""
        if isinstance(value, str):
            fits = value in self.choices if self.choices else self._fits_as_text(value)
        elif isinstance(value, bool):
            fits = True
        else:
            # NaN is not between any two numbers.
            fits = self.lowest <= value and (self.highest is None or value <= self.highest)
            fits = fits and (self.multiple_of is None or value % self.multiple_of == 0)
        if not fits:
            raise InvalidArgument.of(self.name, value, self.allowed)

    def _fits_as_text(self, value: str) -> bool:
        return len(value) <= MOST_CHARACTERS and not (self.required and not value.strip())


PARAMETERS = (
    Parameter("prompt", "TYPE_STRING", "what is to be seen", required=True),
    Parameter("negative_prompt", "TYPE_STRING", "what is not to be seen; without guidance it has no effect"),
    Parameter("width", "TYPE_INT32", "pixels", 1024, 256, 2048, multiple_of=8),
    Parameter("height", "TYPE_INT32", "pixels", 1024, 256, 2048, multiple_of=8),
    Parameter("num_inference_steps", "TYPE_INT32", "denoising steps; `lcm` takes 50 at most", 30, 1, 100),
    Parameter(
        "guidance_scale",
        "TYPE_FP32",
        "weight of the prompt (classifier-free guidance); 1 or less: no guidance, at half the work",
        7.5,
        0,
        30,
    ),
    Parameter("seed", "TYPE_INT64", "the same seed gives the same image; absent: random", lowest=0),
    Parameter("num_images", "TYPE_INT32", "image number i has the seed `seed` + i", 1, 1, 4),
    Parameter("scheduler", "TYPE_STRING", "how the noise is removed", "dpmpp_2m_karras", choices=SCHEDULER_NAMES),
    Parameter("output_format", "TYPE_STRING", "kind of image file", "png", choices=OUTPUT_FORMATS),
    Parameter("base64", "TYPE_BOOL", "files as base64 text, for JSON, which cannot carry bytes", False),
    Parameter(
        "preview_every",
        "TYPE_INT32",
        "a small JPEG every so many steps; 0: none",
        0,
        0,
        100,
        streamed_only=True,
    ),
)

BY_NAME: Mapping[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}
"""By the tensor's name."""


def default_of(name: str, defaults: Mapping[str, Any]) -> Any:
    """What a parameter is where a request does not give it: `defaults` are the model's own."""
    return defaults.get(name, BY_NAME[name].default)
