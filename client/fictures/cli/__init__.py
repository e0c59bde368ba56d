"""The command line `fictures`: the client's methods, with the same names and arguments.

Exit codes: 0 done; 1 the server failed; 2 wrong usage or a refused request; 3 the server is unreachable or not
ready; 4 the answer did not come in time; 130 interrupted.
"""

from __future__ import annotations

import typer

from fictures.cli import chat, gateway, health, image, keys, models, text, translate

app = typer.Typer(
    help="Talk to a Fictures AI Server.",
    epilog="Exit codes: 0 done; 1 the server failed; 2 wrong usage or a refused request; 3 the server is unreachable "
    "or not ready; 4 the answer did not come in time; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("text")(text.text)
app.command("chat")(chat.chat)
app.command("image")(image.image)
app.command("health")(health.health)
app.command("gateway")(gateway.gateway)
app.command("translate")(translate.translate)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
