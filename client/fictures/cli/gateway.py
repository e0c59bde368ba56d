"""`fictures gateway`: the web APIs over any Triton that serves these models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fictures.cli.outcome import reported


@reported
def gateway(
    host: Annotated[str | None, typer.Option(help="Address to listen on, if not API_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, if not API_PORT.", min=1, max=65535)] = None,
    url: Annotated[
        str | None, typer.Option(help="host:port of Triton's gRPC endpoint, if not TRITON_URL and TRITON_IMAGE_URL.")
    ] = None,
) -> None:
    """Serve the Fictures API, the OpenAI API and a page to try them, until Ctrl-C. The settings are those of
    docs/configuration.md, from the environment and .env.
    """
    from fictures.gateway.server import serve
    from fictures.settings import load_settings

    given = {"api_host": host, "api_port": port, "triton_url": url, "triton_image_url": url}
    settings = load_settings(Path(".env")).model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    serve(settings)
