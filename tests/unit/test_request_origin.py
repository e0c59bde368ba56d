"""Both engines write down a request's id, which is a caller's text, and hand on the trace that Triton has it in."""

from types import ModuleType
from typing import Any

import pytest

import image_engine.origin
import text_backend.origin

pytestmark = pytest.mark.parametrize("origin", [text_backend.origin, image_engine.origin])


class Request:
    """What Triton's `InferenceRequest` says of where it comes from."""

    def __init__(self, request_id: str = "", context: str | None = None) -> None:
        self._id = request_id
        self._context = context

    def request_id(self) -> str:
        return self._id

    def trace(self) -> Any:
        return self

    def get_context(self) -> str | None:
        return self._context


@pytest.mark.parametrize("request_id", ["", "story-4711", "user@host:7/a+b=c_d.e", "a" * 128])
def test_an_id_that_is_harmless_stays_as_it_is(origin: ModuleType, request_id: str) -> None:
    assert origin.readable_id(Request(request_id)) == request_id


def test_an_id_cannot_write_a_log_line_of_its_own(origin: ModuleType) -> None:
    assert origin.readable_id(Request("a\n[text] \x1b[2J'é")) == "a__text____2J__"
    assert origin.readable_id(Request("a" * 10_000)) == "a" * 128


def test_a_traced_request_has_its_trace(origin: ModuleType) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert origin.trace_headers(Request(context=f'{{"traceparent": "{parent}"}}')) == {"traceparent": parent}


@pytest.mark.parametrize("context", [None, ""])
def test_another_has_none(origin: ModuleType, context: str | None) -> None:
    assert origin.trace_headers(Request(context=context)) == {}
