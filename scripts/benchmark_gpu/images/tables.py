"""What was measured, as tables."""

import statistics
from typing import Any

from benchmark_gpu.images.measurement import Findings
from benchmarks.report import Report, Table, spread

_GIB = 2**30


def build(findings: Findings, report: Report, what: str) -> None:
    """Adds the tables of what there is to a report.

    Args:
        findings: All numbers.
        report: Gets the tables.
        what: What an image is, in words.
    """
    for kind, title in (
        ("image", f"Whole images, {what}"),
        ("unet", "One call of the UNet, ms (a denoising step with guidance)"),
        ("vae", "Decoding one image, ms"),
    ):
        rows = [row for row in findings.rows if row["what"] == kind]
        if rows:
            build_one = _images if kind == "image" else _calls
            report.tables.append(build_one(title, rows, findings.facts))


def _images(title: str, rows: list[dict[str, Any]], facts: dict[str, Any]) -> Table:
    table = Table(
        title,
        ["", "at a time", "s until all are done", "images/s", "ratio to the plain pipeline", "memory, GiB", "picture"],
    )
    plain = statistics.median(rows[0].get("seconds", [float("nan")]))
    for row in rows:
        if "error" in row:
            table.rows.append([row["name"], str(row["images"]), row["error"], "", "", "", ""])
            continue
        rate = row["images"] / statistics.median(row["seconds"])
        same = "the same" if row["psnr"] is None else f"{row['psnr']:.1f} dB"
        table.rows.append(
            [
                row["name"],
                str(row["images"]),
                spread(row["seconds"]),
                f"{rate:.2f}",
                f"{rate * plain:.2f}",
                f"{row['peak_bytes'] / _GIB:.1f}",
                same,
            ]
        )
    table.notes.append(
        "`memory`: the most that PyTorch kept, CUDA graphs among it. `picture`: the first one's PSNR beside the plain "
        "pipeline's."
    )
    for part in ("blocks", "model"):
        if seconds := facts.get(f"seconds_until_ready_{part}"):
            table.notes.append(f"The engine's model that compiles `{part}` was ready after {seconds:.0f} s.")
    return table


def _calls(title: str, rows: list[dict[str, Any]], facts: dict[str, Any]) -> Table:
    is_unet = rows[0]["what"] == "unet"
    counts = sorted({row["images"] for row in rows})
    table = Table(title, ["", *(f"{count} at a time" for count in counts)])
    for name in dict.fromkeys(row["name"] for row in rows):
        cells = []
        for count in counts:
            found = next((row for row in rows if row["name"] == name and row["images"] == count), None)
            cells.append(_cell(found))
        table.rows.append([name, *cells])
    if is_unet and "operations_per_second" in facts:
        operations = [count * facts["step_operations"] / facts["operations_per_second"] for count in counts]
        read = facts["unet_bytes"] / facts["bytes_per_second"]
        table.rows.append(["floor: operations", *(f"{1000 * seconds:.1f}" for seconds in operations)])
        table.rows.append(["floor: reading the weights", *[f"{1000 * read:.1f}"] * len(counts)])
        table.notes.append(
            f"The floors: {facts['step_operations'] / 1e12:.2f} TFLOP for each image at the "
            f"{facts['operations_per_second'] / 1e12:.0f} TFLOP/s of one large matrix product, and "
            f"{facts['unet_bytes'] / _GIB:.2f} GiB of weights at the {facts['bytes_per_second'] / 1e12:.2f} TB/s that "
            "a copy reads and writes together; both measured in this run."
        )
    for name, seconds in facts.items():
        if is_unet and (number := name.removeprefix("seconds_to_compile_")).isdecimal():
            table.notes.append(f"Compiling for {number} at a time took {seconds:.0f} s.")
    return table


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if "error" in row:
        return str(row["error"])
    return spread([1000 * seconds for seconds in row["seconds"]], 1)
