"""Renders docker/kubernetes with kubectl and reads what comes out."""

import os
import re
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from fictures.settings import VARIABLES, Settings, load_settings

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = ROOT / "docker/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
COMPONENTS = sorted(
    str(path.parent.relative_to(KUBERNETES)) for path in (KUBERNETES / "components").rglob("kustomization.yaml")
)
KUBECTL = shutil.which(os.environ.get("KUBECTL", "kubectl"))
"""`KUBECTL` chooses another than the first on the path, to try several versions."""

needs_kubectl = pytest.mark.skipif(
    KUBECTL is None, reason="kubectl is not installed (Debian: apt install kubernetes-client)"
)

OF_OTHERS = {
    "HF_HOME": "the Hugging Face libraries",
    "HF_TOKEN": "the Hugging Face libraries",
    "POD_IP": "overlays/multi-node/ray.sh",
    "RAY_AUTH_TOKEN": "overlays/multi-node/ray.sh",
    "TRITON_CACHE_DIR": "Triton, the compiler of GPU kernels",
    "VLLM_HOST_IP": "vLLM",
}
"""Variables that pods set and that are no settings of ours, and whose they are."""

DOCUMENTATION = ROOT / "docs/kubernetes.md"
_OVERLAYS_OF_TESTS = {
    "apart-adapter": {
        "kustomization.yaml": """
            apiVersion: kustomize.config.k8s.io/v1beta1
            kind: Kustomization
            bases: [../apart, ../../components/prometheus-adapter/apart, ../../components/monitoring]
            """,
    },
    "together-adapter": {
        "kustomization.yaml": """
            apiVersion: kustomize.config.k8s.io/v1beta1
            kind: Kustomization
            bases: [../single, ../../components/prometheus-adapter/together, ../../components/monitoring]
            patchesStrategicMerge: [model-cache.yaml]
            """,
        "model-cache.yaml": """
            apiVersion: v1
            kind: PersistentVolumeClaim
            metadata: {name: model-cache}
            spec: {accessModes: [ReadWriteMany]}
            """,
    },
}
"""Overlays that use the components that the committed ones do not."""

EVERY_OVERLAY = [*OVERLAYS, *_OVERLAYS_OF_TESTS, "mine"]
"""Those, and the one that the documentation has as its example."""

Resource = dict[str, Any]


@cache
def render(folder: Path) -> tuple[Resource, ...]:
    """The resources of a kustomization."""
    assert KUBECTL
    run = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return tuple(yaml.safe_load_all(run.stdout))


@cache
def overlay(name: str) -> tuple[Resource, ...]:
    """The resources of one of EVERY_OVERLAY."""
    if name in OVERLAYS:
        return render(KUBERNETES / "overlays" / name)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "kubernetes"
        shutil.copytree(KUBERNETES, copy)
        target = copy / "overlays" / name
        target.mkdir()
        for file, text in (_OVERLAYS_OF_TESTS.get(name) or documented_overlay()).items():
            (target / file).write_text(textwrap.dedent(text))
        return render(target)


def documented_overlay() -> dict[str, str]:
    """The files of `overlays/mine`, the example of the documentation; the first line of each is its name."""
    blocks = re.findall(r"^```yaml\n# overlays/mine/(\S+)\n(.*?)^```", DOCUMENTATION.read_text(), re.M | re.S)
    return dict(blocks)


def of_kind(resources: tuple[Resource, ...], *kinds: str) -> list[Resource]:
    return [resource for resource in resources if resource["kind"] in kinds]


def named(resources: tuple[Resource, ...], kind: str, name: str) -> Resource:
    (found,) = [resource for resource in of_kind(resources, kind) if resource["metadata"]["name"] == name]
    return found


def title(resource: Resource) -> str:
    return f"{resource['kind']} {resource['metadata']['name']}"


