"""What the clients take and return: frozen values, without a connection behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from fictures import image_files

if TYPE_CHECKING:
    from PIL import Image


class ChatMessage(TypedDict):
    """One message of a chat, as in OpenAI's chat completions."""

    role: Literal["system", "user", "assistant"] | str
    content: str | list[dict[str, Any]]


class Sampling(TypedDict, total=False):
    """How the next token is chosen and when the text ends: vLLM's sampling parameters.

    The common ones are listed for editors and type checkers; at run time every one of docs/text-model.md
    may be given. What is not given is left to vLLM, except `max_tokens` (256).
    """

    max_tokens: int
    """Most tokens to generate, at least 1."""
    temperature: float
    """0 always takes the likeliest token; from 0 to 2."""
    top_p: float
    """Choose among the likeliest tokens that together have this probability; above 0, to 1."""
    top_k: int
    """Choose among this many likeliest tokens; -1: all."""
    min_p: float
    """Leave out tokens less likely than this part of the likeliest one; from 0 to 1."""
    stop: str | Sequence[str]
    """End before any of these texts."""
    seed: int
    """Same seed, same text."""
    min_tokens: int
    """Fewest tokens to generate."""
    presence_penalty: float
    """Above 0, prefer tokens that have not come yet; from -2 to 2."""
    frequency_penalty: float
    """Above 0, prefer tokens that have come seldom; from -2 to 2."""
    repetition_penalty: float
    """Above 1, avoid tokens of the prompt and the text so far."""
    ignore_eos: bool
    """Go on to `max_tokens` even where the model would end."""
    stream_interval_ms: int
    """Milliseconds, 0 to 1000, that text of a stream may wait for more before it is sent; 0: each token by itself."""
    structured_outputs: str | Mapping[str, Any]
    """Force a form on the text: one of `json`, `regex`, `choice`, `grammar`."""


@dataclass(frozen=True, slots=True)
class TextChunk:
    """One piece of a text stream."""

    text: str
    """The new text: a delta, possibly of several tokens, possibly empty."""
    finish_reason: str | None
    """`"stop"`, `"length"` … in the last piece, else None."""
    num_input_tokens: int | None
    """Tokens of the whole prompt."""
    num_output_tokens: int
    """Tokens in this piece."""


@dataclass(frozen=True, slots=True)
class TextResult:
    """A whole generated text, without its prompt."""

    text: str
    finish_reason: str | None
    """`"stop"`: the model ended or a stop text came; `"length"`: `max_tokens` or the context was used up."""
    num_input_tokens: int | None
    num_output_tokens: int
    model: str


class ImageOptions(TypedDict, total=False):
    """How an image is made. What is not given is left to the server, whose usual defaults stand here."""

    negative_prompt: str
    """What is not to be seen; none."""
    width: int
    """Pixels, a multiple of 8 from 256 to 2048; 1024."""
    height: int
    """As `width`."""
    num_inference_steps: int
    """Denoising steps, from 1 to 100; 30."""
    guidance_scale: float
    """Weight of the prompt (classifier-free guidance), from 0 to 30; 7.5."""
    seed: int
    """Same seed, same image; random."""
    scheduler: str
    """How the noise is removed, for example `euler` or `ddim`; `dpmpp_2m_karras`."""
    output_format: str
    """Kind of image file: `png`, `jpeg` or `webp`; `png`."""


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """One image, with all that is needed to make it again."""

    image: Image.Image
    seed: int
    """The image's own: it gives this image also when it is made alone."""
    data: bytes = field(repr=False)
    """The file, as the server sent it."""
    format: str
    """Kind of the file: `"png"`, `"jpeg"` or `"webp"`."""
    parameters: Mapping[str, Any]
    """The prompt, the options that were given and the seed: `client.generate_image(**parameters)` makes it again."""

    def save(self, path: str | Path) -> None:
        """Write the image to a file: as the server sent it if `path` ends as that format's files do, else converted.

        Raises:
            ValueError: Pillow knows no format of this suffix.
            OSError: the file cannot be written.
        """
        if image_files.format_of(path) == self.format:
            Path(path).write_bytes(self.data)
        else:
            self.image.save(path)


@dataclass(frozen=True, slots=True)
class ImageChunk:
    """One event of an image stream: a denoising step was done, or, in the last event, the images are."""

    step: int
    """Denoising steps done."""
    total_steps: int
    previews: tuple[Image.Image, ...]
    """What each image looks like so far, small; empty at most steps."""
    images: tuple[GeneratedImage, ...]
    """The images, in the last event, whose `step` is `total_steps`; empty before."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model; -1 in `shape` is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model of the server's repository. Tensors and platform are known of ready models only."""

    name: str
    version: str
    ready: bool
    reason: str
    """Why it is not ready, in the server's words; empty when it is."""
    platform: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the server and its models can answer now."""

    ok: bool
    """The server and its models are ready by Triton's word, and the client's text and image model by their engines'
    own."""
    live: bool
    ready: bool
    models: Mapping[str, str]
    """Model name to `"ready"`, or to what is wrong with it."""
    reason: str | None = None
    """The first thing that is wrong; None when `ok`."""
