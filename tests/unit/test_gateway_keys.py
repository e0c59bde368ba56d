"""API keys: made, listed and revoked in a file that holds no secret, and known to a gateway that runs already."""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fictures import ConfigurationError
from fictures.cli import app
from fictures.gateway import keys
from fictures.gateway.keys import KeyStore

BAD_NAMES = ["", " ", "ann bob", "ann/bob", "änn", "ann\n", "a" * 65, "ann;rm", "\x00"]
BROKEN = ["{", "[]", "null", "fictures-secret", '{"name": "ann"}', "\ufeff{}"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def store(path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], KeyStore]:
    """Makes a store that looks at its file whenever it is asked, and not once a second."""
    monkeypatch.setattr(keys, "_RECHECK_SECONDS", -1.0)
    return lambda: KeyStore(path)


def names(path: Path) -> list[str]:
    return [key.name for key in keys.read(path)]


# In the file


def test_a_key_that_was_made_is_in_the_file_with_its_limits(path: Path) -> None:
    secret = keys.create(path, "ann", max_concurrent=2, requests_per_minute=60)
    (key,) = keys.read(path)
    assert (key.name, key.max_concurrent, key.requests_per_minute) == ("ann", 2, 60)
    assert key.sha256 == keys.hash_of(secret) == hashlib.sha256(secret.encode()).hexdigest()
    assert abs(datetime.now(UTC) - key.created) < timedelta(minutes=1)


def test_only_the_hash_of_a_key_is_in_its_folder(path: Path) -> None:
    secret = keys.create(path, "ann")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert secret not in path.read_text()
    assert secret.removeprefix(keys.PREFIX) not in path.read_text()


def test_keys_are_long_and_never_the_same(path: Path) -> None:
    secrets = {keys.create(path, f"key-{number}") for number in range(5)}
    assert len(secrets) == 5
    assert all(secret.startswith("fictures-") and len(secret) >= 50 for secret in secrets)


def test_the_file_is_for_its_owner_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        keys.create(path, "ann")
        keys.create(path, "bob")
        keys.revoke(path, "ann")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_folder_of_the_file_need_not_be_there(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "fictures" / "keys"
    keys.create(path, "ann")
    assert names(path) == ["ann"]


def test_revoking_takes_one_key_and_leaves_the_others(path: Path) -> None:
    for name in ("ann", "bob", "cid"):
        keys.create(path, name)
    keys.revoke(path, "bob")
    assert names(path) == ["ann", "cid"]


@pytest.mark.parametrize("name", ["a", "Ann_2", "ann@example.org", "a.b-c", "-", "a" * 64])
def test_a_name_is_letters_digits_and_some_signs(path: Path, name: str) -> None:
    keys.create(path, name)
    assert names(path) == [name]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_any_other_name_is_refused_and_nothing_is_written(path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^name="):
        keys.create(path, name)
    assert not path.exists()


def test_two_keys_cannot_have_one_name(path: Path) -> None:
    keys.create(path, "ann")
    before = path.read_text()
    with pytest.raises(ConfigurationError, match="there is a key 'ann' already"):
        keys.create(path, "ann")
    assert path.read_text() == before
    keys.create(path, "Ann")


def test_a_revoked_name_may_be_given_again_with_another_key(path: Path) -> None:
    first = keys.create(path, "ann")
    keys.revoke(path, "ann")
    second = keys.create(path, "ann")
    store = KeyStore(path)
    assert store.find(first) is None
    assert store.find(second)


def test_a_key_that_there_is_not_cannot_be_revoked(path: Path) -> None:
    keys.create(path, "ann")
    with pytest.raises(ConfigurationError, match="there is no key 'bob'"):
        keys.revoke(path, "bob")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        keys.revoke(path.parent / "nowhere", "ann")
    assert names(path) == ["ann"]


@pytest.mark.parametrize("limits", [{"max_concurrent": 0}, {"requests_per_minute": -1}])
def test_a_limit_is_one_or_more(path: Path, limits: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(limits))):
        keys.create(path, "ann", **limits)


def test_keys_that_are_made_side_by_side_are_all_there(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: keys.create(path, f"key-{number}"), range(24)))
    assert len(set(names(path))) == 24


