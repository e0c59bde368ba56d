"""Reads Dockerfiles, .dockerignore and compose.yaml as far as the tests of docker/ need it."""

import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from conftest import ROOT

DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.rglob("Dockerfile"))
CONTAINER_USER = 10001
AS_CONTAINER_USER: dict[str, Any] = {"user": CONTAINER_USER, "group": CONTAINER_USER, "extra_groups": []}
"""For subprocess.run and Popen, which only root can start as another user."""

FOREIGN = {
    "PATH", "HOME", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE",
    "UV_PYTHON_DOWNLOADS", "UV_NO_CACHE", "UV_LINK_MODE", "UV_COMPILE_BYTECODE",
    "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HTTPS_PROXY", "NO_PROXY",
    "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SERVICE_NAME",
}  # fmt: skip
"""Variables of Python, uv, the Hugging Face libraries, proxies and OpenTelemetry."""


def tool(name: str) -> str:
    """A command of the development environment; without it the tests of docker/ prove nothing, so they fail."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is not installed: it belongs to the extra `dev`"
    return found


@dataclass(frozen=True)
class Instruction:
    keyword: str
    value: str

    @property
    def flags(self) -> dict[str, str]:
        """`--name=value` before the rest."""
        return dict(re.findall(r"--([\w-]+)=(\S+)", re.match(r"(--\S+\s+)*", self.value).group()))

    @property
    def rest(self) -> str:
        return re.sub(r"^(--\S+\s+)+", "", self.value)

    @property
    def command(self) -> list[str]:
        """The JSON array of ENTRYPOINT, CMD or HEALTHCHECK."""
        return json.loads(self.rest.removeprefix("CMD ").strip())


@dataclass
class Stage:
    base: str
    name: str | None
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, keyword: str) -> list[Instruction]:
        return [each for each in self.instructions if each.keyword == keyword]

    def last(self, keyword: str) -> Instruction:
        return self.all(keyword)[-1]

    @property
    def environment(self) -> dict[str, str]:
        pairs = [word.split("=", 1) for env in self.all("ENV") for word in shlex.split(env.value)]
        return {name: value for name, value in pairs}

    @property
    def copies(self) -> list[tuple[list[str], str]]:
        """Sources and destination of each COPY from the checkout."""
        parts = [copy.rest.split() for copy in self.all("COPY") if "from" not in copy.flags]
        return [(words[:-1], words[-1]) for words in parts]


@dataclass(frozen=True)
class Dockerfile:
    arguments: dict[str, str]
    """What ARG gives before the first FROM."""
    stages: list[Stage]

    @property
    def final(self) -> Stage:
        return self.stages[-1]

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)


def read(path: Path) -> Dockerfile:
    """The Dockerfile's stages; comments are dropped, lines that go on are joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        keyword, value = line.split(None, 1)
        if keyword == "FROM":
            base, _, name = value.partition(" AS ")
            stages.append(Stage(base, name or None))
        elif stages:
            stages[-1].instructions.append(Instruction(keyword, value.strip()))
        else:
            name, _, default = value.partition("=")
            arguments[name] = default
    return Dockerfile(arguments, stages)


def image(name: str) -> Dockerfile:
    """The Dockerfile of `cpu`, `gateway` or `gpu`."""
    return read(DOCKER / name / "Dockerfile")


def pinned(lock: Path) -> dict[str, str]:
    """Name and version of each line of a lock."""
    return dict(line.split(" ;")[0].split("==") for line in lock.read_text().splitlines())


def ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps a path out of the build: the last pattern that matches it or a folder above it."""
    parts = PurePosixPath(path).parts
    candidates = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    result = False
    for pattern in patterns:
        expression = _regular_expression(pattern.removeprefix("!").strip("/"))
        if any(re.fullmatch(expression, candidate) for candidate in candidates):
            result = not pattern.startswith("!")
    return result


def _regular_expression(pattern: str) -> str:
    found = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*")
    return found.replace(r"\*", "[^/]*").replace(r"\?", "[^/]")


def ignore_patterns() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def compose(**variables: str) -> dict[str, Any]:
    """compose.yaml as Compose reads it with these variables."""
    return yaml.safe_load(interpolate((DOCKER / "compose.yaml").read_text(), variables))


def interpolate(text: str, variables: dict[str, str]) -> str:
    """Fill in ${NAME:-default} and ${NAME:+replacement}, from the innermost outwards."""
    innermost = re.compile(r"\$\{(\w+)(?::([-+])([^{}$]*))?\}")
    while match := innermost.search(text):
        name, kind, words = match.groups()
        value = variables.get(name, "")
        filled = {"-": value or words, "+": words if value else "", None: value}[kind]
        text = text[: match.start()] + filled + text[match.end() :]
    return text
