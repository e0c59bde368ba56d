"""What a person sees: live progress on a terminal, plain lines in a pipe or a log."""

import time

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from fictures.settings import Settings
from launcher.layout import reachable
from launcher.preflight import Findings
from launcher.repository import IMAGE_MODEL, TEXT_MODEL

QUIET_INTERVAL = 15.0
"""Seconds between progress lines where there is no terminal."""


class Display:
    """The launcher's voice. Messages go to standard error, the addresses to standard output."""

    def __init__(self) -> None:
        self._out = Console(soft_wrap=True, highlight=False)
        self._err = Console(soft_wrap=True, highlight=False, stderr=True)
        self._status: Status | None = None
        self._phase = ""
        self._phase_shown = 0.0

    def say(self, line: str) -> None:
        """Something happened."""
        self._end_progress()
        self._err.print(f"serve: {escape(line)}")

    def fail(self, line: str) -> None:
        """It cannot go on."""
        self._end_progress()
        self._err.print(f"[bold red]serve:[/] {escape(line)}")

    def show_phase(self, phase: str, seconds: float) -> None:
        """How far a start is; called several times a second."""
        if self._err.is_terminal:
            text = f"{phase} … {seconds:.0f} s"
            if self._status is None:
                self._status = self._err.status(text)
                self._status.start()
            self._status.update(text)
        elif phase != self._phase or time.monotonic() - self._phase_shown > QUIET_INTERVAL:
            self._phase, self._phase_shown = phase, time.monotonic()
            self._err.print(f"serve: {phase} ({seconds:.0f} s)")

    def show_findings(self, findings: Findings) -> None:
        """What preflight found."""
        for name, value in findings.lines():
            self._out.print(f"[green]✓[/] {name:<11} {escape(value)}")
        self._out.print("[green]✓[/] ports free; ./scripts/serve can start")

    def show_addresses(self, settings: Settings) -> None:
        """Where the server is, and lines to try."""
        api = f"http://{reachable(settings.api_host)}:{settings.api_port}"
        chat = (
            f'\'{{"model": "{TEXT_MODEL}", "messages": [{{"role": "user", "content": "Hello"}}], "max_tokens": 32}}\''
        )
        json = "-H 'content-type: application/json'"
        if settings.api_keys_file:
            json += " -H 'x-api-key: YOUR_KEY'"
        host = reachable(settings.triton_host)
        http = f"http://{host}:{settings.triton_http_port}"
        model = f"{http}/v2/models/{TEXT_MODEL}"
        body = '\'{"text_input": "Once upon a time", "max_tokens": 32}\''
        stream = '\'{"text_input": "Once upon a time", "stream": true, "max_tokens": 32}\''
        image = '\'{"prompt": "a lighthouse at night", "width": 256, "height": 256, "base64": true}\''
        fictures = self._fictures(settings)
        lines: tuple[tuple[set[str], str], ...] = (
            ({"gateway"}, f"[bold]page and API[/]  {api} (docs: {api}/docs, OpenAI: {api}/v1)"),
            (set(), f"[bold]Triton HTTP[/]   {http}"),
            (set(), f"[bold]Triton gRPC[/]   {host}:{settings.triton_grpc_port}"),
            (set(), f"[bold]metrics[/]       http://{host}:{settings.triton_metrics_port}/metrics"),
            (set(), ""),
            (set(), "Try:"),
            ({"gateway", "text"}, f"  curl -s {api}/v1/chat/completions {json} -d {chat}"),
            ({"text"}, f"  curl -s {model}/generate -d {body}"),
            ({"text"}, f"  curl -sN {model}/generate_stream -d {stream}"),
            ({"images"}, f"  curl -s {http}/v2/models/{IMAGE_MODEL}/generate -d {image} | head -c 300"),
            ({"text"}, f'  {fictures} text "Once upon a time"'),
            ({"images"}, f'  {fictures} image "a lighthouse at night" --width 256 --height 256 -o lighthouse.png'),
        )
        for parts, line in lines:
            if parts <= set(settings.serve):
                self._out.print(line)
        if settings.model_loading == "lazy":
            self.say("MODEL_LOADING=lazy: a model is loaded by its first request, which waits for it")

    @staticmethod
    def _fictures(settings: Settings) -> str:
        host, port = reachable(settings.triton_host), settings.triton_grpc_port
        variable = f"TRITON_GRPC_PORT={port} " if port != 8001 else ""
        if host != "127.0.0.1":
            variable = f"TRITON_URL={host}:{port} "
        return f"{variable}.venv/bin/fictures"

    def _end_progress(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
