"""What the scenes' objects look like: parts in a unit square, x to the right and y down, in the order of drawing.

Each kind has a silhouette of its own in its main colour, which `reading` knows it by; the rest is decoration.
"""

from dataclasses import dataclass
from typing import Literal

from PIL import ImageDraw

from train_tiny.images import palette

Role = Literal["main", "ink", "paper", "wood", "leaf", "beak", "water", "heart"]
Point = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """A filled figure."""

    figure: Literal["polygon", "ellipse", "line"]
    points: tuple[Point, ...]
    """A polygon's or a line's corners; of an ellipse, two opposite corners of the box around it."""
    role: Role = "main"
    width: float = 0.0
    """Of a line, in parts of the object's height."""


@dataclass(frozen=True)
class Shape:
    """One kind of object."""

    place: Literal["land", "sea", "sky"]
    aspect: float
    """Width divided by height."""
    parts: tuple[Part, ...]


def _polygon(*points: Point, role: Role = "main") -> Part:
    return Part("polygon", points, role)


def _box(left: float, top: float, right: float, bottom: float, role: Role = "main") -> Part:
    return Part("polygon", ((left, top), (right, top), (right, bottom), (left, bottom)), role)


def _ellipse(left: float, top: float, right: float, bottom: float, role: Role = "main") -> Part:
    return Part("ellipse", ((left, top), (right, bottom)), role)


def _line(width: float, *points: Point, role: Role = "main") -> Part:
    return Part("line", points, role, width)


