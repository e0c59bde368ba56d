"""requirements.lock: versions only, for any machine."""

import re
import tomllib
from pathlib import Path

import pytest

from launcher.lockfile import simplify

ROOT = Path(__file__).resolve().parents[2]
EVERYWHERE = (
    "python_full_version < '3.14' and platform_machine == 'x86_64' "
    "and platform_python_implementation == 'CPython' and sys_platform == 'linux'"
)


def test_what_holds_on_every_supported_machine_is_left_out() -> None:
    assert simplify(f"httpx==0.28.1 ; {EVERYWHERE}\n") == "httpx==0.28.1\n"


def test_a_real_condition_stays() -> None:
    line = f"six==1.17.0 ; python_full_version >= '3.12' and {EVERYWHERE}"
    assert simplify(line) == "six==1.17.0 ; python_full_version >= '3.12'\n"


def test_the_cpu_build_of_torch_becomes_its_plain_version_once() -> None:
    compiled = (
        f"torch==2.13.0 ; python_full_version >= '3.12' and {EVERYWHERE}\n"
        f"torch==2.13.0+cpu ; python_full_version < '3.12' and {EVERYWHERE}\n"
    )
    assert simplify(compiled) == "torch==2.13.0\n"


@pytest.mark.parametrize("line", ["x @ file:///tmp/x.whl", "--find-links /srv/wheels", "x==1 @ https://host/x.whl"])
def test_an_address_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a plain pinned version"):
        simplify(line)


def test_the_lock_file_holds_nothing_but_pinned_versions() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pattern = re.compile(r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==[^\s/@+]+( ; [a-z_]+ [<>=!]+ '[\w.]+'( (and|or) .*)?)?")
    assert [line for line in lock.splitlines() if not pattern.fullmatch(line)] == []


def test_the_lock_file_names_each_package_of_the_server_and_of_the_tests() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {re.split(r"[\s\[<>=!;]", line)[0].lower() for line in extras["server"] + extras["dev"]}
    locked = {line.split("==")[0].split("[")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert wanted <= locked
