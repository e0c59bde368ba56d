"""Runs the gateway: checks that it may listen where it shall, and stops in order."""

from __future__ import annotations

import asyncio
import gc
import math
import socket

import uvicorn
from fastapi import FastAPI

from fictures.errors import ConfigurationError
from fictures.gateway import logs
from fictures.gateway.app import create_app
from fictures.gateway.exposure import check_exposure
from fictures.settings import Settings

_COLLECT_AFTER = (20_000, 10, 10)
"""Python's own first number, 700, has the garbage collector come several times for each request, at a tenth of what a
request costs."""


class _Server(uvicorn.Server):
    """Ends what still runs after `timeout` seconds of a shutdown by an error, so that each answer has its end."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, timeout: float) -> None:
        super().__init__(config)
        self._app, self._timeout = app, timeout

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running requests end."""
        ending = asyncio.create_task(self._end_calls())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_calls(self) -> None:
        await asyncio.sleep(self._timeout)
        await self._app.state.end_calls()


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; then let running requests end, within `api_shutdown_timeout`.

    Raises:
        ConfigurationError: the settings would let everybody in, the keys cannot be read, or the address is taken.
    """
    check_exposure(settings)
    logs.configure(settings.log_level, settings.log_format)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.api_shutdown_timeout) + 2,
    )
    server = _Server(config, app, settings.api_shutdown_timeout)
    gc.collect()
    gc.freeze()  # going through all that is imported would hold every stream up for 0.05 s, time and again
    gc.set_threshold(*_COLLECT_AFTER)
    try:
        server.run()
    except SystemExit as ended:  # what uvicorn does when it cannot bind; its log says why
        if not server.started:
            address = f"{settings.api_host}:{settings.api_port}"
            raise ConfigurationError([f"API_HOST and API_PORT: cannot listen on {address}"]) from ended
        raise
