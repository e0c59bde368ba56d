"""What scales and what is watched on Kubernetes: targets are there, queries name metrics that there are."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests import (
    COMPONENTS,
    DOCUMENTATION,
    EVERY_OVERLAY,
    KUBERNETES,
    Resource,
    named,
    needs_kubectl,
    of_kind,
    overlay,
    pods,
    render,
    selects,
    title,
)
from monitoring import RULE_FILES, known_metrics, metrics_in, needs_prometheus

pytestmark = needs_kubectl

ADAPTER = KUBERNETES / "components/prometheus-adapter/adapter.yaml"
MONITORING = KUBERNETES / "components/monitoring"
SCALED = [component for component in COMPONENTS if "keda" in component or "adapter" in component]
WAYS = ("keda", "prometheus-adapter")

every_overlay = pytest.mark.parametrize("name", EVERY_OVERLAY)


def triggers(scaler: Resource) -> list[tuple[str, float]]:
    """Query and threshold of each trigger or metric of a scaler."""
    if scaler["kind"] == "ScaledObject":
        return [
            (each["metadata"]["query"], float(each["metadata"]["threshold"])) for each in scaler["spec"]["triggers"]
        ]
    metrics = [metric["pods"] for metric in scaler["spec"]["metrics"]]
    return [(adapter()[each["metric"]["name"]], float(each["target"]["averageValue"])) for each in metrics]


def adapter() -> dict[str, str]:
    """The metrics that the Prometheus adapter makes, as queries over all pods."""
    rules = yaml.safe_load(ADAPTER.read_text())["rules"]["custom"]
    return {
        rule["name"]["as"]: rule["metricsQuery"].replace("{<<.LabelMatchers>>}", "").replace(" by (<<.GroupBy>>)", "")
        for rule in rules
    }


def scalers(component: str) -> list[Resource]:
    return of_kind(render(KUBERNETES / component), "ScaledObject", "HorizontalPodAutoscaler")


@every_overlay
def test_every_scaler_has_its_target_and_no_target_two(name: str) -> None:
    resources = overlay(name)
    targets = []
    for scaler in of_kind(resources, "ScaledObject", "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        found = named(resources, target["kind"], target["name"])
        assert found["apiVersion"] == target["apiVersion"], title(scaler)
        targets.append(target["name"])
    assert sorted(targets) == sorted(set(targets))
    assert "gateway" in targets


@pytest.mark.parametrize(
    ("name", "kind", "targets"),
    [
        ("together-keda", "ScaledObject", {"triton"}),
        ("apart-keda", "ScaledObject", {"triton", "triton-images"}),
        ("together-adapter", "HorizontalPodAutoscaler", {"triton", "gateway"}),
        ("apart-adapter", "HorizontalPodAutoscaler", {"triton", "triton-images", "gateway"}),
    ],
)
def test_each_model_scales_by_its_own_metrics(name: str, kind: str, targets: set[str]) -> None:
    found = {scaler["metadata"]["name"]: scaler for scaler in of_kind(overlay(name), kind)}
    assert set(found) == targets
    if "triton-images" in targets:
        assert all("fictures_image" in query for query, _ in triggers(found["triton-images"]))
        assert all("vllm:" in query for query, _ in triggers(found["triton"]))


def test_both_ways_ask_the_same_questions_with_the_same_thresholds() -> None:
    for shape in ("together", "apart"):
        by_keda, by_adapter = (
            {scaler["metadata"]["name"]: triggers(scaler) for scaler in scalers(f"components/{way}/{shape}")}
            for way in WAYS
        )
        assert by_keda == by_adapter


def test_together_is_the_sum_of_apart() -> None:
    for way in WAYS:
        (both,) = scalers(f"components/{way}/together")
        each = [trigger for scaler in scalers(f"components/{way}/apart") for trigger in triggers(scaler)]
        assert sorted(triggers(both)) == sorted(each)


def test_the_documentation_has_each_metric_with_its_threshold() -> None:
    rows = re.findall(r"^\| `([\w:]+)` \| (\d+)[ ,]", DOCUMENTATION.read_text(), re.MULTILINE)
    (both,) = scalers("components/keda/together")
    asked = {(re.sub("_sum$", "", min(metrics_in(query), key=len)), threshold) for query, threshold in triggers(both)}
    assert {(metric, float(threshold)) for metric, threshold in rows} == asked


def test_the_queries_read_metrics_that_the_server_has() -> None:
    for component in SCALED:
        for scaler in scalers(component):
            for query, _ in triggers(scaler):
                assert metrics_in(query) <= known_metrics()


@needs_prometheus
def test_prometheus_takes_the_queries(tmp_path: Path) -> None:
    queries = {query for component in SCALED for scaler in scalers(component) for query, _ in triggers(scaler)}
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(sorted(queries))]
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    run = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_prometheus
def test_an_idle_server_has_a_queue_of_nothing_and_a_missing_one_none(tmp_path: Path) -> None:
    (query,) = {query for query in adapter().values() if "queue_time" in query}
    name = "vllm:request_queue_time_seconds"

    def series(total: str, count: str) -> list[dict[str, str]]:
        return [{"series": f"{name}_sum", "values": total}, {"series": f"{name}_count", "values": count}]

    def asked(given: list[dict[str, str]], *samples: float) -> dict[str, Any]:
        expected = [{"labels": "{}", "value": value} for value in samples]
        question = {"expr": query, "eval_time": "10m", "exp_samples": expected}
        return {"interval": "1m", "input_series": given, "promql_expr_test": [question]}

    tests = [asked(series("7x20", "3x20"), 0), asked([], *()), asked(series("0+12x20", "0+4x20"), 3)]
    path = tmp_path / "tests.json"
    path.write_text(json.dumps({"evaluation_interval": "1m", "tests": tests}))
    run = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


def test_thresholds_of_occupancy_are_below_what_a_batch_takes() -> None:
    most_images = json.loads((KUBERNETES.parents[1] / "model_repository/sdxl_stream/1/model.json").read_text())
    settings = next(
        config["data"]
        for config in of_kind(overlay("single"), "ConfigMap")
        if config["metadata"]["name"].startswith("triton-settings")
    )
    limits = {
        "sum(vllm:num_requests_running)": int(settings["VLLM_MAX_NUM_SEQS"]),
        "sum(fictures_image_requests_running)": most_images["max_batch_size"],
    }
    (both,) = scalers("components/keda/together")
    found = {query: threshold for query, threshold in triggers(both) if query in limits}
    assert set(found) == set(limits)
    for query, threshold in found.items():
        assert 0.5 * limits[query] < threshold < 0.9 * limits[query]


@pytest.mark.parametrize("component", SCALED)
def test_scaling_goes_up_in_steps_and_down_slowly_and_never_to_nothing(component: str) -> None:
    for scaler in scalers(component):
        spec = scaler["spec"]
        advanced = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", spec)
        down, up = advanced["behavior"]["scaleDown"], advanced["behavior"]["scaleUp"]
        assert down["stabilizationWindowSeconds"] >= 300 > up["stabilizationWindowSeconds"]
        assert [policy["value"] for policy in [*down["policies"], *up["policies"]]] == [1, 1]
        least, most = (spec.get(f"{end}Replicas", spec.get(f"{end}ReplicaCount")) for end in ("min", "max"))
        assert 1 <= least < most


def test_a_scaled_object_is_as_keda_has_it() -> None:
    for shape in ("together", "apart"):
        for scaler in scalers(f"components/keda/{shape}"):
            assert set(scaler["spec"]) == {
                "scaleTargetRef",
                "pollingInterval",
                "minReplicaCount",
                "maxReplicaCount",
                "advanced",
                "triggers",
            }
            for trigger in scaler["spec"]["triggers"]:
                assert set(trigger) == {"type", "metricType", "metadata"}
                assert trigger["type"] == "prometheus"
                # A ratio to the present number for the average wait, a share for what is counted over all replicas.
                average = "queue_time" in trigger["metadata"]["query"]
                assert trigger["metricType"] == ("Value" if average else "AverageValue")
                assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold", "ignoreNullValues"}
                assert all(isinstance(value, str) for value in trigger["metadata"].values())
                assert trigger["metadata"]["ignoreNullValues"] == "false"  # gone is not the same as idle


@every_overlay
def test_the_monitors_find_the_metrics_of_every_pod(name: str) -> None:
    monitors = {monitor["metadata"]["name"]: monitor["spec"] for monitor in of_kind(render(MONITORING), "PodMonitor")}
    assert set(monitors) == {"triton", "gateway"}
    for job, spec in monitors.items():
        (endpoint,) = spec["podMetricsEndpoints"]
        assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": job}]
        found = [each for each in pods(overlay(name)) if selects(spec["selector"], each.labels)]
        assert {each.is_triton for each in found if endpoint["port"] in each.ports} == {job == "triton"}
    for each in pods(overlay(name)):
        assert any(selects(spec["selector"], each.labels) for spec in monitors.values())


def test_the_jobs_are_called_as_in_the_configuration_of_prometheus() -> None:
    configuration = yaml.safe_load((RULE_FILES[0].parents[1] / "prometheus.yaml").read_text())
    assert {job["job_name"] for job in configuration["scrape_configs"]} >= {"triton", "gateway"}


def test_the_alerts_are_those_of_docker_prometheus() -> None:
    (rule,) = of_kind(render(MONITORING), "PrometheusRule")
    groups = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    assert rule["spec"] == {"groups": groups}, "run docker/kubernetes/components/monitoring/make_rules.py"
    names = [group["name"] for group in groups]
    assert len(names) == len(set(names))  # the operator wants that


def test_the_file_of_alerts_is_as_its_maker_writes_it() -> None:
    maker = "import make_rules; print(make_rules.rules(), end='')"
    run = subprocess.run([sys.executable, "-Bc", maker], cwd=MONITORING, capture_output=True, text=True, timeout=60)
    assert run.stdout == (MONITORING / "rules.yaml").read_text()