SHAPES: dict[str, Shape] = {
    "house": Shape(
        "land",
        1.05,
        (
            _box(0.70, 0.04, 0.83, 0.40),
            _polygon((0.0, 0.46), (0.5, 0.0), (1.0, 0.46)),
            _box(0.10, 0.44, 0.90, 1.0),
            _box(0.42, 0.66, 0.60, 1.0, "ink"),
            _box(0.18, 0.56, 0.34, 0.74, "paper"),
            _box(0.67, 0.56, 0.83, 0.74, "paper"),
        ),
    ),
    "boat": Shape(
        "sea",
        1.1,
        (
            _polygon((0.54, 0.0), (0.98, 0.72), (0.54, 0.72)),
            _polygon((0.46, 0.14), (0.46, 0.72), (0.08, 0.72)),
            _box(0.475, 0.0, 0.525, 0.74, "wood"),
            _polygon((0.0, 0.71), (1.0, 0.71), (0.82, 1.0), (0.18, 1.0)),
            _ellipse(0.25, 0.79, 0.34, 0.89, "paper"),
            _ellipse(0.455, 0.79, 0.545, 0.89, "paper"),
            _ellipse(0.66, 0.79, 0.75, 0.89, "paper"),
        ),
    ),
    "tree": Shape(
        "land",
        0.85,
        (
            _box(0.42, 0.55, 0.58, 1.0, "wood"),
            _ellipse(0.0, 0.22, 0.56, 0.70),
            _ellipse(0.44, 0.22, 1.0, 0.70),
            _ellipse(0.18, 0.0, 0.82, 0.52),
            _ellipse(0.22, 0.40, 0.31, 0.48, "paper"),
            _ellipse(0.46, 0.16, 0.55, 0.24, "paper"),
            _ellipse(0.68, 0.42, 0.77, 0.50, "paper"),
        ),
    ),
    "pine": Shape(
        "land",
        0.7,
        (
            _box(0.42, 0.8, 0.58, 1.0, "wood"),
            _polygon((0.5, 0.30), (1.0, 0.86), (0.0, 0.86)),
            _polygon((0.5, 0.14), (0.90, 0.58), (0.10, 0.58)),
            _polygon((0.5, 0.0), (0.78, 0.32), (0.22, 0.32)),
        ),
    ),
    "cat": Shape(
        "land",
        0.85,
        (
            _line(0.09, (0.66, 0.93), (0.82, 0.93), (0.91, 0.86), (0.95, 0.75), (0.94, 0.66), (0.90, 0.58)),
            _ellipse(0.12, 0.40, 0.78, 1.0),
            _polygon((0.14, 0.36), (0.13, 0.0), (0.44, 0.18)),
            _polygon((0.76, 0.36), (0.77, 0.0), (0.46, 0.18)),
            _ellipse(0.10, 0.10, 0.80, 0.56),
            _ellipse(0.24, 0.25, 0.37, 0.38, "paper"),
            _ellipse(0.53, 0.25, 0.66, 0.38, "paper"),
            _ellipse(0.28, 0.27, 0.34, 0.37, "ink"),
            _ellipse(0.56, 0.27, 0.62, 0.37, "ink"),
            _polygon((0.40, 0.42), (0.50, 0.42), (0.45, 0.48), role="ink"),
        ),
    ),
    "rabbit": Shape(
        "land",
        0.62,
        (
            _ellipse(0.80, 0.78, 1.0, 0.92, "paper"),
            _ellipse(0.06, 0.58, 0.90, 1.0),
            _ellipse(0.16, 0.0, 0.40, 0.46),
            _ellipse(0.56, 0.0, 0.80, 0.46),
            _ellipse(0.23, 0.06, 0.33, 0.34, "paper"),
            _ellipse(0.63, 0.06, 0.73, 0.34, "paper"),
            _ellipse(0.10, 0.32, 0.86, 0.70),
            _ellipse(0.27, 0.44, 0.37, 0.53, "ink"),
            _ellipse(0.59, 0.44, 0.69, 0.53, "ink"),
            _ellipse(0.42, 0.55, 0.54, 0.61, "ink"),
        ),
    ),
    "bird": Shape(
        "sky",
        1.35,
        (
            _polygon((0.86, 0.36), (1.0, 0.44), (0.86, 0.52), role="beak"),
            _polygon((0.28, 0.54), (0.0, 0.46), (0.04, 0.80), (0.26, 0.80)),
            _ellipse(0.14, 0.42, 0.76, 0.94),
            _ellipse(0.60, 0.22, 0.90, 0.64),
            _polygon((0.34, 0.62), (0.12, 0.0), (0.62, 0.52)),
            _ellipse(0.74, 0.33, 0.82, 0.44, "ink"),
        ),
    ),
    "whale": Shape(
        "sea",
        1.6,
        (
            _line(0.06, (0.24, 0.36), (0.24, 0.14), (0.14, 0.06), role="water"),
            _line(0.06, (0.24, 0.14), (0.34, 0.06), role="water"),
            _ellipse(0.0, 0.30, 0.72, 1.0),
            _polygon((0.50, 0.34), (0.82, 0.38), (0.92, 0.46), (0.80, 0.72), (0.50, 0.96)),
            _polygon((0.84, 0.48), (0.70, 0.12), (0.86, 0.22), (1.0, 0.08), (0.94, 0.46)),
            _ellipse(0.06, 0.80, 0.52, 0.97, "paper"),
            _ellipse(0.12, 0.54, 0.19, 0.65, "ink"),
        ),
    ),
    "balloon": Shape(
        "sky",
        0.75,
        (
            _line(0.02, (0.42, 0.80), (0.42, 0.90), role="ink"),
            _line(0.02, (0.58, 0.80), (0.58, 0.90), role="ink"),
            _box(0.36, 0.88, 0.64, 1.0, "wood"),
            _polygon((0.07, 0.50), (0.93, 0.50), (0.62, 0.82), (0.38, 0.82)),
            _ellipse(0.0, 0.0, 1.0, 0.72),
            _ellipse(0.22, 0.12, 0.36, 0.60, "paper"),
            _ellipse(0.64, 0.12, 0.78, 0.60, "paper"),
        ),
    ),
    "car": Shape(
        "land",
        1.9,
        (
            _polygon((0.18, 0.46), (0.32, 0.0), (0.70, 0.0), (0.84, 0.46)),
            _polygon((0.0, 0.48), (0.06, 0.42), (0.92, 0.42), (1.0, 0.54), (1.0, 0.84), (0.0, 0.84)),
            _polygon((0.28, 0.40), (0.37, 0.10), (0.49, 0.10), (0.49, 0.40), role="paper"),
            _polygon((0.54, 0.40), (0.54, 0.10), (0.66, 0.10), (0.74, 0.40), role="paper"),
            _ellipse(0.12, 0.60, 0.33, 1.0, "ink"),
            _ellipse(0.67, 0.60, 0.88, 1.0, "ink"),
            _ellipse(0.19, 0.73, 0.26, 0.87, "paper"),
            _ellipse(0.74, 0.73, 0.81, 0.87, "paper"),
        ),
    ),
    "lighthouse": Shape(
        "land",
        0.46,
        (
            _polygon((0.24, 0.12), (0.5, 0.0), (0.76, 0.12)),
            _box(0.32, 0.12, 0.68, 0.24, "paper"),
            _box(0.14, 0.24, 0.86, 0.29),
            _polygon((0.28, 0.28), (0.72, 0.28), (1.0, 1.0), (0.0, 1.0)),
            _ellipse(0.40, 0.36, 0.60, 0.45, "paper"),
            _ellipse(0.40, 0.55, 0.60, 0.64, "paper"),
            _box(0.36, 0.80, 0.64, 1.0, "ink"),
        ),
    ),
    "flower": Shape(
        "land",
        0.62,
        (
            _line(0.06, (0.5, 0.40), (0.5, 1.0), role="leaf"),
            _ellipse(0.06, 0.70, 0.48, 0.84, "leaf"),
            _ellipse(0.52, 0.78, 0.94, 0.92, "leaf"),
            _ellipse(0.30, 0.0, 0.70, 0.26),
            _ellipse(0.0, 0.10, 0.42, 0.36),
            _ellipse(0.58, 0.10, 1.0, 0.36),
            _ellipse(0.10, 0.30, 0.50, 0.58),
            _ellipse(0.50, 0.30, 0.90, 0.58),
            _ellipse(0.34, 0.20, 0.66, 0.40, "heart"),
        ),
    ),
}


