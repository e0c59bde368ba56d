"""A scene: everything that a caption can say of a picture, and how scenes are chosen."""

import random
import zlib
from dataclasses import dataclass

from train_tiny.images import palette
from train_tiny.images.shapes import SHAPES

KINDS = tuple(SHAPES)
COLOURS = tuple(palette.OBJECTS)
SKIES = tuple(palette.SKIES)
POSITIONS = ("left", "middle", "right")
SIZES = {"small": 0.36, "usual": 0.47, "big": 0.58}
"""The side of a square of the object's area, in parts of the picture's shorter side."""

_SKY_WEIGHTS = {"blue": 5, "orange": 3, "pink": 3, "purple": 3, "grey": 3, "dark": 4, "yellow": 2, "green": 2}
_LAND = ("meadow", "sand", "snow")
_HELD_OUT = 16  # one combination of so many is never trained on


@dataclass(frozen=True)
class Thing:
    """One kind of object in one colour."""

    kind: str
    colour: str


@dataclass(frozen=True)
class Scene:
    """What is seen; where exactly everything stands comes from `seed`."""

    main: Thing
    count: int
    """How many of `main`, 1 to 3."""
    size: str
    """A key of `SIZES`; with company or in number all are smaller."""
    position: str
    companion: Thing | None
    """Stands on the other side; then `count` is 1 and `position` says where `main` is, left or right."""
    sky: str
    ground: str
    backdrop: str | None
    """`hills`, `mountains` or nothing at the horizon."""
    light: str | None
    """`sun`, `moon` or `stars`."""
    weather: str | None
    """`clouds`, `rain` or `snow`."""
    seed: int

    @property
    def held_out(self) -> bool:
        """Whether this object in this colour under this sky is kept from training."""
        return _is_held_out(self.main, self.sky)


def sample_scene(rng: random.Random, *, held_out: bool = False, alone: bool = False) -> Scene:
    """A scene at random.

    Args:
        rng: Decides everything.
        held_out: Whether the scene is one for examination, else one for training.
        alone: Whether there is one object only.
    """
    while True:
        scene = _sample(rng, alone)
        if scene is not None and scene.held_out == held_out:
            return scene


def _sample(rng: random.Random, alone: bool) -> Scene | None:
    """A scene of any kind, or None if its colours do not stand out."""
    sky = rng.choices(SKIES, [_SKY_WEIGHTS[sky] for sky in SKIES])[0]
    main = _thing(rng)
    ground = _ground(rng, main.kind)
    backdrop = rng.choice((None, None, "hills", "mountains"))
    company = None if alone else rng.choices((None, "same", "other"), (6, 2, 2))[0]
    weather = _weather(rng, sky)
    companion = _thing(rng) if company == "other" else None
    if companion and (companion.kind == main.kind or not _fits(companion.kind, ground)):
        return None
    if any(not _stands_out(thing, sky, ground, backdrop, weather) for thing in (main, companion) if thing):
        return None
    return Scene(
        main=main,
        count=rng.choice((2, 3)) if company == "same" else 1,
        size=rng.choices(tuple(SIZES), (2, 6, 2))[0],
        position=rng.choice(("left", "right") if companion else ("middle", *POSITIONS)),
        companion=companion,
        sky=sky,
        ground=ground,
        backdrop=backdrop,
        light=_light(rng, sky),
        weather=weather,
        seed=rng.getrandbits(32),
    )


def _thing(rng: random.Random) -> Thing:
    return Thing(rng.choice(KINDS), rng.choice(COLOURS))


def _ground(rng: random.Random, kind: str) -> str:
    if SHAPES[kind].place == "sea":
        return "sea"
    return rng.choice((*_LAND, "sea") if SHAPES[kind].place == "sky" else _LAND)


def _fits(kind: str, ground: str) -> bool:
    return {"sea": ground == "sea", "land": ground != "sea", "sky": True}[SHAPES[kind].place]


def _stands_out(thing: Thing, sky: str, ground: str, backdrop: str | None, weather: str | None) -> bool:
    behind = [*palette.sky_tones(sky)]
    if SHAPES[thing.kind].place != "sky":
        behind.append(palette.lit(palette.GROUNDS[ground], sky))
    if backdrop:
        behind.append(palette.lit(palette.BACKDROPS[backdrop], sky))
    if weather == "clouds":
        behind.append(palette.cloud_tone(sky))
    return palette.contrasts(thing.colour, *behind)


def _light(rng: random.Random, sky: str) -> str | None:
    if sky == "grey":
        return None
    lights = ("moon", "stars") if sky == "dark" else ("moon", "sun") if sky == "purple" else ("sun",)
    return rng.choice((None, *lights) if sky == "dark" else (None, rng.choice(lights)))


def _weather(rng: random.Random, sky: str) -> str | None:
    if sky == "grey":
        return rng.choice((None, "clouds", "rain", "rain", "snow"))
    return rng.choices((None, "clouds", "snow" if sky == "dark" else "clouds"), (6, 3, 1))[0]


def _is_held_out(main: Thing, sky: str) -> bool:
    return zlib.crc32(f"{main.colour} {main.kind} under {sky}".encode()) % _HELD_OUT == 0
