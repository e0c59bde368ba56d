"""Runs the gateway: checks that it may listen where it shall, and stops in order."""

from __future__ import annotations

import uvicorn

from fictures.errors import ConfigurationError
from fictures.gateway import logs
from fictures.gateway.app import create_app
from fictures.gateway.exposure import check_exposure
from fictures.settings import Settings


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; then let running requests end, within `api_shutdown_timeout`.

    Raises:
        ConfigurationError: the settings would let everybody in, the keys cannot be read, or the address is taken.
    """
    check_exposure(settings)
    logs.configure(settings.log_level, settings.log_format)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.api_shutdown_timeout) + 1,
    )
    server = uvicorn.Server(config)
    try:
        server.run()
    except SystemExit as ended:  # what uvicorn does when it cannot bind; its log says why
        if not server.started:
            address = f"{settings.api_host}:{settings.api_port}"
            raise ConfigurationError([f"API_HOST and API_PORT: cannot listen on {address}"]) from ended
        raise
