#!/usr/bin/env python3
"""Writes rules.yaml, a PrometheusRule with the rules of docker/prometheus/rules. Run it after a change of those."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[2] / "prometheus" / "rules"
HEAD = """\
# Made by make_rules.py from docker/prometheus/rules.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: fictures
  labels:
    app.kubernetes.io/part-of: fictures
spec:
  groups:
"""


def rules() -> str:
    """The resource's text: each file's groups, two columns further in."""
    lines = []
    for source in sorted(SOURCES.glob("*.yaml")):
        _, groups = source.read_text(encoding="utf-8").split("groups:\n", 1)
        lines += [f"  {line}".rstrip() for line in groups.splitlines()]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "rules.yaml").write_text(rules(), encoding="utf-8")
