"""Reads a picture back: the sky's colour, and what object there is in which colour, from pixels alone.

No network sees the picture and nothing is known of its caption. Colours are the nearest of the palette in CIELAB; the
object is the patch of one colour that is large and like one of the renderer's silhouettes, and its kind is that one's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn.functional import interpolate

from train_tiny.images import palette
from train_tiny.images.scene import COLOURS, KINDS, SKIES
from train_tiny.images.shapes import SHAPES, Box, draw_part

_SIDE = 96  # pixels of the shorter side that is looked at
_SKY_BAND = 0.3  # of the height, from the top, where only sky, light and clouds are usual
_CANDIDATES = 3  # colours whose largest patches are compared
_LEAST = 40  # pixels of a patch that may be an object
_BORDER = 0.5  # of the width: a patch that touches so much of the upper or lower edge is background
_SILHOUETTE = 40  # pixels a side


@dataclass(frozen=True)
class Reading:
    """What is in a picture; without any object `colour` and `kind` are None."""

    sky: str
    colour: str | None
    kind: str | None


def read_pictures(pictures: Sequence[Image.Image]) -> list[Reading]:
    """Reads pictures of any sizes, one by one; tens of milliseconds each."""
    return [read_picture(picture) for picture in pictures]


def read_picture(picture: Image.Image) -> Reading:
    """Reads one picture."""
    scale = _SIDE / min(picture.size)
    small = picture.convert("RGB").resize((round(picture.width * scale), round(picture.height * scale)), Image.BOX)
    pixels = palette.lab(np.asarray(small))
    sky = _sky(pixels)
    best, weight = Reading(sky, None, None), 0.0
    for colour, patch in _patches(_colour_masks(pixels, sky)):
        kind, likeness = _kind(patch)
        if patch.sum() * likeness**2 > weight:
            best, weight = Reading(sky, colour, kind), patch.sum() * likeness**2
    return best


def _sky(pixels: np.ndarray) -> str:
    band = pixels[: round(len(pixels) * _SKY_BAND)].reshape(-1, 3)
    tones = palette.lab([palette.mix(*palette.sky_tones(sky), 0.25) for sky in SKIES])
    return SKIES[int(np.bincount(_nearest(band, tones), minlength=len(SKIES)).argmax())]


def _colour_masks(pixels: np.ndarray, sky: str) -> np.ndarray:
    """Which pixels have which object's colour rather than a background's: bool [colours, height, width]."""
    background = [
        *palette.sky_tones(sky),
        *(palette.lit(tone, sky) for tone in palette.GROUNDS.values()),
        *(palette.lit(tone, sky) for tone in palette.BACKDROPS.values()),
        palette.SUN,
        palette.MOON,
        palette.WOOD,
        palette.LEAF,
    ]
    nearest = _nearest(pixels, palette.lab([*palette.OBJECTS.values(), *background]))
    return nearest == np.arange(len(COLOURS))[:, None, None]


def _nearest(pixels: np.ndarray, tones: np.ndarray) -> np.ndarray:
    """The index of the nearest of tones [n, 3] for pixels [..., 3]."""
    return np.square(pixels[..., None, :] - tones).sum(-1).argmin(-1)


def _patches(masks: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The largest connected patch, bool [height, width], of each of the most frequent colours, but for background."""
    frequent = np.argsort(-masks.sum((1, 2)), kind="stable")[:_CANDIDATES]
    for number in frequent:
        labels = _connected(masks[number])
        sizes = np.bincount(labels.ravel())
        for edge in (labels[0], labels[-1]):
            sizes[np.bincount(edge, minlength=len(sizes)) > _BORDER * labels.shape[1]] = 0
        sizes[0] = 0
        if sizes.max() >= _LEAST:
            yield COLOURS[number], labels == sizes.argmax()


def _connected(mask: np.ndarray) -> np.ndarray:
    """Numbers the connected patches of a mask [height, width] from 1, with gaps; 0 is what is not in the mask."""
    labels = np.arange(1, mask.size + 1).reshape(mask.shape) * mask
    while True:
        grown = _spread(_spread(labels).T).T
        if np.array_equal(grown, labels):
            return labels
        labels = grown


def _spread(labels: np.ndarray) -> np.ndarray:
    """Gives each run of labels within a row the greatest of them."""
    inside = labels > 0
    starts = inside & ~np.pad(inside, ((0, 0), (1, 0)))[:, :-1]
    if not starts.any():
        return labels
    greatest = np.maximum.reduceat(labels.ravel(), np.flatnonzero(starts))
    return np.where(inside, greatest[np.cumsum(starts).reshape(labels.shape) - 1], 0)


def _kind(patch: np.ndarray) -> tuple[str, float]:
    """The kind whose silhouette is most like the patch's, and how like, from 0 to 1.

    Likeness is the overlap of both, stretched to a square, less for another ratio of width to height.
    """
    silhouette, aspect = _silhouette(patch)
    templates, aspects, names = _templates()
    common = (templates & silhouette).sum((1, 2)) / (templates | silhouette).sum((1, 2))
    likeness = common * np.exp(-0.5 * np.abs(np.log(aspect / aspects)))
    return names[int(likeness.argmax())], float(likeness.max())


def _silhouette(patch: np.ndarray) -> tuple[np.ndarray, float]:
    """A patch without what surrounds it, bool [_SILHOUETTE, _SILHOUETTE], and its width divided by its height."""
    rows, columns = np.flatnonzero(patch.any(1)), np.flatnonzero(patch.any(0))
    cut = patch[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = (_SILHOUETTE, _SILHOUETTE)
    stretched = interpolate(torch.from_numpy(cut).float()[None, None], size=size, mode="bilinear", antialias=True)
    return stretched[0, 0].numpy() > 0.5, cut.shape[1] / cut.shape[0]


@cache
def _templates() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The renderer's own silhouettes of all kinds, both ways round: bool [n, …], their aspects and names."""
    found = [(*_silhouette(_drawn(kind, mirrored)), kind) for kind in KINDS for mirrored in (False, True)]
    return np.stack([one[0] for one in found]), np.array([one[1] for one in found]), [one[2] for one in found]


def _drawn(kind: str, mirrored: bool) -> np.ndarray:
    """The largest patch that a kind has in its main colour, as the renderer draws it."""
    height, shape = 4 * _SIDE, SHAPES[kind]
    image = Image.new("1", (round(height * shape.aspect), height))
    draw = ImageDraw.Draw(image)
    for part in shape.parts:
        draw_part(draw, part, int(part.role == "main"), Box(0, 0, image.width, height, mirrored))
    small = image.convert("L").resize((round(_SIDE * shape.aspect), _SIDE), Image.BOX)
    labels = _connected(np.asarray(small) > 127)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()
