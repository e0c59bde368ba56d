"""How a command ends: one line on standard error and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from fictures.errors import (
    ConfigurationError,
    DeadlineExceeded,
    FicturesError,
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)

SERVER_FAILED = 1
REFUSED = 2
UNAVAILABLE = 3
TIMED_OUT = 4
INTERRUPTED = 130

_CODES: tuple[tuple[type[FicturesError], int], ...] = (
    (ConfigurationError, REFUSED),
    (InvalidRequest, REFUSED),
    (ModelNotFound, REFUSED),
    (Unauthenticated, REFUSED),
    (PermissionDenied, REFUSED),
    (Unavailable, UNAVAILABLE),
    (DeadlineExceeded, TIMED_OUT),
)

_EXTRAS = {
    "gateway": ("fastapi", "uvicorn", "openai", "structlog", "limits", "prometheus_client"),
    "hub": ("huggingface_hub", "safetensors"),
}
"""Packages that only an extra installs."""

P = ParamSpec("P")


def exit_code(error: FicturesError) -> int:
    """The exit code of a command that ends with `error`."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), SERVER_FAILED)


def complain(error: FicturesError) -> None:
    """Print an error as one line on standard error."""
    message = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    typer.echo(f"fictures: {message}", err=True)


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what a command raises into its exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except FicturesError as error:
            complain(error)
            raise typer.Exit(exit_code(error)) from None
        except ModuleNotFoundError as error:
            extra = next((extra for extra, packages in _EXTRAS.items() if error.name in packages), None)
            if extra is None:
                raise
            complain(ConfigurationError([f"this needs the package {error.name}: pip install 'fictures[{extra}]'"]))
            raise typer.Exit(REFUSED) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader has what it wanted (`| head`). Python would flush the closed pipe once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return run
