"""What was measured, as tables."""

import statistics
from collections.abc import Sequence

from benchmark_gpu.images.findings import Findings, Floors, Row
from benchmarks.report import Report, Table, spread

_GIB = 2**30
_READY = "ready after, s"
_NOTE = (
    "Ratios are those of images/s. Rows without CUDA graphs depend on the processor more than on the GPU. "
    f"`{_READY}`: until all was compiled, with what was compiled before in this run kept."
)


def build(findings: Findings, report: Report, what: str) -> None:
    """Adds the tables of what there is to a report.

    Args:
        findings: All numbers.
        report: Gets the tables.
        what: What an image is, in words.
    """
    images, calls, decoding = ([row for row in findings.rows if row.what == kind] for kind in ("image", "unet", "vae"))
    if images:
        report.tables += [_in_short(f"In short, {what}", images), _images(f"Whole images, {what}", images)]
    if calls:
        report.tables.append(_calls("One call of the UNet, ms (a denoising step with guidance)", calls))
        if findings.floors:
            _add_floors(report.tables[-1], findings.floors, _counts(calls))
    if decoding:
        report.tables.append(_calls("Decoding one image, ms", decoding))


def _in_short(title: str, rows: Sequence[Row]) -> Table:
    """A line for each way: an image alone, and as many as there are at a time."""
    plain, most = _rate(rows[0]), _counts(rows)[-1]
    together = f"{most} at a time"
    columns = ["", "one image, s", "ratio to the plain pipeline", f"images/s, {together}", f"ratio, {together}", _READY]
    table = Table(title, columns if most > 1 else [*columns[:3], _READY], notes=[_NOTE])
    for name in dict.fromkeys(row.name for row in rows):
        by_count = {row.images: row for row in rows if row.name == name}
        alone, all_of_them = (_rate(by_count[count]) if count in by_count else 0.0 for count in (1, most))
        cells = [name, _number(1 / alone if alone else 0), _ratio(alone, plain)]
        if most > 1:
            cells += [_number(all_of_them), _ratio(all_of_them, plain)]
        ready = next((row.ready_after for row in by_count.values() if row.ready_after is not None), None)
        table.rows.append([*cells, _seconds(ready)])
    return table


def _images(title: str, rows: Sequence[Row]) -> Table:
    table = Table(
        title,
        ["", "at a time", "s until all are done", "images/s", "ratio to the plain pipeline", "memory, GiB", "picture"],
    )
    plain = _rate(rows[0])
    for row in rows:
        if row.error:
            table.rows.append([row.name, str(row.images), row.error, "", "", "", ""])
            continue
        rate = _rate(row)
        table.rows.append(
            [
                row.name,
                str(row.images),
                spread(row.seconds),
                f"{rate:.2f}",
                _ratio(rate, plain),
                f"{row.peak_bytes / _GIB:.1f}",
                _likeness(row),
            ]
        )
    table.notes.append(
        "`memory`: the most that PyTorch kept, CUDA graphs among it. `picture`: the first one's PSNR beside the plain "
        "pipeline's."
    )
    return table


def _calls(title: str, rows: Sequence[Row]) -> Table:
    counts = _counts(rows)
    table = Table(title, ["", *(f"{count} at a time" for count in counts)])
    for name in dict.fromkeys(row.name for row in rows):
        by_count = {row.images: row for row in rows if row.name == name}
        table.rows.append([name, *(_milliseconds(by_count.get(count)) for count in counts)])
    table.notes += [
        f"{row.name}: compiled for {row.images} at a time in {_seconds(row.ready_after)} s."
        for row in rows
        if row.ready_after is not None
    ]
    return table


def _add_floors(table: Table, floors: Floors, counts: Sequence[int]) -> None:
    computing = [count * floors.step_operations / floors.operations_per_second for count in counts]
    reading = floors.unet_bytes / floors.bytes_per_second
    table.rows.append(["floor: operations", *(f"{1000 * seconds:.1f}" for seconds in computing)])
    table.rows.append(["floor: reading the weights", *[f"{1000 * reading:.1f}"] * len(counts)])
    table.notes.insert(
        0,
        f"The floors: {floors.step_operations / 1e12:.4g} TFLOP for each image at the "
        f"{floors.operations_per_second / 1e12:.3g} TFLOP/s of one large matrix product, and "
        f"{floors.unet_bytes / _GIB:.3g} GiB of weights at the {floors.bytes_per_second / 1e12:.3g} TB/s that "
        "a copy reads and writes together; both measured in this run.",
    )


def _likeness(row: Row) -> str:
    if not row.is_compared:
        return ""
    return "the same" if row.psnr is None else f"{row.psnr:.1f} dB"


def _counts(rows: Sequence[Row]) -> list[int]:
    return sorted({row.images for row in rows})


def _rate(row: Row) -> float:
    """Images a second; 0 where nothing was measured."""
    return row.images / statistics.median(row.seconds) if row.seconds else 0.0


def _ratio(rate: float, plain: float) -> str:
    return _number(rate / plain) if plain else ""


def _number(value: float) -> str:
    """Empty where nothing was measured."""
    return f"{value:.2f}" if value else ""


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _milliseconds(row: Row | None) -> str:
    if row is None:
        return ""
    return row.error or spread([1000 * seconds for seconds in row.seconds], 1)
