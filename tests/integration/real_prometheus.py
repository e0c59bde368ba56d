"""A real Prometheus on a free port of this machine, with the project's configuration and rules, only faster."""

import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from conftest import free_ports, wait_for
from monitoring import CONFIGURATION, PROMETHEUS


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now."""
        answer = self._get("query", query=expression)
        return answer["result"]

    def has_value(self, expression: str) -> bool:
        """Whether it has a sample that is a number."""
        return any(not math.isnan(float(sample["value"][1])) for sample in self.query(expression))

    def fired(self, alert: str, seconds: float, **labels: str) -> bool:
        """Whether an alert fired at some moment of the last seconds."""
        matchers = ",".join(f'{name}="{value}"' for name, value in labels.items())
        series = f'ALERTS{{alertname="{alert}",alertstate="firing",{matchers}}}'
        return bool(self.query(f"count_over_time({series}[{math.ceil(seconds)}s])"))

    def firing(self) -> dict[str, dict[str, str]]:
        """The alerts that fire now, by name, with their annotations."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert["annotations"] for alert in alerts if alert["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def metrics(self) -> set[str]:
        """The names of all metrics that it has seen."""
        return set(self._get("label/__name__/values"))

    def targets(self) -> list[dict[str, Any]]:
        return self._get("targets")["activeTargets"]

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def _get(self, what: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]


@contextmanager
def running_prometheus(folder: Path, targets: dict[str, str] | None, minute: float) -> Iterator[Prometheus]:
    """Prometheus from start to stop.

    Args:
        targets: job to address, in place of what the configuration looks up in DNS; None: it looks them up.
        minute: how many seconds a minute of the rules' windows lasts; what has to hold for some time need not.
    """
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    if targets is not None:
        for job in configuration["scrape_configs"]:
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    shutil.copytree(PROMETHEUS / "rules", folder / "rules")
    for path in (folder / "rules").iterdir():
        path.write_text(_faster(path.read_text(), minute))
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    log = folder / "prometheus.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        prometheus = Prometheus(f"http://{address}")
        wait_for(lambda: process.poll() is not None or prometheus.is_ready(), 30, f"Prometheus ready ({log})")
        assert process.poll() is None, log.read_text()
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)


def _faster(rules: str, minute: float) -> str:
    rules = re.sub(r"\[(\d+)m\]", lambda match: f"[{int(match[1]) * minute:g}s]", rules)
    rules = re.sub(r"\b300\b", f"{5 * minute:g}", rules)
    return re.sub(r"\bfor: \d+m", "for: 0s", rules)
