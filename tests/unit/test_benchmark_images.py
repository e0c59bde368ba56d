"""The image benchmark's arithmetic: rates, percentiles, occupancy, ratios within a round, and what the options say."""

import asyncio
import random
import re
import signal
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from benchmarks import load_tools
from benchmarks.__main__ import app
from benchmarks.errors import BenchmarkError, DrawingFailed
from benchmarks.images import loads, tables
from benchmarks.images.comparison import Result, Sample, arrival_rates
from benchmarks.images.endpoints import steps_of
from benchmarks.images.requests import Arrival, ImageRequest, Work, alike
from benchmarks.images.systems import REQUEST_TIMEOUT, Steps
from benchmarks.images.under_perf_analyzer import UnderPerfAnalyzer
from benchmarks.rounds import in_turn

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


class Sleeper:
    """Takes 20 ms for an image, however many it draws; a step has as many images as requests are under way.

    Args:
        stagger: Seconds from the end of one to that of the next, as if they were decoded one after the other.
    """

    name = "sleeper"

    def __init__(self, stagger: float = 0.0) -> None:
        self._images = 0
        self._decoding = asyncio.Lock()
        self._stagger = stagger

    async def draw(self, request: ImageRequest) -> bytes:
        await asyncio.sleep(0.02)
        async with self._decoding:
            await asyncio.sleep(self._stagger)
        self._images += 1
        return b""

    async def steps(self) -> Steps:
        return Steps(self._images / 4, self._images)


def result(system: str, load: str, rates: Sequence[float]) -> Result:
    return Result(system, load, [Sample(rate, 1 / rate, 2 / rate, 3 / rate) for rate in rates])


@pytest.mark.parametrize("stagger", [0.0, 0.002, 0.01])
async def test_a_closed_loop_has_a_rate_latencies_and_an_occupancy(stagger: float) -> None:
    load = await loads.closed_loop(Sleeper(stagger), alike(Work(), random.Random(0)), 4, 0.1)
    assert min(load.latencies) >= 0.02
    assert len(load.latencies) >= 8
    assert load.images_per_step == 4
    # By Little's law there are as many under way as the rate and the time of each make.
    assert load.images_per_second * statistics.fmean(load.latencies) == pytest.approx(4, rel=0.05)


async def test_a_closed_loop_of_perf_analyzers_is_counted_as_ours_is(monkeypatch: pytest.MonkeyPatch) -> None:
    sent, limits = list[list[dict[str, Any]]](), list[float]()

    def profile(_name: str, _options: Any, requests: list[Any], in_flight: int, seconds: float) -> list[Any]:
        """Whole waves, one behind the other; times in nanoseconds."""
        sent.append(requests)
        limits.append(seconds)
        begins = (index // in_flight * 20_000_000 for index in range(len(requests)))
        return [{"timestamp": begin, "response_timestamps": [begin + 20_000_000]} for begin in begins][::-1]

    monkeypatch.setattr(load_tools, "profile", profile)
    system = UnderPerfAnalyzer(Sleeper(), "h:1", lambda _: None)
    load = await system.closed_loop(alike(Work(), random.Random(0)), 4, 0.2)
    assert list(map(len, sent)) == [4, 44]
    assert limits == [REQUEST_TIMEOUT, pytest.approx(44 / 4 * 0.02)], "as long as it takes, however slow the model"
    assert load.images_per_second == pytest.approx(4 / 0.02)
    assert load.latencies == pytest.approx([0.02] * 36)
    assert len({str(request["prompt"]) for requests in sent for request in requests}) == 48
    assert sent[0][0] | {"prompt": [], "seed": []} == {
        "prompt": [],
        "width": [256],
        "height": [256],
        "num_inference_steps": [8],
        "guidance_scale": [7.5],
        "scheduler": ["dpmpp_2m_karras"],
        "seed": [],
    }


async def test_a_request_that_perf_analyzer_did_not_see_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_tools, "profile", lambda *_: [{"timestamp": 0, "response_timestamps": [1]}] * 3)
    system = UnderPerfAnalyzer(Sleeper(), "h:1", lambda _: None)
    with pytest.raises(BenchmarkError, match="sdxl, gRPC, perf_analyzer: perf_analyzer saw 3 of 4 requests"):
        await system.closed_loop(alike(Work(), random.Random(0)), 4, 0.2)