@pytest.mark.parametrize("line", BROKEN)
def test_a_line_that_is_no_key_is_named_and_the_file_is_left_as_it_is(path: Path, line: str) -> None:
    keys.create(path, "ann")
    path.write_text(path.read_text() + "\n" + line + "\n")
    before = path.read_text()
    for attempt in (
        lambda: keys.read(path),
        lambda: keys.create(path, "bob"),
        lambda: keys.revoke(path, "ann"),
        lambda: KeyStore(path),
    ):
        with pytest.raises(ConfigurationError, match=r"keys, line 3: "):
            attempt()
    assert path.read_text() == before


def test_every_wrong_line_is_named(path: Path) -> None:
    path.write_text("{\n\n[]\n")
    with pytest.raises(ConfigurationError) as caught:
        keys.read(path)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [f"{path}, line 1", f"{path}, line 3"]


def test_a_field_that_a_key_does_not_have_is_an_error(path: Path) -> None:
    keys.create(path, "ann")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_concurent": 1}))
    with pytest.raises(ConfigurationError, match="max_concurent"):
        keys.read(path)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_holds_no_keys(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert keys.read(path) == []
    keys.create(path, "ann")
    assert names(path) == ["ann"]


def test_what_is_no_text_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "binary"):
        with pytest.raises(ConfigurationError, match=f"^API_KEYS_FILE={path}: cannot be read"):
            KeyStore(path)


def test_a_file_that_cannot_be_written_is_a_configuration_error(path: Path) -> None:
    path.write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        keys.create(path / "below", "ann")


# In a gateway that runs


def test_a_key_is_found_by_its_secret_alone(path: Path) -> None:
    secret = keys.create(path, "ann")
    store = KeyStore(path)
    found = store.find(secret)
    assert found
    assert found.name == "ann"
    for wrong in ("", "ann", found.sha256, secret[:-1], secret + " ", secret.upper(), "é"):
        assert store.find(wrong) is None


def test_a_key_is_known_once_it_is_made_and_until_it_is_revoked(path: Path, store: Callable[[], KeyStore]) -> None:
    first = keys.create(path, "ann")
    running = store()
    second = keys.create(path, "bob")
    assert running.find(first)
    assert running.find(second)
    keys.revoke(path, "ann")
    keys.revoke(path, "bob")
    assert running.find(first) is None
    assert running.find(second) is None


@pytest.mark.parametrize("line", BROKEN)
def test_a_file_that_breaks_leaves_the_keys_as_they_were(path: Path, store: Callable[[], KeyStore], line: str) -> None:
    secret = keys.create(path, "ann")
    running = store()
    whole = path.read_text()
    path.write_text(line)
    assert running.find(secret)
    assert running.find(secret)
    path.write_text(whole.replace("ann", "bob"))
    found = running.find(secret)
    assert found
    assert found.name == "bob"


def test_a_file_that_is_gone_leaves_the_keys_as_they_were(path: Path, store: Callable[[], KeyStore]) -> None:
    secret = keys.create(path, "ann")
    running = store()
    path.unlink()
    assert running.find(secret)
    keys.create(path, "bob")
    assert running.find(secret) is None


