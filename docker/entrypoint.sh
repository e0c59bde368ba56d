#!/bin/sh
# What a server's container starts with: reads the Hugging Face token from the file that HF_TOKEN_FILE names, unless
# HF_TOKEN is set, and then becomes the command it was given. An empty file means no token.
set -eu

fail() {
    printf 'entrypoint: %s\n' "$1" >&2
    exit 1
}

[ $# -gt 0 ] || fail "no command was given"

if [ -z "${HF_TOKEN:-}" ] && [ -n "${HF_TOKEN_FILE:-}" ]; then
    [ -e "$HF_TOKEN_FILE" ] || fail "HF_TOKEN_FILE=$HF_TOKEN_FILE: no such file: mount the secret there, or unset it"
    [ ! -d "$HF_TOKEN_FILE" ] ||
        fail "HF_TOKEN_FILE=$HF_TOKEN_FILE: is a folder: the file mounted there did not exist on the host"
    [ -r "$HF_TOKEN_FILE" ] ||
        fail "HF_TOKEN_FILE=$HF_TOKEN_FILE: user $(id -u) may not read it: allow that on the host (chmod, setfacl)"
    HF_TOKEN=$(tr -d '[:space:]' <"$HF_TOKEN_FILE")
    export HF_TOKEN
fi
[ -n "${HF_TOKEN:-}" ] || unset HF_TOKEN
unset HF_TOKEN_FILE

exec "$@"
