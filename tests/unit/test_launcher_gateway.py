"""Where the launcher asks the gateway whether it is there."""

import pytest

from launcher.gateway import reachable


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
