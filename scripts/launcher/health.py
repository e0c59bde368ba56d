"""`python -m launcher.health`: whether this machine's Triton serves; for the probes of containers.

Exit code 0 if the server and its models are ready and the engines take requests, else 1. With --live: if the server
answers at all.
"""

import sys

from fictures.settings import load_settings
from launcher.layout import ROOT, reachable
from launcher.readiness import Probe
from launcher.repository import served_models


def main() -> int:
    settings = load_settings(ROOT / ".env")
    url = f"http://{reachable(settings.triton_host)}:{settings.triton_http_port}"
    probe = Probe(url, served_models(settings))
    return 0 if (probe.server_live() if "--live" in sys.argv[1:] else probe.serves()) else 1


if __name__ == "__main__":
    sys.exit(main())
