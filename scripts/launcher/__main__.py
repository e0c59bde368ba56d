"""Entry point of scripts/serve: options, signals, and what a person sees on the terminal."""

import signal
import sys
from threading import Event
from typing import Annotated

import typer

from fictures.errors import ConfigurationError
from fictures.settings import Settings, load_settings
from launcher import preflight, processes, repository, state, triton
from launcher.display import Display
from launcher.errors import LaunchError
from launcher.gateway import Gateway
from launcher.layout import ROOT, Instance
from launcher.server import TritonServer
from launcher.supervisor import Supervisor


def main(
    check: Annotated[bool, typer.Option("--check", help="Only check whether the server can start here.")] = False,
) -> None:
    """Start Fictures AI Server on this machine; Ctrl-C stops it. Settings come from the environment and .env
    (docs/configuration.md).
    """
    display = Display()
    try:
        settings = load_settings(ROOT / ".env")
        if check:
            display.show_findings(preflight.check(settings))
            return
        instance = Instance(settings.triton_http_port)
        with state.sole_owner(instance):
            serve(instance, settings, display)
    except ConfigurationError as error:
        for problem in error.problems:
            display.fail(problem)
        sys.exit(2)
    except LaunchError as error:
        display.fail(str(error))
        sys.exit(1)


def serve(instance: Instance, settings: Settings, display: Display) -> None:
    """Check, start, keep serving until a signal comes, stop."""
    if state.clean_up_after_crash(instance.state_file):
        display.say("removed what an earlier run left behind")
    findings = preflight.check(settings)
    stop = stop_event()
    say_which_stand_in(settings, display)
    backends = triton.assemble(findings.distribution)
    if findings.compiler is None:
        display.say(
            "no C++ compiler with Python's headers (Debian: g++ python3-dev): the model runs uncompiled, slower"
        )
    compiled = findings.compiler is not None
    repository.lay_out(
        ROOT / "model_repository",
        instance.repository,
        settings,
        findings.text_model,
        findings.image_model,
        findings.lora_modules,
        compiled=compiled,
        tracing=findings.tracing,
    )
    processes.adopt_orphans()
    server = TritonServer(instance, settings, findings, backends, display.say)
    gateway = Gateway(instance, settings) if "gateway" in settings.serve else None
    try:
        supervisor = Supervisor(server, gateway, stop, display.say, display.show_phase)
        if supervisor.start():
            display.show_addresses(settings)
            supervisor.keep_serving()
    finally:
        display.say("stopping")
        if gateway:
            gateway.stop()
        server.close()
        display.say("stopped")


def say_which_stand_in(settings: Settings, display: Display) -> None:
    """For models that no setting names."""
    if "text" in settings.serve and settings.text_model_name is None:
        display.say("no TEXT_MODEL_NAME: serving the tiny Gemma (it tells small stories and knows nothing else)")
    if "images" in settings.serve and settings.image_model_name is None:
        display.say("no IMAGE_MODEL_NAME: serving the tiny SDXL (it draws simple scenes of 256x256 pixels)")


def stop_event() -> Event:
    """An event that Ctrl-C, SIGTERM and a closed terminal set."""
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    return stop


if __name__ == "__main__":
    typer.run(main)
