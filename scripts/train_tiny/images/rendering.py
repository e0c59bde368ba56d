"""Draws scenes as flat, friendly pictures."""

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from train_tiny.images import palette
from train_tiny.images.palette import Colour
from train_tiny.images.scene import SIZES, Scene, Thing
from train_tiny.images.shapes import SHAPES, Box, draw_shape

_FINENESS = 2  # canvas pixels for one of the picture, so that edges come out smooth
_TALLEST = 0.80  # of an object, in parts of the shorter side
_IN_COMPANY = 0.30  # as in `SIZES`
_COLUMNS = {"left": 0.28, "middle": 0.5, "right": 0.72}


@dataclass(frozen=True)
class Frame:
    """The cut of a scene that is the picture, as Stable Diffusion XL is told of it; pixels."""

    width: int
    height: int
    original_width: int
    """Of the whole scene."""
    original_height: int
    left: int = 0
    top: int = 0

    @classmethod
    def whole(cls, width: int, height: int) -> "Frame":
        """All of the scene."""
        return cls(width, height, width, height)

    @property
    def time_ids(self) -> tuple[int, ...]:
        """Original size, corner and target size, height before width, as diffusers' pipeline puts them together."""
        return (self.original_height, self.original_width, self.top, self.left, self.height, self.width)


def render(scene: Scene, frame: Frame) -> np.ndarray:
    """The picture, uint8 [height, width, 3]; the same scene and frame give the same picture."""
    width, height = frame.original_width, frame.original_height
    canvas = _Canvas(scene, width * _FINENESS, height * _FINENESS)
    image = canvas.draw().reduce(_FINENESS)
    box = (frame.left, frame.top, frame.left + frame.width, frame.top + frame.height)
    return np.asarray(image if frame.width == width and frame.height == height else image.crop(box))


