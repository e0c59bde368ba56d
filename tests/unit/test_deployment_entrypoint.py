"""What a server's container starts with: docker/entrypoint.sh."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from dockerfiles import AS_CONTAINER_USER, CONTAINER_USER, DOCKER

ENTRYPOINT = DOCKER / "entrypoint.sh"
SHOW_TOKEN = ("sh", "-c", 'echo "${HF_TOKEN-none} ${HF_TOKEN_FILE-none}"')


def run_entrypoint(*command: str, as_user: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_TOKEN")} | variables
    user = AS_CONTAINER_USER if as_user else {}
    return subprocess.run([ENTRYPOINT, *command], env=environment, capture_output=True, text=True, timeout=20, **user)


def test_it_is_sound_shell_and_can_be_run() -> None:
    for shell in ("sh", "bash"):
        subprocess.run([shell, "-n", ENTRYPOINT], check=True, timeout=20)
    assert os.access(ENTRYPOINT, os.X_OK)


def test_the_token_comes_from_the_file_of_the_secret(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("hf_abc\r\n")
    assert run_entrypoint(*SHOW_TOKEN, HF_TOKEN_FILE=str(secret)).stdout == "hf_abc none\n"


def test_a_token_in_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such-file")
    assert run_entrypoint(*SHOW_TOKEN, HF_TOKEN="hf_env", HF_TOKEN_FILE=missing).stdout == "hf_env none\n"


@pytest.mark.parametrize("file", ["", "/dev/null"])
def test_no_file_and_an_empty_one_mean_no_token(file: str) -> None:
    assert run_entrypoint(*SHOW_TOKEN, HF_TOKEN_FILE=file).stdout == "none none\n"


def test_a_file_that_is_missing_is_said_and_nothing_starts(tmp_path: Path) -> None:
    run = run_entrypoint("echo", "started", HF_TOKEN_FILE=str(tmp_path / "token"))
    assert (run.returncode, run.stdout) == (1, "")
    problem = "no such file: mount the secret there, or unset it"
    assert run.stderr == f"entrypoint: HF_TOKEN_FILE={tmp_path}/token: {problem}\n"


def test_a_folder_in_the_files_place_is_said(tmp_path: Path) -> None:
    run = run_entrypoint("echo", "started", HF_TOKEN_FILE=str(tmp_path))
    assert (run.returncode, run.stdout) == (1, "")
    assert "is a folder: the file mounted there did not exist on the host" in run.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_that_the_user_may_not_read_is_said() -> None:
    with open("/tmp/fictures-test-token", "w") as secret:
        os.chmod(secret.name, 0o600)
    try:
        run = run_entrypoint("echo", "started", as_user=True, HF_TOKEN_FILE=secret.name)
        assert (run.returncode, run.stdout) == (1, "")
        assert f"user {CONTAINER_USER} may not read it" in run.stderr
    finally:
        os.unlink(secret.name)


def test_without_a_command_the_entry_point_says_so() -> None:
    run = run_entrypoint()
    assert (run.returncode, run.stderr) == (1, "entrypoint: no command was given\n")


def test_arguments_and_exit_code_are_the_commands() -> None:
    run = run_entrypoint("sh", "-c", 'printf "<%s>" "$@"; exit 7', "name", "a b", "", "*")
    assert (run.stdout, run.returncode) == ("<a b><><*>", 7)


def test_the_command_takes_the_entry_points_place_so_that_signals_reach_it() -> None:
    script = 'trap "exit 42" TERM; echo $$; while :; do sleep 0.05; done'
    with subprocess.Popen([ENTRYPOINT, "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 42