@dataclass(frozen=True)
class Box:
    """Where an object is drawn, in the canvas's pixels."""

    left: float
    top: float
    width: float
    height: float
    mirrored: bool = False


def draw_shape(draw: ImageDraw.ImageDraw, kind: str, colour: str, box: Box) -> None:
    """Draws an object of `SHAPES` in a colour of `palette.OBJECTS`."""
    colours = role_colours(colour)
    for part in SHAPES[kind].parts:
        draw_part(draw, part, colours[part.role], box)


def draw_part(draw: ImageDraw.ImageDraw, part: Part, fill: object, box: Box) -> None:
    """Draws one part of an object in `fill`, which is of the canvas's mode."""
    points = [(box.left + (1 - x if box.mirrored else x) * box.width, box.top + y * box.height) for x, y in part.points]
    if part.figure == "polygon":
        draw.polygon(points, fill=fill)
    elif part.figure == "ellipse":
        (left, top), (right, bottom) = points
        draw.ellipse((min(left, right), top, max(left, right), bottom), fill=fill)
    else:
        width = max(1, round(part.width * box.height))
        draw.line(points, fill=fill, width=width, joint="curve")
        for x, y in (points[0], points[-1]):  # round ends
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=fill)


def role_colours(colour: str) -> dict[Role, palette.Colour]:
    """The colours of an object's parts; decoration that would not be seen on the main colour takes another."""
    pale, dim = colour in ("white", "yellow"), colour in ("black", "brown", "blue", "purple")
    return {
        "main": palette.OBJECTS[colour],
        "ink": (150, 156, 170) if dim else palette.INK,
        "paper": (108, 126, 156) if pale else palette.PAPER,
        "wood": palette.WOOD,
        "leaf": palette.LEAF,
        "beak": (200, 60, 40) if colour in ("orange", "yellow") else palette.BEAK,
        "water": palette.WATER,
        "heart": palette.WOOD if colour in ("yellow", "orange", "white") else (255, 214, 60),
    }
