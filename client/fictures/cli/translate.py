"""`fictures translate`: requests of the web APIs as Triton requests, or sent and answered."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fictures.cli import options
from fictures.cli.outcome import reported
from fictures.errors import FicturesError, InvalidRequest

if TYPE_CHECKING:
    from fictures.gateway.backend import Backend
    from fictures.gateway.endpoints import Endpoint


class Line(NamedTuple):
    """One request of the input."""

    custom_id: str
    url: str
    body: Any


@reported
def translate(
    file: Annotated[Path | None, typer.Argument(help="JSON or JSON Lines; standard input if not given.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="The endpoint of bodies that stand alone, such as /v1/completions.")
    ] = None,
    send: Annotated[bool, typer.Option("--send", help="Send the requests and print the answers.")] = False,
    curl: Annotated[bool, typer.Option("--curl", help="Print whole curl commands for Triton.")] = False,
    http_url: Annotated[str, typer.Option(help="Triton's HTTP address, for --curl.")] = "http://127.0.0.1:8000",
    concurrency: Annotated[int, typer.Option(help="Most requests at a time, with --send.", min=1)] = 8,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    timeout: options.Timeout = 600.0,
) -> None:
    """Print the Triton request of each request in FILE, and on standard error the path that takes it; or, with --send,
    its answer.

    A line is a request as in OpenAI's batch files, {"custom_id", "url", "body"}, whose url may be an endpoint of
    either API; or, with --endpoint, only its body. With --send each answer is a line as in OpenAI's batch results;
    exit code 1 if a request failed.
    """
    lines = list(_lines(_read(file), endpoint))
    if not send:
        _print_triton_requests(lines, http_url if curl else None)
        return
    if asyncio.run(_send_all(lines, options.address(url), api_key, timeout, concurrency)):
        raise typer.Exit(1)


def _read(file: Path | None) -> str:
    try:
        return sys.stdin.read() if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file or 'standard input'}: cannot be read: {error}") from error


def _lines(text: str, endpoint: str | None) -> Iterator[Line]:
    """The requests of a text: one JSON object, one list of them, or one a line."""
    for number, item in enumerate(_objects(text), 1):
        place = f"request {number}"
        if not isinstance(item, dict):
            raise InvalidRequest(f"{place}: must be a JSON object")
        if "url" in item and "body" in item:
            yield Line(str(item.get("custom_id", number)), _known(item["url"], place), item["body"])
        elif endpoint is None:
            raise InvalidRequest(f'{place}: has no "url" and "body": say with --endpoint what it is a body for')
        else:
            yield Line(str(number), _known(endpoint, "--endpoint"), item)


def _objects(text: str) -> list[Any]:
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else [whole]
    except RecursionError:
        raise InvalidRequest("the input is nested too deeply") from None
    except ValueError:
        pass
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except RecursionError:
                raise InvalidRequest(f"line {number}: is nested too deeply") from None
            except ValueError as error:
                raise InvalidRequest(f"line {number}: is not JSON: {error}") from error
    if not found:
        raise InvalidRequest("there is no request in the input")
    return found


def _known(url: Any, place: str) -> str:
    from fictures.gateway.endpoints import ENDPOINTS

    if not isinstance(url, str) or url not in ENDPOINTS:
        raise InvalidRequest(f"{place}: {url!r} is not an endpoint: one of {', '.join(ENDPOINTS)}")
    return url


def _endpoint(line: Line) -> Endpoint:
    """The request behind a line.

    Raises:
        InvalidRequest: its body is not what the endpoint takes.
    """
    from pydantic import ValidationError

    from fictures.gateway.endpoints import ENDPOINTS

    body_type, make = ENDPOINTS[line.url]
    try:
        return make(body_type.model_validate(line.body))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidRequest(f"request {line.custom_id}: {place + ': ' if place else ''}{first['msg']}") from None


def _print_triton_requests(lines: list[Line], http_url: str | None) -> None:
    """Print them as commands; or, without an address, their bodies, and on standard error where to post them."""
    from fictures.translation import kserve

    told = None
    for endpoint in map(_endpoint, lines):
        for call in endpoint.calls:
            path, body = kserve.path_and_body(call, stream=endpoint.streams)
            text = kserve.as_text(body)
            if http_url is not None:
                # On the command line a body with a picture would be too long.
                post = f"curl -sN {http_url}{path} -H 'content-type: application/json' --data-binary @-"
                text = f"{post} <<'END'\n{text}\nEND"
            elif path != told:
                typer.echo(f"POST {path}", err=True)
                told = path
            typer.echo(text)


async def _send_all(lines: list[Line], url: str, api_key: str | None, timeout: float, concurrency: int) -> bool:
    """Send all, print each answer in the order of the input as soon as it can be; whether one failed."""
    from rich.console import Console
    from rich.progress import Progress

    from fictures.async_client import AsyncClient
    from fictures.gateway.backend import Backend
    from fictures.gateway.metrics import Metrics

    places = asyncio.Semaphore(concurrency)
    failed = False
    with Progress(console=Console(stderr=True), disable=len(lines) < 2, transient=True) as progress:
        bar = progress.add_task("sending", total=len(lines))

        async def send(backend: Backend, line: Line) -> dict[str, Any]:
            async with places:
                answer = await _answer(backend, line)
                progress.advance(bar)
                return answer

        async with AsyncClient(url, timeout=timeout, api_key=api_key) as client:
            backend = Backend(client, client, Metrics())
            tasks = [asyncio.create_task(send(backend, line)) for line in lines]
            for task in tasks:
                answer = await task
                failed = failed or answer["error"] is not None
                text = json.dumps(answer, ensure_ascii=False)
                typer.echo(text.encode(errors="backslashreplace").decode())  # what has no UTF-8 form has one in JSON
    return failed


async def _answer(backend: Backend, line: Line) -> dict[str, Any]:
    """A line of OpenAI's batch results; of a stream the body is the list of its events."""
    from fictures.gateway.errors import http_status

    try:
        endpoint = _endpoint(line)
        if endpoint.streams:
            body: Any = [_plain(event.content) async for event in endpoint.events(backend)]
        else:
            body = _plain(await endpoint.whole(backend))
    except FicturesError as error:
        failure = {"code": http_status(error), "message": str(error)}
        return {"custom_id": line.custom_id, "response": None, "error": failure}
    return {"custom_id": line.custom_id, "response": {"status_code": 200, "body": body}, "error": None}


def _plain(content: Any) -> Any:
    return content if isinstance(content, dict) else content.model_dump(mode="json", exclude_unset=True)
