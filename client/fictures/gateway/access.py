"""Who may ask, how much and how often: API keys, and the limits of each."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from fictures.gateway.exposure import is_loopback
from fictures.gateway.keys import ApiKey, KeyStore
from fictures.settings import Settings

ANONYMOUS = "anonymous"
"""Whose requests are counted as one where no keys are asked for: everybody's."""


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request."""

    name: str
    max_concurrent: int | None
    requests_per_minute: int | None

    @property
    def whose(self) -> str:
        """The same in a sentence."""
        return "" if self.name == ANONYMOUS else " of this key"


class Access:
    """Lets requests in, or refuses them. Counts are this process's own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = KeyStore(settings.api_keys_file) if settings.api_keys_file else None
        self._running: Counter[str] = Counter()
        self._rates = MovingWindowRateLimiter(MemoryStorage())

    def identify(self, headers: Headers) -> Caller:
        """Whose request this is, by `Authorization: Bearer …` or `x-api-key`.

        Raises:
            HTTPException: 401, a key is asked for and none that is known was sent.
        """
        if self._keys is None:
            return self._caller(None)
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        bearer = secret.strip() if scheme.lower() == "bearer" else ""
        secret = bearer or headers.get("x-api-key", "")
        key = self._keys.find(secret) if secret else None
        if key is None:
            said = "this API key is not known" if secret else "an API key must be sent"
            message = f"{said}: as 'Authorization: Bearer …' or 'x-api-key: …'"
            raise HTTPException(401, message, headers={"WWW-Authenticate": "Bearer"})
        return self._caller(key)

    def knows(self, headers: Headers) -> bool:
        """Whether whoever sends these headers may know more than everybody: with a key, or on the same machine."""
        if self._keys is None:
            return is_loopback(self._settings.api_host)
        try:
            self.identify(headers)
        except HTTPException:
            return False
        return True

    @contextmanager
    def admit(self, caller: Caller) -> Iterator[None]:
        """Count a request while it runs.

        Raises:
            HTTPException: 429, it is one too many.
        """
        if caller.max_concurrent is not None and self._running[caller.name] >= caller.max_concurrent:
            raise _too_many(f"{caller.max_concurrent} requests{caller.whose} run already", 1)
        if caller.requests_per_minute is not None:
            rate = RateLimitItemPerMinute(caller.requests_per_minute)
            if not self._rates.hit(rate, caller.name):
                reset = self._rates.get_window_stats(rate, caller.name).reset_time
                wait = max(1, math.ceil(reset - time.time()))
                raise _too_many(f"{caller.requests_per_minute} requests{caller.whose} came within a minute", wait)
        self._running[caller.name] += 1
        try:
            yield
        finally:
            self._running[caller.name] -= 1
            if not self._running[caller.name]:
                del self._running[caller.name]

    def _caller(self, key: ApiKey | None) -> Caller:
        return Caller(
            name=key.name if key else ANONYMOUS,
            max_concurrent=(key and key.max_concurrent) or self._settings.api_max_concurrent,
            requests_per_minute=(key and key.requests_per_minute) or self._settings.api_requests_per_minute,
        )


def _too_many(reason: str, retry_after: int) -> HTTPException:
    return HTTPException(429, f"{reason}: try again in {retry_after} s", headers={"Retry-After": str(retry_after)})
