"""What the GPU benchmark of images measured is told in tables."""

import json
from dataclasses import replace
from pathlib import Path

from benchmark_gpu.images import tables
from benchmark_gpu.images.findings import Findings, Floors, Row
from benchmarks.report import Report, Table

PLAIN = Row("image", "pipeline", 1, [2.0, 4.0])


def tables_of(findings: Findings) -> list[Table]:
    report = Report()
    tables.build(findings, report, "64x64")
    return report.tables


def test_a_step_cannot_be_faster_than_the_chip_computes_or_reads_the_weights() -> None:
    calls = [Row("unet", "plain", count, [0.1 * count]) for count in (1, 4)]
    (table,) = tables_of(Findings(None, floors=Floors(1e15, 3e12, 20 * 10**12, 6 * 10**9), rows=calls))
    assert table.rows == [
        ["plain", "100.0", "400.0"],
        ["floor: operations", "20.0", "80.0"],
        ["floor: reading the weights", "2.0", "2.0"],
    ]


def test_each_way_has_a_line_with_one_image_and_with_the_most_at_a_time() -> None:
    rows = [PLAIN, *(Row("image", "engine", count, [1.0 * count], ready_after=22.4) for count in (1, 4, 8))]
    short, _ = tables_of(Findings(None, rows=rows))
    assert short.columns[1:5] == [
        "one image, s",
        "ratio to the plain pipeline",
        "images/s, 8 at a time",
        "ratio, 8 at a time",
    ]
    assert short.rows == [["pipeline", "3.00", "1.00", "", "", ""], ["engine", "1.00", "3.00", "1.00", "3.00", "22"]]


def test_one_at_a_time_needs_no_second_column() -> None:
    short, _ = tables_of(Findings(None, rows=[PLAIN]))
    assert short.rows == [["pipeline", "3.00", "1.00", ""]]
    assert len(short.columns) == 4


def test_what_failed_is_told_beside_what_did_not() -> None:
    rows = [PLAIN, Row("image", "engine", 1, [1.0]), Row("image", "engine", 8, error="out of memory")]
    short, whole = tables_of(Findings(None, rows=rows))
    assert short.rows[1] == ["engine", "1.00", "3.00", "", "", ""]
    assert whole.rows[2] == ["engine", "8", "out of memory", "", "", "", ""]


def test_without_the_plain_pipelines_time_there_are_no_ratios() -> None:
    rows = [Row("image", "pipeline", 1, error="out of memory"), Row("image", "engine", 1, [2.0])]
    short, whole = tables_of(Findings(None, rows=rows))
    assert short.rows == [["pipeline", "", "", ""], ["engine", "2.00", "", ""]]
    assert whole.rows[1][3:] == ["0.50", "", "0.0", ""]


def test_a_picture_is_the_same_or_so_alike_or_was_not_compared() -> None:
    compared = [replace(PLAIN, is_compared=True, psnr=psnr) for psnr in (None, 59.96)]
    _, whole = tables_of(Findings(None, rows=[*compared, PLAIN]))
    assert [row[-1] for row in whole.rows] == ["the same", "60.0 dB", ""]


def test_calls_that_are_compiled_say_how_long_that_took() -> None:
    rows = [Row("unet", "compiled", count, [0.1], ready_after=86.0 - count) for count in (1, 8)]
    rows += [Row("unet", "compiled, CUDA graph", count, [0.1]) for count in (1, 8)]  # of what was compiled
    (table,) = tables_of(Findings(None, rows=rows))
    assert table.notes == ["compiled: compiled for 1 at a time in 85 s.", "compiled: compiled for 8 at a time in 78 s."]


def test_what_is_found_is_in_the_file_at_once(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    Findings(file, "a machine").add(PLAIN)
    found = json.loads(file.read_text())
    assert found["machine"] == "a machine"
    assert found["rows"][0]["seconds"] == [2.0, 4.0]
