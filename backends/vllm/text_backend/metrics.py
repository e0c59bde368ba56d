"""vLLM's metrics on Triton's metrics port.

vLLM keeps its metrics with `prometheus_client` in this process; this mirrors every one of them, by the name
vLLM gives it, into Triton's custom metrics. Triton's histograms can only observe values, so the series of a
histogram (`_bucket`, `_sum`, `_count`) are mirrored as counters of those names, which is what queries read.
"""

import threading
from typing import Any

import triton_python_backend_utils as pb_utils
from prometheus_client import REGISTRY

_PERIOD = 2.0  # seconds between two mirrorings
_PREFIX = "vllm:"


class MetricsMirror:
    """Copies what has changed, every two seconds, in a thread of its own until `stop`."""

    def __init__(self, labels: dict[str, str], logger: Any) -> None:
        self._labels = labels
        self._log = logger
        self._families: dict[str, Any] = {}
        self._metrics: dict[tuple[str, frozenset[tuple[str, str]]], tuple[Any, float]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-mirror", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the mirror and removes its metrics: Triton 2.51's stub crashes on those it finds at its exit."""
        self._stopping.set()
        self._thread.join(2 * _PERIOD)
        self._metrics.clear()
        self._families.clear()

    def _run(self) -> None:
        while not self._stopping.wait(_PERIOD):
            try:
                self._mirror()
            except pb_utils.TritonModelException as error:  # the server runs without metrics
                self._log.log_warn(f"[text] vLLM's metrics are not reported: {error}")
                return
            except Exception as error:  # such as metrics that come and go while an engine is replaced
                self._log.log_warn(f"[text] vLLM's metrics were not reported this time: {error!r}")

    def _mirror(self) -> None:
        for family in REGISTRY.collect():
            if not family.name.startswith(_PREFIX):
                continue
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    self._update(sample, family.documentation, is_gauge=family.type in ("gauge", "info"))

    def _update(self, sample: Any, documentation: str, *, is_gauge: bool) -> None:
        key = (sample.name, frozenset(sample.labels.items()))
        metric, last = self._metrics.get(key, (None, 0.0))
        if metric is None:
            metric = self._family(sample.name, documentation, is_gauge).Metric(labels=sample.labels | self._labels)
        elif sample.value == last:
            return
        if is_gauge:
            metric.set(sample.value)
        elif sample.value < last:  # a new engine started counting again
            metric.increment(sample.value)
        else:
            metric.increment(sample.value - last)
        self._metrics[key] = (metric, sample.value)

    def _family(self, name: str, documentation: str, is_gauge: bool) -> Any:
        if name not in self._families:
            kind = pb_utils.MetricFamily.GAUGE if is_gauge else pb_utils.MetricFamily.COUNTER
            self._families[name] = pb_utils.MetricFamily(name=name, description=documentation, kind=kind)
        return self._families[name]