def test_ctrl_c_ends_perf_analyzer_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = list[str]()

    def profile(*_: Any) -> list[Any]:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            ends.append("ended")
            raise
        ends.append("went on")
        return []

    monkeypatch.setattr(load_tools, "profile", profile)
    system = UnderPerfAnalyzer(Sleeper(), "h:1", lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(system.closed_loop(alike(Work(), random.Random(0)), 4, 0.2))
    assert ends == ["ended"]


class Failing(Sleeper):
    """Draws every other image."""

    async def draw(self, request: ImageRequest) -> bytes:
        if request.seed % 2:
            raise DrawingFailed("no")
        return await super().draw(request)


async def test_arrivals_come_when_they_are_due_and_those_that_fail_have_no_latency() -> None:
    arrivals = [Arrival(number / 100, ImageRequest(number, 256, 8)) for number in range(4)]
    load = await loads.replay(Failing(), arrivals)
    assert [latency < 1 for latency in load.latencies] == [True, False, True, False]
    assert min(load.latencies) >= 0.02
    assert load.errors == ["no", "no"]
    assert 0 < load.images_per_second <= 2 / 0.04
    assert load.images_per_step == 4


def test_occupancy_is_that_of_the_steps_since_then() -> None:
    assert Steps(30, 90).occupancy(Steps(10, 20)) == 3.5
    assert Steps(10, 20).occupancy(Steps(10, 20)) is None


def test_steps_are_summed_over_the_engines() -> None:
    series = [f'{{model="m",pid="{pid}"}}' for pid in (1, 2)]
    name = "fictures_image_step_images"
    lines = [f"# TYPE {name} histogram"]
    for labels in series:
        lines += [f'{name}_bucket{labels[:-1]},le="+Inf"}} 2', f"{name}_count{labels} 2", f"{name}_sum{labels} 5"]
    assert steps_of("\n".join([*lines, ""])) == Steps(4, 10)


def test_ratios_are_those_of_a_round() -> None:
    plain, engine = result("plain pipeline", "8", [2, 4]), result("engine in process", "8", [3, 8])
    assert engine.ratios("images_per_second", plain) == [1.5, 2]
    assert engine.ratios("images_per_step", plain) == []


def test_layers_are_compared_with_the_one_below() -> None:
    results = [result(*each) for each in [("plain pipeline", "8", [2]), ("engine in process", "8", [3])]]
    row = ["engine in process / plain pipeline", "8", "1.50", "1.60 or more", "not met"]
    assert tables.derived(results, Work()).rows == [row]
    assert tables.derived(results[:1], Work()).rows == []


def test_in_short_it_is_rates_and_their_ratios_by_count() -> None:
    results = [result("plain pipeline", load, [2, 4]) for load in ("1", "8")]
    results += [result("sdxl, gRPC", load, [3, 6]) for load in ("1", "8")] + [result("sdxl, gRPC", "all", [9, 9])]
    found = tables.short(results, "plain pipeline", Work())
    assert found.columns == ["at the same time", "1", "8"]
    ours = "4.50; 1.50 (1.50 to 1.50)"
    assert found.rows == [["plain pipeline", "3.00", "3.00"], ["sdxl, gRPC", ours, ours]]


def test_a_failed_request_has_no_latency_in_json() -> None:
    failed = Result("sdxl", "x", [Sample(0.5, 1, float("inf"), float("inf"), errors=["no"])])
    (found,) = tables.as_json([failed], "plain pipeline", "", Work())["results"]
    assert (found["rounds"][0]["latency_median"], found["rounds"][0]["latency_p99"]) == (1, None)


def test_arrivals_are_a_part_of_the_lower_capacity_and_of_sdxls() -> None:
    assert arrival_rates(10, 20) == {"sdxl's capacity": 7}
    assert arrival_rates(20, 10) == {"the lower capacity": 7, "sdxl's capacity": 14}
    assert [in_turn([1, 2, 3], number) for number in (0, 1)] == [[1, 2, 3], [3, 2, 1]]


def test_every_measure_of_the_closed_loops_is_drawn() -> None:
    results = [result("plain pipeline", load, [2, 4]) for load in ("1", "8", "sdxl's capacity")]
    by_name = {picture.name: picture.lines for picture in tables.pictures(results)}
    assert by_name["images"] == {"plain pipeline": {1: [2, 4], 8: [2, 4]}}
    assert by_name["p99"]["plain pipeline"][8] == [1.5, 0.75]
    assert by_name["occupancy"] == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--concurrency", "4,x"], "4,x: must be whole numbers from 1 to 1024, with commas"),
        (["--contender", "sdxl"], "sdxl: must be one of plain pipeline, engine in process, sdxl, HTTP"),
        (["--json", "/no/such/x.json"], "/no/such/x.json: no such folder"),
        (
            ["--page", str(PAGE.with_name("client.md"))],
            "has no <!-- images in short --> and <!-- end of images in short --> after it",
        ),
    ],
)
def test_a_wrong_option_is_named(options: list[str], words: str) -> None:
    run = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["images", *options])
    assert run.exit_code == 2
    assert words in run.output


def test_every_option_is_documented() -> None:
    command = get_command(app).commands["images"]  # type: ignore[attr-defined]
    documented = set(re.findall(r"`(--[a-z-]+)`", PAGE.read_text().partition("## Images")[2]))
    assert {option for parameter in command.params for option in parameter.opts} - {"--help"} <= documented
