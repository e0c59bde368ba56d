#!/bin/sh
# Starts this pod's part of its group's Ray cluster, and then what the pod is for:
#   ray.sh leader    the head, and beside it the launcher with Triton and vLLM
#   ray.sh worker    a node that lends its GPUs, until it or the head ends
# POD_IP is this pod's address; LWS_LEADER_ADDRESS, the leader's name, comes from the LeaderWorkerSet.
set -eu

port=6379

fail() {
    printf 'ray.sh: %s\n' "$1" >&2
    exit 1
}

command -v ray >/dev/null || fail "this image has no Ray, which vLLM needs to use several nodes"
# Without a dashboard; vLLM passes little through Ray's object store, which lies in /dev/shm.
common="--node-ip-address=$POD_IP --node-manager-port=6380 --object-store-memory=1000000000"
export RAY_USAGE_STATS_ENABLED=0
# Whoever reaches a Ray cluster may run what he likes on it, unless it asks for a token.
if [ -n "${RAY_AUTH_TOKEN:-}" ]; then
    export RAY_AUTH_MODE=token
else
    unset RAY_AUTH_TOKEN
fi

case "${1:-}" in
leader)
    # shellcheck disable=SC2086 # several words
    ray start --head --port=$port --include-dashboard=false $common
    # The launcher gives its processes a TMPDIR of their own, where Ray would look for its cluster in vain.
    export RAY_ADDRESS="$POD_IP:$port"
    exec python3 -m launcher
    ;;
worker)
    head="$LWS_LEADER_ADDRESS:$port"
    until ray health-check --address "$head" >/dev/null 2>&1; do
        echo "ray.sh: waiting for the head at $head"
        sleep 5
    done
    # shellcheck disable=SC2086 # several words
    exec ray start --address="$head" --block $common
    ;;
*)
    fail "say leader or worker"
    ;;
esac
