"""What ties a request to the logs and traces of those it came through: its id, and the context of its trace."""

import json
import re
from typing import Any

_LONGEST_ID = 128  # characters
_UNREADABLE = re.compile(r"[^A-Za-z0-9_.:/@+=-]")


def readable_id(request: Any) -> str:
    """The id of a `pb_utils.InferenceRequest`, which may be any text, as far as it is harmless in a log line.

    Not unique, and empty for a request without one.
    """
    return _UNREADABLE.sub("_", request.request_id()[:_LONGEST_ID])


def trace_headers(request: Any) -> dict[str, str]:
    """The W3C trace context (`traceparent`, `tracestate`) of Triton's span for a `pb_utils.InferenceRequest`.

    Empty for one that Triton does not trace.
    """
    return json.loads(request.trace().get_context() or "{}")
