"""The rules and dashboards are well-formed, name metrics that there are, and every alert fires when it should."""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from monitoring import (
    CONFIGURATION,
    DASHBOARDS,
    GPU_METRICS,
    METRICS,
    ROOT,
    RULE_FILES,
    alerts,
    dashboard,
    known_metrics,
    metrics_in,
    needs_prometheus,
    queries,
    recordings,
)

SCENARIOS = sorted((ROOT / "tests/unit/alerts").glob("*.yaml"))
OPERATIONS = ROOT / "docs/operations.md"
GRAFANA = ROOT / "docker/grafana/provisioning"
UNITS = {"s", "short", "reqps", "ops", "percentunit", "bytes", "watt", "joule"}
"""Of those that Grafana knows, what these dashboards need."""


def promtool(*arguments: str | Path) -> None:
    run = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_prometheus
def test_prometheus_takes_its_configuration_and_rules() -> None:
    promtool("check", "config", CONFIGURATION)
    promtool("check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES)


@needs_prometheus
@pytest.mark.parametrize("scenarios", SCENARIOS, ids=lambda path: path.stem)
def test_alerts_fire_when_their_condition_is_true_and_only_then(scenarios: Path) -> None:
    promtool("test", "rules", scenarios)


@pytest.mark.parametrize("name", [alert["alert"] for alert in alerts()])
def test_every_alert_is_seen_quiet_and_seen_firing(name: str) -> None:
    steps = [step for path in SCENARIOS for test in _yaml(path)["tests"] for step in test["promql_expr_test"]]
    of_it = [step for step in steps if re.search(rf'alertname=~?"[^"]*\b{name}\b', step["expr"])]
    assert any(not step.get("exp_samples") for step in of_it), "quiet"
    fires = [step for step in of_it if step.get("exp_samples")]
    named = [step for step in fires if f'alertname="{name}"' in json.dumps(step).replace("\\", "")]
    assert named, "firing"


def test_the_jobs_that_rules_go_by_are_scraped() -> None:
    jobs = {job["job_name"] for job in _yaml(CONFIGURATION)["scrape_configs"]}
    texts = [path.read_text() for path in [*RULE_FILES, *DASHBOARDS]]
    named = {job for text in texts for jobs in re.findall(r'job=~?\\?"([\w|]+)', text) for job in jobs.split("|")}
    assert named == jobs == {"gateway", "triton"}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(alert: dict) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert ROOT / page == OPERATIONS
    assert anchor == alert["alert"].lower()
    assert anchor in _anchors()


def test_every_section_of_the_runbook_is_of_an_alert() -> None:
    runbook = OPERATIONS.read_text().partition("\n## What each alert means\n")[2].partition("\n## ")[0]
    sections = re.findall(r"^#### (\w+)$", runbook, re.MULTILINE)
    assert sorted(sections) == sorted(alert["alert"] for alert in alerts())
    for name, text in re.findall(r"^#### (\w+)\n(.*?)(?=^##|\Z)", runbook, re.MULTILINE | re.DOTALL):
        parts = [part for part in ("**Means**", "**Look at**", "**Do**") if part in text]
        assert len(parts) == 3, f"{name}: what it means, what to look at, what to do"


def test_panels_that_the_runbook_names_are_there() -> None:
    titles = {path.stem: {panel["title"] for panel in dashboard(path)["panels"]} for path in DASHBOARDS}
    named = re.findall(r"\*(\w+): ([^*]+)\*", OPERATIONS.read_text())
    assert named
    assert [f"{page}: {title}" for page, title in named if title not in titles.get(page, ())] == []


@pytest.mark.parametrize("rule", [*alerts(), *recordings()], ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_names_metrics_that_there_are(rule: dict) -> None:
    assert metrics_in(rule["expr"]) <= known_metrics()


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_dashboard_names_metrics_that_there_are(query) -> None:
    found = metrics_in(query.expression)
    assert found
    assert found <= known_metrics()


def test_the_metrics_of_a_gpu_are_used_and_are_not_those_of_this_machine() -> None:
    used = {name for query in queries() for name in metrics_in(query.expression)}
    used |= {name for alert in alerts() for name in metrics_in(alert["expr"])}
    assert used >= GPU_METRICS
    assert GPU_METRICS.isdisjoint(METRICS.read_text().split())


def test_every_recorded_series_is_used() -> None:
    used = {name for query in queries() for name in metrics_in(query.expression)}
    used |= {name for rule in [*alerts(), *recordings()] for name in metrics_in(rule["expr"])}
    assert {rule["record"] for rule in recordings()} <= used


@needs_prometheus
def test_prometheus_reads_every_query_of_the_dashboards(tmp_path: Path) -> None:
    rules = [{"record": f"query{i}", "expr": query.of_everything("1m")} for i, query in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", file)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_complete(path: Path) -> None:
    content = dashboard(path)
    assert content["uid"] == f"fictures-{path.stem}"
    assert content["schemaVersion"] >= 38  # Grafana 10
    variables = {variable["name"] for variable in content["templating"]["list"]}
    assert "datasource" in variables
    panels = content["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["description"].endswith((".", "?"))
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        named = {name for target in panel["targets"] for name in re.findall(r"\$(\w+)", target["expr"])}
        assert named <= variables | {"__rate_interval"}
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)
        assert one["x"] + one["w"] <= 24


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    (source,) = _yaml(GRAFANA / "datasources/prometheus.yaml")["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    interval = _yaml(CONFIGURATION)["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval, "$__rate_interval goes by it"
    (provider,) = _yaml(GRAFANA / "dashboards/fictures.yaml")["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def _yaml(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def _anchors() -> set[str]:
    """Those of the page's headings, as they are made of them."""
    headings = re.findall(r"^#+ (.+)$", OPERATIONS.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
