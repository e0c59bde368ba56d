"""The colours of the scenes, far enough apart for a picture to be read back."""

import numpy as np

Colour = tuple[int, int, int]
"""Red, green and blue from 0 to 255."""

OBJECTS: dict[str, Colour] = {
    "red": (214, 32, 38),
    "orange": (246, 122, 0),
    "yellow": (255, 214, 0),
    "green": (0, 112, 52),
    "blue": (24, 62, 214),
    "purple": (116, 28, 160),
    "pink": (246, 82, 164),
    "brown": (124, 70, 30),
    "white": (255, 255, 255),
    "black": (26, 24, 26),
}
SKIES: dict[str, Colour] = {
    "blue": (124, 190, 246),
    "orange": (255, 168, 92),
    "pink": (255, 178, 204),
    "purple": (152, 116, 196),
    "grey": (164, 168, 176),
    "dark": (24, 30, 76),
    "yellow": (252, 228, 138),
    "green": (156, 220, 176),
}
GROUNDS: dict[str, Colour] = {
    "sea": (30, 118, 158),
    "meadow": (124, 186, 78),
    "sand": (234, 200, 136),
    "snow": (214, 230, 244),
}
BACKDROPS: dict[str, Colour] = {"hills": (92, 146, 98), "mountains": (112, 118, 140)}

SUN: Colour = (255, 200, 44)
MOON: Colour = (250, 244, 214)
CLOUD: Colour = (250, 250, 252)
RAIN: Colour = (206, 222, 240)
INK: Colour = (44, 38, 48)
PAPER: Colour = (255, 246, 222)
WOOD: Colour = (104, 70, 48)
LEAF: Colour = (58, 146, 60)
BEAK: Colour = (250, 150, 30)
WATER: Colour = (176, 220, 240)

NIGHT = 0.55  # of the light by day, on ground and backdrop
_CONTRAST = 30  # least distance in CIELAB between an object and what is behind it


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with a `share`, from 0 to 1, of `second`."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def lit(colour: Colour, sky: str) -> Colour:
    """The colour of ground or backdrop under that sky: darker by night, a little of the sky's colour otherwise."""
    return mix((0, 0, 24), colour, NIGHT) if sky == "dark" else mix(colour, SKIES[sky], 0.1)


def sky_tones(sky: str) -> tuple[Colour, Colour]:
    """The sky's colours at its top and at the horizon."""
    return mix(SKIES[sky], (0, 0, 0), 0.04), mix(SKIES[sky], (255, 255, 255), 0.14)


def cloud_tone(sky: str) -> Colour:
    """The colour of clouds in that sky."""
    return mix(CLOUD, SKIES[sky], {"dark": 0.62, "grey": 0.25, "purple": 0.25}.get(sky, 0.08))


def contrasts(colour: str, *backgrounds: Colour) -> bool:
    """Whether an object of that colour stands out from all of `backgrounds`."""
    return bool((np.linalg.norm(lab(backgrounds) - lab(OBJECTS[colour]), axis=-1) >= _CONTRAST).all())


def lab(rgb: object) -> np.ndarray:
    """CIELAB (D65) of sRGB values from 0 to 255, float32 [..., 3] both: distances are about as large as they look."""
    linear = np.asarray(rgb, dtype=np.float32) / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    xyz = linear @ _TO_XYZ
    roots = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = roots[..., 0], roots[..., 1], roots[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


_TO_XYZ = np.array(
    [[0.4124564, 0.2126729, 0.0193339], [0.3575761, 0.7151522, 0.1191920], [0.1804375, 0.0721750, 0.9503041]],
    dtype=np.float32,
) / np.array([0.95047, 1.0, 1.08883], dtype=np.float32)
