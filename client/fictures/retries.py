"""When a request is sent again: as long as nothing of its answer has come, and only if another server may take it.

Behind one address there may be several servers, over which gRPC distributes the requests. One that is stopping, or
whose engine is down, refuses what comes; the next in turn takes it.
"""

from __future__ import annotations

import time

from fictures.errors import FicturesError, ServerUnreachable, Unavailable

PAUSE = 0.1
"""Seconds between two tries."""
_MOST_REFUSALS = 8
_LONGEST_REFUSAL = 5.0
"""Seconds. Who refuses does so at once; one that tried first, such as to load its model, would only try again."""
_MOST_LOST = 2
"""A server may have died of the request itself, so that it must not go around."""


class Retries:
    """Counts the tries of one request."""

    def __init__(self) -> None:
        self._refused = self._lost = 0
        self._sent = time.monotonic()

    def allow(self, error: FicturesError) -> bool:
        """Whether to try again, now, after this error."""
        taken = time.monotonic() - self._sent
        self._sent += taken
        if isinstance(error, ServerUnreachable):
            self._lost += 1
            return self._lost < _MOST_LOST
        if isinstance(error, Unavailable):
            self._refused += 1
            return self._refused < _MOST_REFUSALS and taken < _LONGEST_REFUSAL
        return False