class _Canvas:
    """One drawing in the making."""

    def __init__(self, scene: Scene, width: int, height: int) -> None:
        self._scene = scene
        self._width, self._height = width, height
        self._unit = min(width, height)
        self._rng = random.Random(scene.seed)
        self._horizon = height * self._rng.uniform(0.60, 0.68)
        self._image = Image.fromarray(self._sky())
        self._draw = ImageDraw.Draw(self._image)

    def draw(self) -> Image.Image:
        """Everything, from back to front."""
        scene = self._scene
        if scene.light == "stars":
            self._stars()
        elif scene.light:
            self._sun_or_moon(scene.light)
        if scene.weather == "clouds":
            self._clouds()
        if scene.backdrop:
            self._backdrop(scene.backdrop)
        self._ground()
        if scene.weather in ("rain", "snow"):
            self._fall(scene.weather)
        self._things()
        return self._image

    def _sky(self) -> np.ndarray:
        top, bottom = (np.array(tone, dtype=np.float32) for tone in palette.sky_tones(self._scene.sky))
        depth = np.clip(np.arange(self._height, dtype=np.float32) / self._horizon, 0, 1)[:, None]
        column = (top + (bottom - top) * depth).round().astype(np.uint8)
        return np.repeat(column[:, None], self._width, axis=1)

    def _stars(self) -> None:
        for _ in range(self._rng.randint(14, 24)):
            radius = self._unit * self._rng.uniform(0.006, 0.012)
            self._disc(self._across(0.02, 0.98), self._horizon * self._rng.uniform(0.04, 0.85), radius, palette.MOON)

    def _sun_or_moon(self, light: str) -> None:
        side = {"left": "right", "right": "left"}.get(self._scene.position) or self._rng.choice(("left", "right"))
        x = self._width * (self._rng.uniform(0.12, 0.20) if side == "left" else self._rng.uniform(0.80, 0.88))
        y, radius = self._horizon * self._rng.uniform(0.20, 0.36), self._unit * self._rng.uniform(0.075, 0.095)
        if light == "sun":
            self._disc(x, y, radius, palette.SUN)
            return
        self._disc(x, y, radius, palette.MOON)
        shadow = palette.sky_tones(self._scene.sky)[0]
        self._disc(x + radius * 0.5, y - radius * 0.2, radius * 0.85, shadow)

    def _clouds(self) -> None:
        tone = palette.cloud_tone(self._scene.sky)
        for _ in range(max(2, round(self._rng.uniform(2, 3.4) * self._width / self._height))):
            x, y = self._across(0.08, 0.92), self._horizon * self._rng.uniform(0.10, 0.45)
            size = self._unit * self._rng.uniform(0.05, 0.075)
            for offset, scale in ((-1.2, 0.7), (0.0, 1.0), (1.2, 0.75)):
                self._disc(x + offset * size, y - (scale - 0.7) * size, size * scale, tone)
            self._draw.rounded_rectangle((x - 1.9 * size, y, x + 1.95 * size, y + 0.7 * size), 0.35 * size, fill=tone)

    def _backdrop(self, backdrop: str) -> None:
        tone = palette.lit(palette.BACKDROPS[backdrop], self._scene.sky)
        step = self._unit * 0.42
        x = -step * self._rng.random()
        while x < self._width + step:
            height, half = self._unit * self._rng.uniform(0.10, 0.19), step * self._rng.uniform(0.75, 1.0)
            if backdrop == "hills":
                box = (x - half, self._horizon - height, x + half, self._horizon + height)
                self._draw.ellipse(box, fill=tone)
            else:
                self._peak(x, height * 1.35, half * 0.85, tone)
            x += step * self._rng.uniform(0.8, 1.1)

    def _peak(self, x: float, height: float, half: float, tone: Colour) -> None:
        top = self._horizon - height
        self._draw.polygon(((x - half, self._horizon), (x, top), (x + half, self._horizon)), fill=tone)
        cap = palette.mix(tone, (255, 255, 255), 0.7)
        self._draw.polygon(
            ((x - half * 0.3, top + height * 0.3), (x, top), (x + half * 0.3, top + height * 0.3)), fill=cap
        )

    def _ground(self) -> None:
        tone = palette.lit(palette.GROUNDS[self._scene.ground], self._scene.sky)
        self._draw.rectangle((0, self._horizon, self._width, self._height), fill=tone)
        if self._scene.ground in ("sea", "meadow"):
            mark = palette.mix(tone, (255, 255, 255) if self._scene.ground == "sea" else (0, 60, 0), 0.25)
            for _ in range(round(9 * self._width / self._unit)):
                self._mark(mark)

    def _mark(self, tone: Colour) -> None:
        """A wave or a tuft of grass."""
        x, y = self._across(0.03, 0.97), self._horizon + (self._height - self._horizon) * self._rng.uniform(0.12, 0.95)
        size, thick = self._unit * 0.03, max(1, round(self._unit * 0.012))
        if self._scene.ground == "sea":
            self._draw.line(((x - size, y), (x, y - size * 0.4), (x + size, y)), fill=tone, width=thick, joint="curve")
        else:
            self._draw.line(((x - size * 0.5, y - size), (x, y), (x + size * 0.5, y - size)), fill=tone, width=thick)

    def _fall(self, weather: str) -> None:
        """Rain or snow, behind everything that stands there."""
        for _ in range(round(34 * self._width / self._unit)):
            x, y = self._across(0.01, 0.99), self._height * self._rng.uniform(0.02, 0.98)
            if weather == "snow":
                self._disc(x, y, self._unit * self._rng.uniform(0.009, 0.014), palette.CLOUD)
            else:
                length, thick = self._unit * 0.045, max(1, round(self._unit * 0.010))
                self._draw.line(((x, y), (x - length * 0.4, y + length)), fill=palette.RAIN, width=thick)

    def _things(self) -> None:
        scene = self._scene
        if scene.companion:
            other = "right" if scene.position == "left" else "left"
            self._thing(scene.main, _COLUMNS[scene.position], _IN_COMPANY + 0.04)
            self._thing(scene.companion, _COLUMNS[other], _IN_COMPANY + 0.04)
        elif scene.count > 1:
            spread = 0.25 if scene.count == 2 else 0.32
            for number in range(scene.count):
                column = 0.5 + spread * (2 * number / (scene.count - 1) - 1)
                self._thing(scene.main, column, _IN_COMPANY - 0.03 * (scene.count - 2))
        else:
            self._thing(scene.main, _COLUMNS[scene.position], SIZES[scene.size])

    def _thing(self, thing: Thing, column: float, size: float) -> None:
        shape, unit = SHAPES[thing.kind], self._unit
        side = size * unit * self._rng.uniform(0.96, 1.04)
        height = min(side / shape.aspect**0.5, _TALLEST * unit)
        width = height * shape.aspect
        centre = column * self._width + unit * self._rng.uniform(-0.03, 0.03)
        left = min(max(centre - width / 2, unit * 0.02), self._width - width - unit * 0.02)
        if shape.place == "sky":
            top = max(self._height * self._rng.uniform(0.36, 0.42) - height / 2, unit * 0.03)
        else:
            low = (0.84, 0.90) if shape.place == "land" else (0.80, 0.86)
            top = self._height * self._rng.uniform(*low) - height
        box = Box(left, top, width, height, mirrored=self._rng.random() < 0.5)
        draw_shape(self._draw, thing.kind, thing.colour, box)

    def _disc(self, x: float, y: float, radius: float, tone: Colour) -> None:
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tone)

    def _across(self, low: float, high: float) -> float:
        return self._width * self._rng.uniform(low, high)
