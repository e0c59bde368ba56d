"""Whether the gateway may listen where it shall."""

from __future__ import annotations

import ipaddress

from fictures.errors import ConfigurationError
from fictures.settings import Settings


def check_exposure(settings: Settings) -> None:
    """Refuse to serve other machines without keys, unless that is said in so many words.

    Raises:
        ConfigurationError: it was not.
    """
    if is_loopback(settings.api_host) or settings.api_keys_file or settings.api_allow_anonymous:
        return
    raise ConfigurationError(
        [
            f"API_HOST={settings.api_host}: everybody who reaches this address could use the server: set API_KEYS_FILE "
            "(fictures keys create NAME), or API_ALLOW_ANONYMOUS=true if that is what you want"
        ]
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address of it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
