#!/bin/sh
# A front: an engine that is part of a Ray cluster, beside the node of Ray that it needs.
#
#   RAY_AUTH_TOKEN_PATH=/etc/laneway/ray.token LANEWAY_RUNTIME__ADDRESS=10.0.0.10:6379 deploy/front.sh --config laneway.toml
#
# Whatever follows is given to `laneway serve`, RAY_START_ARGS to `ray start`. Ray serves a program only beside a node of its own, in the
# same process namespace, hence one container for both. That node has no CPUs: pools are placed elsewhere.
# SIGTERM reaches the engine alone, which this script becomes; the node lives until it has drained, and ends
# with it.
#
# Validated: run as it is, beside deploy/ray-head.sh and ray-worker.sh on loopback and other ports, by
# tests/deploy/test_ray_start.py: a client is answered by a host on the other node, and SIGTERM drains.
# Not run: several machines, a container's first process.
set -eu
: "${LANEWAY_RUNTIME__ADDRESS:?HOST:PORT of the Ray head}"
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-/etc/laneway/ray.token}"
here=$(dirname "$0")
# shellcheck disable=SC2086  # several arguments in one variable
RAY_HEAD=$LANEWAY_RUNTIME__ADDRESS setpriv --pdeathsig TERM "$here/ray-worker.sh" --num-cpus=0 ${RAY_START_ARGS:-} >&2 &
exec laneway serve --runtime ray "$@"
