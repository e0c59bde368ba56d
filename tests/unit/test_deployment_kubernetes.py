"""docker/kubernetes renders as it is, is what Kubernetes takes, and means what docs/kubernetes.md says."""

import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml

from fictures.gateway.exposure import check_exposure
from fictures.settings import VARIABLES
from manifests import (
    COMPONENTS,
    DOCUMENTATION,
    EVERY_OVERLAY,
    KUBERNETES,
    OF_OTHERS,
    OVERLAYS,
    ROOT,
    Pods,
    Resource,
    named,
    needs_kubectl,
    of_kind,
    overlay,
    pods,
    render,
    selects,
    title,
    without_hash,
)

pytestmark = needs_kubectl

SCHEMAS = ("1.25", kubernetes_validate.latest_version())
"""The oldest Kubernetes that the documentation names, and the newest that there are schemas for."""

CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("serving.kserve.io/v1beta1", "InferenceService"),
}
"""Kinds of others' controllers, which Kubernetes' own schemas do not have."""

PROMETHEUS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
}
"""Where the documentation says that it is, with the label that its operator gives it."""

MARGIN = 5
"""Seconds that the launcher gives a Triton beyond TRITON_SHUTDOWN_TIMEOUT before it kills it."""

every_overlay = pytest.mark.parametrize("name", EVERY_OVERLAY)
USER = 10001


def test_each_shape_has_its_overlay() -> None:
    assert {"single", "apart", "multi-gpu", "multi-node", "cpu", "kserve"} <= set(OVERLAYS)


def test_the_documentation_has_a_row_for_each_overlay() -> None:
    text = DOCUMENTATION.read_text()
    assert [name for name in OVERLAYS if f"\n| `{name}` |" not in text] == []


# What Kubernetes takes


@pytest.mark.parametrize("version", SCHEMAS)
@every_overlay
def test_every_resource_fits_the_schemas_of_kubernetes(name: str, version: str) -> None:
    for resource in overlay(name):
        _validate(resource, version)


@pytest.mark.parametrize("version", SCHEMAS)
@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_renders_by_itself(component: str, version: str) -> None:
    resources = render(KUBERNETES / component)
    assert resources
    for resource in resources:
        _validate(resource, version)


@every_overlay
def test_the_pods_of_custom_resources_fit_the_schemas_of_kubernetes(name: str) -> None:
    for each in pods(overlay(name)):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "it", "labels": each.labels}, "spec": each.spec}
        for version in SCHEMAS:
            kubernetes_validate.validate(pod, version, strict=True)


def _validate(resource: Resource, version: str) -> None:
    if (resource["apiVersion"], resource["kind"]) not in CUSTOM:
        kubernetes_validate.validate(resource, version, strict=True)


def test_the_schemas_know_none_of_the_custom_kinds() -> None:
    for api, kind in CUSTOM:
        with pytest.raises(kubernetes_validate.SchemaNotFoundError):
            kubernetes_validate.validate({"apiVersion": api, "kind": kind}, SCHEMAS[-1], strict=True)


@every_overlay
def test_names_are_unique_and_the_namespace_is_the_users(name: str) -> None:
    titles = [title(resource) for resource in overlay(name)]
    assert len(titles) == len(set(titles))
    assert not [resource for resource in overlay(name) if "namespace" in resource["metadata"]]


