"""What a training leaves besides the model: numbers, curves and pictures."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from train_tiny.images.stage import Progress

_COLOURS = ("#c0392b", "#2471a3", "#1e8449", "#7d3c98")
_PLOT = (720, 360)
_MARGIN = 56
_TEXT_LINE = 15  # pixels


def write_contact_sheet(file: Path, pictures: Sequence[Image.Image], captions: Sequence[str], columns: int) -> None:
    """One picture of many of any sizes, each with its caption below it; the name's ending decides its format."""
    width = max(picture.width for picture in pictures) + 8
    height = max(picture.height for picture in pictures) + 3 * _TEXT_LINE + 8
    sheet = Image.new("RGB", (width * columns, height * math.ceil(len(pictures) / columns)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = number % columns * width + 4, number // columns * height + 4
        sheet.paste(picture, (x, y))
        for line, words in enumerate(_wrapped(caption, width - 8)[:3]):
            draw.text((x, y + picture.height + 1 + line * _TEXT_LINE), words, fill="black", font=_font())
    sheet.save(file, quality=88)


def write_curves(file: Path, stages: dict[str, Progress]) -> None:
    """A PNG with a plot of all losses of each stage over its steps, smoothed, on a logarithmic scale."""
    sheet = Image.new("RGB", (_PLOT[0], _PLOT[1] * len(stages)), "white")
    for number, (name, progress) in enumerate(stages.items()):
        sheet.paste(_plot(name, progress), (0, number * _PLOT[1]))
    sheet.save(file)


def _plot(name: str, progress: Progress) -> Image.Image:
    image = Image.new("RGB", _PLOT, "white")
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, 8), f"{name}: losses over {progress.step} steps", fill="black", font=_font())
    names = [key for key in (progress.curve[0] if progress.curve else {}) if key in ("loss", "error", "edges")]
    lines = {key: _smoothed([math.log10(max(point[key], 1e-9)) for point in progress.curve]) for key in names}
    if not lines:
        return image
    values = [value for line in lines.values() for value in line]
    low, high = min(values), max(max(values), min(values) + 0.1)
    right, bottom = _PLOT[0] - 16, _PLOT[1] - 28
    for tick in range(5):
        share = low + (high - low) * tick / 4
        y = bottom - (bottom - 40) * tick / 4
        draw.line(((_MARGIN, y), (right, y)), fill="#dddddd")
        draw.text((6, y - 7), f"{10**share:.4f}", fill="black", font=_font())
    for colour, (key, line) in zip(_COLOURS, lines.items(), strict=False):
        across = (right - _MARGIN) / max(1, len(line) - 1)
        points = [(_MARGIN + i * across, bottom - (bottom - 40) * (v - low) / (high - low)) for i, v in enumerate(line)]
        draw.line(points, fill=colour, width=2)
        draw.text((_MARGIN + 80 * names.index(key), _PLOT[1] - 22), key, fill=colour, font=_font())
    return image


def _smoothed(values: Sequence[float]) -> list[float]:
    smooth, result = values[0], []
    for value in values:
        smooth += 0.2 * (value - smooth)
        result.append(smooth)
    return result


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _font().getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)
