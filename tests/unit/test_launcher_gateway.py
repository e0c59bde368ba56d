"""Where the launcher asks the gateway whether it is there."""

import pytest

from fictures.settings import Settings
from launcher.gateway import environment
from launcher.layout import reachable


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("10.1.2.3", "10.1.2.3"),
    ],
)
def test_a_gateway_is_asked_at_an_address_that_reaches_it(host: str, asked: str) -> None:
    assert reachable(host) == asked


@pytest.mark.parametrize(
    ("serve", "text", "images"),
    [
        ("text,images,gateway", "127.0.0.1:8001", "127.0.0.1:8001"),
        ("text,gateway", "127.0.0.1:8001", "pictures:8001"),
        ("images,gateway", "stories:8001", "127.0.0.1:8001"),
    ],
)
def test_a_gateway_asks_its_own_triton_for_what_that_serves(serve: str, text: str, images: str) -> None:
    settings = Settings(serve=serve, triton_url="stories:8001", triton_image_url="pictures:8001")  # type: ignore[arg-type]
    found = environment(settings, {"TRITON_URL": "inherited", "TRITON_IMAGE_URL": "inherited"})
    assert (found["TRITON_URL"], found["TRITON_IMAGE_URL"]) == (text, images)
