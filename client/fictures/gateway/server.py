"""Runs the gateway: checks that it may listen where it shall, and stops in order."""

from __future__ import annotations

import ipaddress

import uvicorn

from fictures.errors import ConfigurationError
from fictures.gateway import logs
from fictures.gateway.app import create_app
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


def check_exposure(settings: Settings) -> None:
    """Refuse to serve other machines without keys, unless that is said in so many words.

    Raises:
        ConfigurationError: it was not.
    """
    if _is_loopback(settings.api_host) or settings.api_keys_file or settings.api_allow_anonymous:
        return
    raise ConfigurationError(
        [
            f"API_HOST={settings.api_host}: everybody who reaches this address could use the server. Set API_KEYS_FILE "
            "(fictures keys create NAME), or API_ALLOW_ANONYMOUS=true if that is what you want"
        ]
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
