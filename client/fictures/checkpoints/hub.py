"""The Hugging Face hub, by its own client, and what goes wrong there in one line each."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, constants, get_token, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils.logging import get_logger
from huggingface_hub.utils.tqdm import disable_progress_bars

from fictures.checkpoints import explanations
from fictures.checkpoints.checks import Expected
from fictures.checkpoints.configured import Source
from fictures.checkpoints.layouts import Unsuitable
from fictures.errors import (
    ConfigurationError,
    FicturesError,
    ModelNotFound,
    PermissionDenied,
    ServerUnreachable,
    Unauthenticated,
    Unavailable,
)

FAILURES: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, HFValidationError)
"""What the hub's client raises; the first are the errors of the HTTP library it stands on, and of the system."""


_MOST_LOOKS = 5


@dataclass(frozen=True)
class Snapshot:
    """A repository of the hub at one commit, in the local cache as far as it was fetched."""

    repository: str
    commit: str
    folder: Path
    files: Mapping[str, Expected]
    """All files of the repository; without the hub those that are in the cache."""


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set."""
    return constants.HF_HUB_OFFLINE


def quiet() -> None:
    """Let the client say nothing of its own; its bars show on a terminal."""
    get_logger("huggingface_hub").setLevel("ERROR")
    if not sys.stderr.isatty():
        disable_progress_bars()


def look_up(source: Source, token: str | None) -> Snapshot:
    """Asks the hub for the commit and the files; fetches `source.entry`, which tells whether one may.

    Raises:
        FicturesError: The hub cannot be reached, or refuses; the message says what to do.
    """
    with explained(source, token):
        for _ in range(_MOST_LOOKS):
            info = HfApi(token=token).model_info(source.name, revision=source.revision, files_metadata=True)
            path = hf_hub_download(source.name, source.entry, revision=source.revision, token=token)
            folder = _root(path, source.entry)
            if folder.name == info.sha:  # else the branch moved on in between
                break
        else:
            raise Unavailable(f"{source.setting}={source.name}: the hub names another commit each time; try again")
    files = {file.rfilename: _expected(file) for file in info.siblings or []}
    return Snapshot(source.name, folder.name, folder, files)


def cached(source: Source) -> Snapshot:
    """What the cache has of a model, without asking the hub. In the cache a file lies under its digest.

    Raises:
        ModelNotFound: There is nothing of it.
    """
    path = try_to_load_from_cache(source.name, source.entry, revision=source.revision)
    if not isinstance(path, str):
        raise ModelNotFound(explanations.NOT_CACHED.format(setting=source.setting, model=source.name))
    folder = _root(path, source.entry)
    files = {
        str(file.relative_to(folder)): Expected(file.stat().st_size, file.readlink().name if file.is_symlink() else "")
        for file in folder.rglob("*")
        if file.is_file()
    }
    return Snapshot(source.name, folder.name, folder, files)


def read_json(snapshot: Snapshot, name: str, token: str | None) -> dict[str, Any]:
    """A small file of the snapshot, fetched if need be. Raises `Unsuitable` if it is missing or no JSON object."""
    if name not in snapshot.files:
        raise Unsuitable(f"it has no {name}")
    path = snapshot.folder / name
    if not path.is_file():
        hf_hub_download(snapshot.repository, name, revision=snapshot.commit, token=token)
    return read_object(path)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `Unsuitable` if the file is missing or holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Unsuitable(f"it has no {path.name}") from None
    except ValueError as error:
        raise Unsuitable(f"its {path.name} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise Unsuitable(f"its {path.name} holds no JSON object")
    return content


def bytes_to_fetch(snapshot: Snapshot, names: Collection[str]) -> int:
    """What is not in the cache yet."""
    return sum(snapshot.files[name].size for name in names if not (snapshot.folder / name).is_file())


def check_space(size: int) -> None:
    """Raises `FicturesError` if the cache's disk has less than `size` bytes free."""
    cache = Path(constants.HF_HUB_CACHE)
    disk = next(place for place in (cache, *cache.parents) if place.exists())
    free = shutil.disk_usage(disk).free
    if size > free:
        raise FicturesError(
            f"no space: the models take {size / 1e9:.1f} GB more, and the disk of {cache} has {free / 1e9:.1f} GB "
            "free: free some, or set HF_HOME to another disk"
        )


def fetch(snapshot: Snapshot, source: Source, names: Collection[str], token: str | None) -> None:
    """Fetch the files that are not there yet, one after the other, so that Ctrl-C ends it at once.

    Raises:
        FicturesError: One does not come.
    """
    with explained(source, token):
        for name in names:
            hf_hub_download(snapshot.repository, name, revision=snapshot.commit, token=token)
        # This also notes which files the repository has, without which diffusers does not load it offline.
        snapshot_download(snapshot.repository, revision=snapshot.commit, allow_patterns=list(names), token=token)


def fetch_again(snapshot: Snapshot, source: Source, name: str, token: str | None) -> None:
    """Replace a damaged file. Raises `FicturesError`."""
    with explained(source, token):
        hf_hub_download(snapshot.repository, name, revision=snapshot.commit, force_download=True, token=token)


@contextmanager
def explained(source: Source, token: str | None) -> Iterator[None]:
    """Turn what the hub's client raises into one line."""
    try:
        yield
    except FAILURES as error:
        raise _explanation(error, source, has_token=bool(token or get_token())) from error


def _explanation(error: Exception, source: Source, *, has_token: bool) -> FicturesError:
    words = {"setting": source.setting, "model": source.name}
    # The client hides a refusal in "not in the cache" where it looked there in place of the hub.
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        return (
            PermissionDenied(explanations.NO_ACCESS.format_map(words))
            if has_token
            else Unauthenticated(explanations.GATED.format_map(words))
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelNotFound(explanations.NOT_FOUND.format_map(words))
    if isinstance(error, RevisionNotFoundError):
        setting = f"{source.revision_setting}={source.revision}" if source.revision_setting else "main"
        return ConfigurationError(
            [f"{setting}: {source.name} has no such branch, tag or commit on the Hugging Face hub"]
        )
    if isinstance(error, LocalEntryNotFoundError):
        return ServerUnreachable(explanations.UNREACHABLE.format_map(words))
    if isinstance(error, EntryNotFoundError):
        return ConfigurationError([f"{source.setting}={source.name}: holds no such model (it has no {source.entry})"])
    if status == 401:
        return Unauthenticated(explanations.WRONG_TOKEN)
    if status is not None:
        return ServerUnreachable(
            f"{source.setting}={source.name}: the Hugging Face hub answered {status}: try again later"
        )
    if isinstance(error, HFValidationError):
        return ConfigurationError([f"{source.setting}={source.name}: {error}"])
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        place = error.filename or constants.HF_HUB_CACHE
        return FicturesError(f"{source.setting}={source.name}: {place}: {error.strerror}")
    if isinstance(error, OSError):
        reason = str(error).partition("\n")[0]
        return ServerUnreachable(
            f"{source.setting}={source.name}: the download broke off ({reason}): run it again, what is whole stays"
        )
    return ServerUnreachable(explanations.UNREACHABLE.format_map(words))


def _expected(file: RepoSibling) -> Expected:
    if file.lfs:
        return Expected(file.lfs.size, file.lfs.sha256)
    return Expected(file.size or 0, file.blob_id or "")


def _root(path: str, entry: str) -> Path:
    """The snapshot's folder, which is named for its commit."""
    return Path(path).parents[len(PurePosixPath(entry).parts) - 1]