def test_a_file_that_could_not_be_read_is_read_once_its_mode_is_mended(
    path: Path, store: Callable[[], KeyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.create(path, "ann")
    running = store()
    second = keys.create(path, "bob")
    path.chmod(0o000)
    with monkeypatch.context() as patch:  # what it is to anybody but root
        patch.setattr(keys, "read", unreadable)
        assert running.find(second) is None
    path.chmod(0o600)
    assert running.find(second)


def unreadable(path: Path) -> list[keys.ApiKey]:
    raise ConfigurationError([f"API_KEYS_FILE={path}: cannot be read"])


def test_the_file_is_looked_at_once_a_second_and_not_for_each_request(path: Path) -> None:
    secret = keys.create(path, "ann")
    running = KeyStore(path)
    keys.revoke(path, "ann")
    assert running.find(secret)


# By the command line


@pytest.fixture
def fictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`fictures keys` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("API_KEYS_FILE", raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["keys", *arguments])


Command = Callable[..., Result]


def test_create_prints_the_key_and_nothing_else(fictures: Command, path: Path) -> None:
    result = fictures("create", "ann", "--file", str(path), "--max-concurrent", "2", "--requests-per-minute", "60")
    assert (result.exit_code, result.stderr) == (0, "")
    key = KeyStore(path).find(result.stdout.removesuffix("\n"))
    assert key
    assert (key.name, key.max_concurrent, key.requests_per_minute) == ("ann", 2, 60)


def test_list_tells_of_names_days_and_limits_and_of_no_secret(fictures: Command, path: Path) -> None:
    for name, limits in {"ann": {}, "bob": {"max_concurrent": 2}, "cid": {"requests_per_minute": 60}}.items():
        keys.create(path, name, **limits)
    keys.create(path, "dee", max_concurrent=1, requests_per_minute=5)
    day = f"{keys.read(path)[0].created:%Y-%m-%d}"
    result = fictures("list", "--file", str(path))
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            f"ann  {day}",
            f"bob  {day}  2 at a time",
            f"cid  {day}  60 a minute",
            f"dee  {day}  1 at a time, 5 a minute",
        ],
    )


def test_revoke_takes_a_key_back_and_says_nothing(fictures: Command, path: Path) -> None:
    keys.create(path, "ann")
    result = fictures("revoke", "ann", "--file", str(path))
    assert (result.exit_code, result.output) == (0, "")
    assert fictures("list", "--file", str(path)).stdout == ""


def test_the_file_comes_from_the_environment_or_the_env_file(
    fictures: Command, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"API_KEYS_FILE={path}\n")
    assert fictures("create", "ann").exit_code == 0
    assert names(path) == ["ann"]
    monkeypatch.setenv("API_KEYS_FILE", str(tmp_path / "others"))
    assert fictures("create", "bob").exit_code == 0
    assert (names(path), names(tmp_path / "others")) == (["ann"], ["bob"])
    assert fictures("create", "cid", "--file", str(path)).exit_code == 0
    assert names(path) == ["ann", "cid"]


@pytest.mark.parametrize("arguments", [["create", "ann"], ["list"], ["revoke", "ann"]])
def test_without_a_file_a_command_says_what_to_set(fictures: Command, arguments: list[str]) -> None:
    result = fictures(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "fictures: API_KEYS_FILE is not set: set it, or give --file\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "ann"], "there is a key 'ann' already"),
        (["create", "ann bob"], "name=ann bob: "),
        (["revoke", "bob"], "there is no key 'bob'"),
    ],
)
def test_a_command_that_is_refused_is_one_line_and_exit_code_2(
    fictures: Command, path: Path, arguments: list[str], words: str
) -> None:
    keys.create(path, "ann")
    result = fictures(*arguments, "--file", str(path))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("fictures: ")
    assert words in result.stderr
    assert names(path) == ["ann"]


@pytest.mark.parametrize(
    "arguments",
    [["create"], ["create", "ann", "--max-concurrent", "0"], ["create", "ann", "--requests-per-minute", "x"]],
)
def test_wrong_usage_is_exit_code_2_and_writes_nothing(fictures: Command, path: Path, arguments: list[str]) -> None:
    assert fictures(*arguments, "--file", str(path)).exit_code == 2
    assert not path.exists()


def test_list_and_revoke_of_a_file_that_is_not_there_are_exit_code_2(fictures: Command, path: Path) -> None:
    for arguments in (["list"], ["revoke", "ann"]):
        result = fictures(*arguments, "--file", str(path))
        assert result.exit_code == 2
        assert "cannot be read" in result.stderr
