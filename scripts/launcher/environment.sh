# Sets up .venv for serve, test and lock: one Python, one lock file, and nothing to do when nothing changed.
# Sourced by those scripts, from the root of the checkout.

fail() { printf '%s: %s\n' "$(basename "$0")" "$1" >&2; exit 1; }
say() { printf '%s: %s\n' "$(basename "$0")" "$1" >&2; }

check_machine() {
    [[ "$(uname -s) $(uname -m)" == "Linux x86_64" ]] ||
        fail "the embedded server runs on Linux x86-64, this is $(uname -s) $(uname -m): use Debian 12, Ubuntu 22.04 or newer on such a machine"
    local glibc
    glibc="$(getconf GNU_LIBC_VERSION 2>/dev/null || true)"
    glibc="${glibc#glibc }"
    [[ -n "$glibc" ]] || fail "the embedded server needs glibc, this system has another C library: use Debian 12, Ubuntu 22.04 or newer"
    [[ "$(printf '2.35\n%s\n' "$glibc" | sort -V | head -1)" == 2.35 ]] ||
        fail "the embedded server needs glibc 2.35 or newer, this system has $glibc: use Debian 12, Ubuntu 22.04 or newer"
}

# Prints the real path of a Python that can own the environment. One with a shared libpython is
# preferred, because the stub of Triton's Python backend loads it; preflight explains if there is none.
describe_python() {
    "$1" - 2>/dev/null <<'PY'
import os, sys, sysconfig as s
ok = (3, 11) <= sys.version_info < (3, 14) and sys.implementation.name == "cpython"
folders = [s.get_config_var("LIBDIR") or "", os.path.join(sys.base_prefix, "lib")]
shared = any(os.path.exists(os.path.join(f, f"libpython3.{sys.version_info[1]}.so.1.0")) for f in folders)
base = getattr(sys, "_base_executable", sys.executable)
print(("shared" if shared else "static") if ok else "old", "%d.%d.%d" % sys.version_info[:3], os.path.realpath(base))
PY
}

find_python() {
    local candidate kind version path fallback="" candidates=(python3 python3.13 python3.12 python3.11)
    [[ -n "${PYTHON:-}" ]] && candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        read -r kind version path < <(describe_python "$candidate") || continue
        if [[ "$kind" == shared ]]; then
            echo "$path"
            return
        fi
        [[ "$kind" == static && -z "$fallback" ]] && fallback="$path"
    done
    [[ -n "$fallback" ]] && { echo "$fallback"; return; }
    if [[ -n "${PYTHON:-}" ]]; then
        fail "PYTHON=$PYTHON is not a CPython 3.11, 3.12 or 3.13${version:+ (it is $version)}: point PYTHON at one"
    fi
    fail "no Python 3.11, 3.12 or 3.13 found: install one with its shared library (Debian: python3 python3-venv libpython3.11) or set PYTHON to it"
}

# What .venv was made from; read without starting a Python, so that an unchanged environment costs milliseconds.
environment_stamp() {
    { cat requirements.lock pyproject.toml; grep -E '^(home|version)' .venv/pyvenv.cfg; echo "$PWD"; } 2>/dev/null |
        sha256sum | cut -d' ' -f1
}

environment_is_current() {
    [[ -x .venv/bin/python && -f .venv/.stamp && "$(<.venv/.stamp)" == "$(environment_stamp)" ]] || return 1
    [[ -z "${PYTHON:-}" ]] || [[ "$(venv_version)" == "$(describe_python "$PYTHON" | cut -d' ' -f2)" ]]
}

venv_version() { [[ -x .venv/bin/python ]] && describe_python .venv/bin/python | cut -d' ' -f2; }

bootstrap_uv() {
    UV=.run/uv-venv/bin/uv
    "$UV" --version >/dev/null 2>&1 && return
    say "fetching uv, the installer"
    rm -rf .run/uv-venv
    "$1" -m venv .run/uv-venv >.run/uv-venv.log 2>&1 ||
        fail "$1 cannot create a virtual environment: install its venv module (Debian: apt install python3-venv), then run this again"
    .run/uv-venv/bin/python -m pip install --quiet --disable-pip-version-check uv >>.run/uv-venv.log 2>&1 ||
        fail "pip could not fetch uv: check the network or your pip settings; details in .run/uv-venv.log"
}

ensure_environment() {
    export UV_FIND_LINKS="${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}"
    export UV_PYTHON_DOWNLOADS=never
    mkdir -p .run
    environment_is_current && return
    exec 9>.run/environment.lock
    flock -n 9 || { say "waiting for another run that is setting up .venv"; flock 9; }
    environment_is_current || install_environment
    exec 9>&-
}

install_environment() {
    check_machine
    local python
    python="$(find_python)"
    bootstrap_uv "$python"
    if [[ "$(venv_version)" != "$(describe_python "$python" | cut -d' ' -f2)" ]]; then
        say "creating .venv with $python"
        rm -rf .venv
        "$UV" venv --quiet --python "$python" .venv || fail "uv could not create .venv with $python"
    fi
    rm -f .venv/.stamp
    say "installing what requirements.lock names into .venv (about 1 GB the first time)"
    "$UV" pip install --python .venv/bin/python -r requirements.lock ||
        fail "installing requirements.lock failed (see above): check the network and free disk space, then run this again"
    "$UV" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e . ||
        fail "installing the project itself into .venv failed (see above)"
    environment_stamp >.venv/.stamp
}
