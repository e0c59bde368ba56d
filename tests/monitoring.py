"""What docker/ has to watch the servers with: Prometheus' rules, Grafana's dashboards, the metrics that they name."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROMETHEUS = ROOT / "docker/prometheus"
CONFIGURATION = PROMETHEUS / "prometheus.yaml"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
DASHBOARDS = sorted((ROOT / "docker/grafana/dashboards").glob("*.json"))

METRICS = ROOT / "tests/unit/alerts/metrics.txt"
"""Every metric that the real stack exports; written by
`UPDATE_METRICS=1 ./scripts/test tests/integration/test_monitoring.py`.
"""
ON_A_GPU = ROOT / "tests/unit/alerts/gpu_metrics.txt"
"""The answer of Triton 2.51's metrics port on a machine with one H200, taken down there."""
GPU_METRICS = frozenset(re.findall(r"^(nv_gpu_\w+|nv_energy_\w+)\{", ON_A_GPU.read_text(), re.MULTILINE))
"""Those that only such a machine has. Elsewhere what names them has no data."""
OF_PROMETHEUS = frozenset({"up", "ALERTS"})

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="Prometheus is not installed (Debian: apt install prometheus)",
)


@dataclass(frozen=True)
class Query:
    """A query of a dashboard."""

    dashboard: str
    panel: str
    letter: str
    expression: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}, {self.letter}"

    def of_everything(self, interval: str) -> str:
        """The query as Grafana sends it, with all its variables at All."""
        named = self.expression.replace("$__rate_interval", interval)
        return re.sub(r"\$\w+", ".*", named)

    @property
    def needs_a_gpu(self) -> bool:
        return not GPU_METRICS.isdisjoint(metrics_in(self.expression))


def dashboard(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def queries() -> list[Query]:
    """Those of all panels of all dashboards."""
    return [
        Query(path.stem, panel["title"], target["refId"], target["expr"])
        for path in DASHBOARDS
        for panel in dashboard(path)["panels"]
        for target in panel["targets"]
    ]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in _rules() if "alert" in rule]


def recordings() -> list[dict[str, Any]]:
    return [rule for rule in _rules() if "record" in rule]


def known_metrics() -> set[str]:
    """What a query may name."""
    recorded = {rule["record"] for rule in recordings()}
    return set(METRICS.read_text().split()) | GPU_METRICS | OF_PROMETHEUS | recorded


def metrics_in(expression: str) -> set[str]:
    """The names of the metrics that a PromQL expression reads."""
    text = re.sub(r'"[^"]*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    found = re.findall(r"(?<![\w.:])([a-zA-Z_:][\w:]*+)(?!\s*\()", text)  # what a bracket follows is a function
    return set(found) - {"and", "or", "unless", "bool", "offset"}


def _rules() -> Iterator[dict[str, Any]]:
    for path in RULE_FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]