@dataclass(frozen=True)
class Pods:
    """The pods that a resource makes, all alike."""

    owner: Resource
    role: str
    """What they are in it, where it makes several kinds."""
    labels: dict[str, str]
    spec: dict[str, Any]

    def __str__(self) -> str:
        return f"{title(self.owner)} {self.role}".strip()

    @property
    def container(self) -> dict[str, Any]:
        """The only one they have."""
        (found,) = self.spec["containers"]
        return found

    @property
    def is_triton(self) -> bool:
        """Whether the launcher runs in them, with Triton below."""
        return "grpc" in self.ports

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    @property
    def gpus(self) -> int:
        return int(self.container["resources"]["limits"].get("nvidia.com/gpu", 0))

    @property
    def claims(self) -> list[str]:
        volumes = [volume.get("persistentVolumeClaim") for volume in self.spec["volumes"]]
        return [claim["claimName"] for claim in volumes if claim]

    @property
    def stop_seconds(self) -> tuple[int, int]:
        """How long preStop pauses, and how long until they are killed."""
        _, pause = self.container["lifecycle"]["preStop"]["exec"]["command"]
        return int(pause), self.spec["terminationGracePeriodSeconds"]

    def probe_seconds(self, probe: str) -> int:
        """How long a probe may fail before the container is started anew."""
        found = self.container[probe]
        return found["periodSeconds"] * found["failureThreshold"]

    def most(self, resources: tuple[Resource, ...]) -> int:
        """How many there may be."""
        scalers = [
            scaler["spec"].get("maxReplicas") or scaler["spec"]["maxReplicaCount"]
            for scaler in of_kind(resources, "HorizontalPodAutoscaler", "ScaledObject")
            if scaler["spec"]["scaleTargetRef"]["kind"] == self.owner["kind"]
            and scaler["spec"]["scaleTargetRef"]["name"] == self.owner["metadata"]["name"]
        ]
        if self.owner["kind"] == "LeaderWorkerSet":
            return self.owner["spec"]["replicas"] * self.owner["spec"]["leaderWorkerTemplate"]["size"]
        return max([1, *scalers])

    def environment(self, resources: tuple[Resource, ...]) -> dict[str, str]:
        """What the manifest sets, with the values of ConfigMaps; of secrets and the pod's own facts a stand-in."""
        values: dict[str, str] = {}
        for source in self.container.get("envFrom", []):
            values |= named(resources, "ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in self.container.get("env", []):
            values[variable["name"]] = variable.get("value", "stand-in")
        return values

    def settings(self, resources: tuple[Resource, ...], monkeypatch: pytest.MonkeyPatch) -> Settings:
        """What our programs in them read."""
        with monkeypatch.context() as patch:
            for name in os.environ:
                if name in VARIABLES:
                    patch.delenv(name)
            for name, value in self.environment(resources).items():
                patch.setenv(name, value)
            return load_settings()


def pods(resources: tuple[Resource, ...]) -> list[Pods]:
    return [found for resource in resources for found in _pods_of(resource)]


def _pods_of(resource: Resource) -> Iterator[Pods]:
    spec = resource.get("spec", {})
    if resource["kind"] == "Deployment":
        yield _from_template(resource, "", spec["template"])
    elif resource["kind"] == "LeaderWorkerSet":
        # The controller adds its own label.
        own = {"leaderworkerset.sigs.k8s.io/name": resource["metadata"]["name"]}
        for role in ("leader", "worker"):
            yield _from_template(resource, role, spec["leaderWorkerTemplate"][f"{role}Template"], own)
    elif resource["kind"] == "InferenceService":
        predictor = dict(spec["predictor"])
        own = {"serving.kserve.io/inferenceservice": resource["metadata"]["name"]}
        for field in ("minReplicas", "maxReplicas", "deploymentStrategy"):
            predictor.pop(field)
        yield Pods(resource, "", predictor.pop("labels") | own, predictor)


def _from_template(owner: Resource, role: str, template: Resource, own: dict[str, str] | None = None) -> Pods:
    return Pods(owner, role, template["metadata"]["labels"] | (own or {}), template["spec"])


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a label selector, of its kinds only matchLabels, fits. An empty one fits everything."""
    assert selector is None or set(selector) <= {"matchLabels"}
    return (selector or {}).get("matchLabels", {}).items() <= labels.items()


def without_hash(name: str) -> str:
    """A generated name as the kustomization has it."""
    return re.sub(r"-[a-z0-9]{10}$", "", name)