def test_an_inference_service_is_as_kserve_has_it() -> None:
    service = named(overlay("kserve"), "InferenceService", "fictures")
    assert service["metadata"]["annotations"] == {
        "serving.kserve.io/autoscalerClass": "external",
        "serving.kserve.io/deploymentMode": "Standard",
    }
    assert service["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 1)
    (container,) = predictor["containers"]
    assert container["name"] == "kserve-container"  # the name by which KServe finds a container of one's own
    assert container["ports"][0]["name"] == "http"  # KServe's own service leads to the first


def test_a_leader_worker_set_is_as_its_controller_has_it() -> None:
    resources = overlay("multi-node")
    group = named(resources, "LeaderWorkerSet", "triton-group")
    assert set(group["spec"]) == {"replicas", "startupPolicy", "rolloutStrategy", "leaderWorkerTemplate"}
    assert group["spec"]["startupPolicy"] == "LeaderCreated"
    template = group["spec"]["leaderWorkerTemplate"]
    assert set(template) == {"size", "restartPolicy", "leaderTemplate", "workerTemplate"}
    assert template["restartPolicy"] == "RecreateGroupOnPodRestart"
    services = [service["metadata"]["name"] for service in of_kind(resources, "Service")]
    assert "triton-group" not in services  # the controller makes one of that name


# Images, secrets, settings


def test_images_have_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    registry = "ghcr.io/fictures/ai-server"
    allowed = {f"{registry}-{kind}:{version}" for kind in ("gpu", "cpu", "gateway")}
    for name in OVERLAYS:
        assert {each.container["image"] for each in pods(overlay(name))} <= allowed


def test_only_the_try_out_runs_on_the_cpu() -> None:
    for name in OVERLAYS:
        servers = {each.container["image"].split(":")[0][-3:] for each in _servers(name)}
        assert servers == ({"cpu"} if name == "cpu" else {"gpu"})


def test_an_overlay_of_ones_own_changes_the_images_of_all_pods() -> None:
    images = [each.container["image"] for each in pods(overlay("mine"))]
    assert images
    assert all(image.startswith("registry.example/") for image in images)


@every_overlay
def test_nothing_secret_is_in_what_is_rendered(name: str) -> None:
    resources = overlay(name)
    assert not of_kind(resources, "Secret")
    for config in of_kind(resources, "ConfigMap"):
        assert not {key for key in config["data"] if "TOKEN" in key}
    for each in pods(resources):
        for variable in each.container.get("env", []):
            if "TOKEN" in variable["name"]:
                assert set(variable["valueFrom"]) == {"secretKeyRef"}


@every_overlay
def test_the_documentation_tells_how_each_secret_is_made(name: str) -> None:
    text = DOCUMENTATION.read_text()
    for secret, key in _secrets(name):
        assert f"create secret generic {secret} " in text
        assert f"={key}" in text or f"{key}=" in text or key is None


def _secrets(name: str) -> set[tuple[str, str | None]]:
    found: set[tuple[str, str | None]] = set()
    for each in pods(overlay(name)):
        for variable in each.container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                found.add((reference["name"], reference["key"]))
        found |= {(volume["secret"]["secretName"], None) for volume in each.spec["volumes"] if "secret" in volume}
    return found


@every_overlay
def test_a_gateway_asks_for_keys_and_does_not_start_without_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = _gateway(name)
    settings = gateway.settings(overlay(name), monkeypatch)
    check_exposure(settings)
    (secret,) = [volume["secret"] for volume in gateway.spec["volumes"] if "secret" in volume]
    if name == "cpu":
        assert settings.api_allow_anonymous
        return
    assert not settings.api_allow_anonymous
    assert not secret.get("optional")
    assert settings.api_keys_file
    (mount,) = [mount for mount in gateway.container["volumeMounts"] if mount["name"] == "api-keys"]
    assert str(settings.api_keys_file.parent) == mount["mountPath"]
    assert "subPath" not in mount
    assert f"--from-file={settings.api_keys_file.name}" in DOCUMENTATION.read_text()


@every_overlay
def test_every_variable_is_a_setting_or_known_to_be_anothers(name: str) -> None:
    resources = overlay(name)
    for each in pods(resources):
        assert set(each.environment(resources)) <= {*VARIABLES, *OF_OTHERS}, each


@every_overlay
def test_the_settings_are_ones_that_our_programs_take(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = overlay(name)
    for each in pods(resources):
        each.settings(resources, monkeypatch)


@every_overlay
def test_variables_that_kubernetes_makes_of_services_stay_out_of_the_settings(name: str) -> None:
    assert all(each.spec["enableServiceLinks"] is False for each in pods(overlay(name)))


@every_overlay
def test_settings_that_nobody_reads_are_not_made(name: str) -> None:
    resources = overlay(name)
    used = {
        source["configMapRef"]["name"] for each in pods(resources) for source in each.container.get("envFrom", [])
    } | {
        volume["configMap"]["name"]
        for each in pods(resources)
        for volume in each.spec["volumes"]
        if "configMap" in volume
    }
    assert {config["metadata"]["name"] for config in of_kind(resources, "ConfigMap")} == used
    assert all(without_hash(config) != config for config in used)  # a change rolls the pods


# Security


@every_overlay
def test_no_container_can_do_more_than_it_needs(name: str) -> None:
    for each in pods(overlay(name)):
        pod, container = each.spec["securityContext"], each.container["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] == pod["runAsGroup"] == pod["fsGroup"] == USER
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(each.spec)
        assert not [volume for volume in each.spec["volumes"] if "hostPath" in volume]


@every_overlay
def test_no_pod_has_a_token_for_the_cluster(name: str) -> None:
    resources = overlay(name)
    accounts = {account["metadata"]["name"]: account for account in of_kind(resources, "ServiceAccount")}
    for each in pods(resources):
        assert each.spec["automountServiceAccountToken"] is False
        assert accounts[each.spec["serviceAccountName"]]["automountServiceAccountToken"] is False


@every_overlay
def test_what_a_server_writes_lies_on_volumes(name: str) -> None:
    for each in _servers(name):
        mounts = {mount["mountPath"]: mount["name"] for mount in each.container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in each.spec["volumes"]}
        for folder in ("/opt/fictures/.run", "/tmp", "/dev/shm"):
            assert volumes[mounts[folder]]["emptyDir"]["sizeLimit"]
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        assert "persistentVolumeClaim" in volumes[mounts["/models"]]
        environment = each.environment(overlay(name))
        assert environment["HF_HOME"].startswith("/models/")
        assert environment["TRITON_CACHE_DIR"].startswith("/opt/fictures/.run/")


@every_overlay
def test_every_mount_has_its_volume_and_every_volume_is_mounted(name: str) -> None:
    for each in pods(overlay(name)):
        mounted = {mount["name"] for mount in each.container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in each.spec["volumes"]}, each


# Network


@every_overlay
def test_what_is_not_allowed_is_denied_for_every_pod(name: str) -> None:
    policy = named(overlay(name), "NetworkPolicy", "default-deny")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(policy)
    assert all(selects(policy["podSelector"], each.labels) for each in pods(overlay(name)))


@every_overlay
def test_every_network_policy_is_for_pods_that_there_are(name: str) -> None:
    labels = [each.labels for each in pods(overlay(name))]
    for policy in of_kind(overlay(name), "NetworkPolicy"):
        for selector in [policy["spec"]["podSelector"], *_own_peers(policy)]:
            assert any(selects(selector, each) for each in labels), (title(policy), selector)


def _own_peers(policy: Resource) -> list[dict[str, Any]]:
    """Selectors for pods of the same namespace that a policy lets in or out to."""
    spec = policy["spec"]
    rules = [rule.get("from", []) for rule in spec.get("ingress", [])] + [
        rule.get("to", []) for rule in spec.get("egress", [])
    ]
    return [peer["podSelector"] for peers in rules for peer in peers if "podSelector" in peer and len(peer) == 1]


@every_overlay
def test_only_the_gateway_reaches_triton_and_only_prometheus_its_metrics(name: str) -> None:
    gateway = _gateway(name)
    for server in _servers(name):
        ways = _ways_in(name, server)
        own_group = [way for way in ways if way == ({"podSelector": _group_selector()}, None)]
        others = [way for way in ways if way not in own_group]
        assert len(own_group) == (1 if server.owner["kind"] == "LeaderWorkerSet" else 0)
        (from_gateway, grpc), (from_prometheus, metrics) = others
        assert (grpc, metrics) == (server.ports["grpc"], server.ports["metrics"])
        assert set(from_gateway) == {"podSelector"}
        assert selects(from_gateway["podSelector"], gateway.labels)
        assert not any(selects(from_gateway["podSelector"], other.labels) for other in _servers(name))
        assert from_prometheus == PROMETHEUS


def _group_selector() -> dict[str, Any]:
    return {"matchLabels": {"leaderworkerset.sigs.k8s.io/name": "triton-group"}}


def _ways_in(name: str, target: Pods) -> list[tuple[dict[str, Any], int | None]]:
    """Who may reach some pods, and at which port."""
    found = []
    for policy in of_kind(overlay(name), "NetworkPolicy"):
        if selects(policy["spec"]["podSelector"], target.labels):
            for rule in policy["spec"].get("ingress", []):
                ports = [port["port"] for port in rule.get("ports", [])] or [None]
                found += [(peer, port) for peer in rule.get("from", [{}]) for port in ports]
    return found


@every_overlay
def test_everybody_reaches_the_gateway_which_reaches_triton_and_the_names(name: str) -> None:
    gateway = _gateway(name)
    assert _ways_in(name, gateway) == [({}, gateway.ports["http"])]
    allowed = set()
    for policy in of_kind(overlay(name), "NetworkPolicy"):
        if selects(policy["spec"]["podSelector"], gateway.labels):
            for rule in policy["spec"].get("egress", []):
                allowed |= {port["port"] for port in rule["ports"]}
                for peer in rule.get("to", []):
                    assert all(selects(peer["podSelector"], server.labels) for server in _servers(name))
    assert allowed == {53, 8001}


@every_overlay
def test_a_server_reaches_the_hub_but_nothing_of_the_cluster(name: str) -> None:
    policy = named(overlay(name), "NetworkPolicy", "triton")["spec"]
    (rule,) = policy["egress"]
    assert rule["ports"] == [{"port": 443, "protocol": "TCP"}]
    for peer in rule["to"]:
        assert set(peer) == {"ipBlock"}
        assert peer["ipBlock"]["except"]
    for server in _servers(name):
        assert selects(policy["podSelector"], server.labels)


# Services and ports


@every_overlay
def test_every_service_leads_to_the_ports_of_its_pods(name: str) -> None:
    resources = overlay(name)
    for service in of_kind(resources, "Service"):
        found = [each for each in pods(resources) if selects({"matchLabels": service["spec"]["selector"]}, each.labels)]
        assert len(found) == 1, title(service)
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in found[0].ports
            assert port["port"] == found[0].ports[port["targetPort"]]


@every_overlay
def test_ports_are_those_of_the_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = overlay(name)
    for server in _servers(name):
        settings = server.settings(resources, monkeypatch)
        assert settings.triton_host == "0.0.0.0"
        assert server.ports == {
            "http": settings.triton_http_port,
            "grpc": settings.triton_grpc_port,
            "metrics": settings.triton_metrics_port,
        }
    settings = _gateway(name).settings(resources, monkeypatch)
    assert settings.api_host == "0.0.0.0"
    assert _gateway(name).ports == {"http": settings.api_port}


@every_overlay
def test_the_gateway_finds_the_servers_of_each_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = overlay(name)
    settings = _gateway(name).settings(resources, monkeypatch)
    for model, url in (("text", settings.grpc_url), ("images", settings.image_grpc_url)):
        host, port = url.split(":")
        service = named(resources, "Service", host)["spec"]
        assert service["clusterIP"] == "None"  # all addresses are known, for gRPC to take turns
        assert service["publishNotReadyAddresses"] is False
        assert int(port) in [each["port"] for each in service["ports"]]
        (server,) = [each for each in _servers(name) if selects({"matchLabels": service["selector"]}, each.labels)]
        assert model in server.settings(resources, monkeypatch).serve


@every_overlay
def test_both_models_are_served_once_and_no_triton_starts_a_gateway(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served = [part for server in _servers(name) for part in server.settings(overlay(name), monkeypatch).serve]
    assert sorted(served) == ["images", "text"]


# Life and death


@every_overlay
def test_every_container_has_probes_and_bounds(name: str) -> None:
    for each in pods(overlay(name)):
        container = each.container
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), each
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe]
            port = asked.get("httpGet", asked.get("tcpSocket", {})).get("port")
            assert port is None or port in each.ports
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"])
        assert "memory" in resources["limits"]
        assert resources["requests"].get("nvidia.com/gpu") == resources["limits"].get("nvidia.com/gpu")


@every_overlay
def test_a_server_is_ready_when_its_engines_are_and_is_killed_only_when_triton_is_dead(name: str) -> None:
    for server in _servers(name):
        for probe in ("startupProbe", "readinessProbe"):
            assert server.container[probe]["exec"]["command"] == ["python3", "-m", "launcher.health"]
        assert server.container["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": "http"}


@every_overlay
def test_a_server_has_the_time_that_the_launcher_takes_for_a_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for server in _servers(name):
        timeout = server.settings(overlay(name), monkeypatch).start_timeout
        assert server.probe_seconds("startupProbe") > timeout
        assert server.probe_seconds("livenessProbe") > timeout  # the launcher starts a dead Triton again by itself
        if server.owner["kind"] == "Deployment":
            assert server.owner["spec"]["progressDeadlineSeconds"] > server.probe_seconds("startupProbe")


@every_overlay
def test_a_gateway_is_killed_only_when_it_is_dead_itself(name: str) -> None:
    container = _gateway(name).container
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health/live", "port": "http"}


@every_overlay
def test_a_gateway_is_ready_when_triton_is_unless_one_of_two_would_decide_for_the_other(name: str) -> None:
    path = _gateway(name).container["readinessProbe"]["httpGet"]["path"]
    assert path == ("/health" if len(_servers(name)) == 1 else "/health/live")


@every_overlay
def test_what_runs_can_end_before_a_pod_is_killed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = overlay(name)
    pause, until_kill = _gateway(name).stop_seconds
    assert pause + _gateway(name).settings(resources, monkeypatch).api_shutdown_timeout + MARGIN < until_kill
    for server in _servers(name):
        pause, until_kill = server.stop_seconds
        needed = pause + server.settings(resources, monkeypatch).triton_shutdown_timeout + MARGIN
        assert needed < until_kill
        for worker in pods(resources):
            if worker.owner is server.owner and not worker.is_triton:
                assert needed < worker.stop_seconds[0] < worker.stop_seconds[1]


@every_overlay
def test_every_pod_has_one_disruption_budget_that_lets_nodes_be_emptied(name: str) -> None:
    resources = overlay(name)
    budgets = of_kind(resources, "PodDisruptionBudget")
    for each in pods(resources):
        (budget,) = [found for found in budgets if selects(found["spec"]["selector"], each.labels)]
        assert budget["spec"]["maxUnavailable"] == 1
    for budget in budgets:
        assert any(selects(budget["spec"]["selector"], each.labels) for each in pods(resources)), title(budget)


@every_overlay
def test_replicas_are_spread_over_nodes(name: str) -> None:
    for each in pods(overlay(name)):
        if each.owner["kind"] != "LeaderWorkerSet":  # its pods ask for all GPUs of a node
            constraints = {found["topologyKey"]: found for found in each.spec["topologySpreadConstraints"]}
            assert "kubernetes.io/hostname" in constraints
            assert all(selects(found["labelSelector"], each.labels) for found in constraints.values())


@every_overlay
def test_selectors_of_deployments_are_their_pods_and_nobody_elses(name: str) -> None:
    resources = overlay(name)
    for deployment in of_kind(resources, "Deployment"):
        found = [each for each in pods(resources) if selects(deployment["spec"]["selector"], each.labels)]
        assert [each.owner for each in found] == [deployment]


@every_overlay
def test_applying_again_leaves_the_number_of_replicas_alone(name: str) -> None:
    assert not [title(each) for each in of_kind(overlay(name), "Deployment") if "replicas" in each["spec"]]


@every_overlay
def test_a_rollout_of_a_server_needs_no_spare_gpu_and_one_of_the_gateway_interrupts_nothing(name: str) -> None:
    for each in pods(overlay(name)):
        if each.owner["kind"] == "Deployment":
            update = each.owner["spec"]["strategy"]["rollingUpdate"]
            expected = {"maxSurge": 0, "maxUnavailable": 1} if each.is_triton else {"maxSurge": 1, "maxUnavailable": 0}
            assert update == expected


# Storage and GPUs


@every_overlay
def test_claims_are_there_and_used(name: str) -> None:
    resources = overlay(name)
    claims = {claim["metadata"]["name"] for claim in of_kind(resources, "PersistentVolumeClaim")}
    assert claims == {claim for each in pods(resources) for claim in each.claims}


@every_overlay
def test_a_claim_of_pods_that_may_be_on_several_nodes_can_be_mounted_on_several(name: str) -> None:
    resources = overlay(name)
    for each in pods(resources):
        for claim in each.claims:
            modes = named(resources, "PersistentVolumeClaim", claim)["spec"]["accessModes"]
            if each.most(resources) > 1:
                assert modes == ["ReadWriteMany"], each


@every_overlay
def test_a_split_model_has_the_gpus_that_it_is_split_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = overlay(name)
    for server in _servers(name):
        settings = server.settings(resources, monkeypatch)
        if server.owner["kind"] == "LeaderWorkerSet":
            assert settings.vllm_distributed_executor_backend == "ray"
            template = server.owner["spec"]["leaderWorkerTemplate"]
            assert settings.vllm_pipeline_parallel_size == template["size"] > 1
            assert {each.gpus for each in pods(resources) if each.owner is server.owner} == {
                settings.vllm_tensor_parallel_size
            }
            continue
        assert settings.vllm_pipeline_parallel_size == 1
        assert settings.vllm_distributed_executor_backend is None
        if name == "cpu":
            assert server.gpus == 0
        else:
            assert server.gpus == (settings.vllm_tensor_parallel_size if "text" in settings.serve else 1)


def test_multi_gpu_and_multi_node_use_several_gpus() -> None:
    for name in ("multi-gpu", "multi-node"):
        assert (
            max(
                sum(each.gpus for each in pods(overlay(name)) if each.owner is server.owner)
                for server in _servers(name)
            )
            > 1
        )


@every_overlay
def test_both_models_on_one_gpu_leave_each_other_room(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for server in _servers(name):
        settings = server.settings(overlay(name), monkeypatch)
        if {"text", "images"} <= set(settings.serve):
            assert settings.text_gpu_memory_utilization < settings.image_gpu_memory_utilization


# Copies stay copies


def test_a_triton_of_images_is_like_the_other() -> None:
    assert _without_names(_yaml("base/triton-images/deployment.yaml")) == _without_names(
        _yaml("base/triton/deployment.yaml")
    )


def test_kserve_runs_the_pod_of_the_deployments() -> None:
    deployment = _yaml("base/triton/deployment.yaml")["spec"]
    predictor = _yaml("overlays/kserve/inference-service.yaml")["spec"]["predictor"]
    assert predictor.pop("labels") == deployment["template"]["metadata"]["labels"]
    assert predictor.pop("deploymentStrategy") == deployment["strategy"]
    pod = deployment["template"]["spec"]
    pod["containers"][0]["name"] = "kserve-container"
    assert predictor == {"minReplicas": 1, "maxReplicas": 1, **pod}


def test_a_leader_is_like_the_triton_of_the_deployments() -> None:
    pod = _yaml("base/triton/deployment.yaml")["spec"]["template"]["spec"]
    leader = _yaml("overlays/multi-node/group.yaml")["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]
    same = (
        "serviceAccountName",
        "enableServiceLinks",
        "terminationGracePeriodSeconds",
        "securityContext",
        "tolerations",
    )
    assert {key: leader[key] for key in same} == {key: pod[key] for key in same}
    ours, theirs = leader["containers"][0], pod["containers"][0]
    same = ("image", "envFrom", "ports", "readinessProbe", "lifecycle", "securityContext")
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    for probe in ("startupProbe", "livenessProbe"):
        assert ours[probe] | {"failureThreshold": 0} == theirs[probe] | {"failureThreshold": 0}


def _yaml(path: str) -> Any:
    return yaml.safe_load((KUBERNETES / path).read_text())


def _without_names(deployment: Resource) -> str:
    """What two Tritons have in common: all but names, claim and SERVE."""
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [variable for variable in container["env"] if variable["name"] != "SERVE"]
    text = yaml.safe_dump(deployment)
    return text.replace("triton-images", "triton").replace("model-cache-images", "model-cache")


def _servers(name: str) -> list[Pods]:
    return [each for each in pods(overlay(name)) if each.is_triton]


def _gateway(name: str) -> Pods:
    (found,) = [each for each in pods(overlay(name)) if each.owner["metadata"]["name"] == "gateway"]
    return found
