"""A Hugging Face hub on loopback: as much of its HTTP interface as its client asks for when it fetches models."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".model")
GOOD_TOKEN, POOR_TOKEN = "hf_good", "hf_poor"
"""A token of an account with access to gated models, and one of an account without."""


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str = "c0ffee" + 34 * "0"
    branches: tuple[str, ...] = ("main",)
    gated: bool = False
    private: bool = False
    held: str | None = None
    """The file of which only the first half comes."""
    sent_instead: dict[str, bytes] = field(default_factory=dict)
    """What goes over the wire of a file, in place of its content."""

    @classmethod
    def of(cls, folder: Path, **options: Any) -> "Repository":
        paths = (path for path in folder.rglob("*") if path.is_file())
        return cls({str(path.relative_to(folder)): path.read_bytes() for path in paths}, **options)

    def knows(self, revision: str) -> bool:
        return revision in (*self.branches, self.commit)


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.closing = Event()
        self.sent: list[str] = []
        """The files whose content was asked for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    thread = Thread(target=hub.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        parts = [unquote(part) for part in place.path.strip("/").split("/")]
        is_api = parts[:2] == ["api", "models"]
        parts = parts[2:] if is_api else parts
        name, rest = "/".join(parts[:2]), parts[2:] or ["revision", "main"]
        repository = self.server.repositories.get(name)
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in ("", GOOD_TOKEN, POOR_TOKEN):
            self._refuse(401, None, "Invalid credentials in Authorization header")
        elif repository is None or (repository.private and token != GOOD_TOKEN):
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif not repository.knows(rest[1]):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {rest[1]}")
        elif is_api:
            self._tell(repository, name, rest[0], with_blobs="blobs" in parse_qs(place.query))
        elif repository.gated and token != GOOD_TOKEN:
            self._refuse(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted.")
        elif (file := "/".join(rest[2:])) not in repository.files:
            self._refuse(404, "EntryNotFound", "Entry not found", repository.commit)
        else:
            self._send_file(repository, file, moved=rest[0] == "large")

    def _tell(self, repository: Repository, name: str, what: str, *, with_blobs: bool) -> None:
        files = [_description(file, content) for file, content in repository.files.items()]
        if what == "tree":
            self._send(200, json.dumps(files).encode())
            return
        siblings = [
            {"rfilename": file["path"]}
            | ({"size": file["size"], "blobId": file["oid"]} if with_blobs else {})
            | ({"lfs": {**file["lfs"], "sha256": file["lfs"]["oid"]}} if with_blobs and "lfs" in file else {})
            for file in files
        ]
        gated = "manual" if repository.gated else False
        about = {"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings, "gated": gated}
        self._send(200, json.dumps(about | {"private": repository.private, "tags": []}).encode())

    def _send_file(self, repository: Repository, name: str, *, moved: bool) -> None:
        content = repository.files[name]
        description = _description(name, content)
        large = "lfs" in description
        etag = description["lfs"]["oid"] if large else description["oid"]
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{etag}"'}
        if large and not moved:
            location = self.path.replace("/resolve/", "/large/")
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content)), "Location": location}
            self._send(302, b"", headers)
            return
        if self.command == "GET":
            self.server.sent.append(name)
            if name == repository.held:
                self._send(200, content[: len(content) // 2], headers | {"Content-Length": str(len(content))})
                self.server.closing.wait()
                return
        body = repository.sent_instead.get(name, content)
        self._send(200, body if self.command == "GET" else content, headers)

    def _refuse(self, status: int, code: str | None, message: str, commit: str | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        self._send(
            status, json.dumps({"error": message}).encode(), {name: text for name, text in headers.items() if text}
        )

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _description(name: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    about = {"type": "file", "path": name, "oid": blob, "size": len(content)}
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        about["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return about
