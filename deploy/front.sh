#!/bin/sh
# A front: an engine that is part of a Ray cluster, beside the node of Ray that it needs.
#
#   RAY_AUTH_TOKEN_PATH=/etc/laneway/ray.token LANEWAY_RUNTIME__ADDRESS=10.0.0.10:6379 deploy/front.sh --config laneway.toml
#
# Whatever follows is given to `laneway serve`, RAY_START_ARGS to `ray start`. Ray serves a program only beside a node of its own, in the
# same process namespace, hence one container for both. That node has no CPUs: pools are placed elsewhere.
# The engine is the container's first process: SIGTERM reaches it alone, and the node lives until it has
# drained.
#
# Validated: its syntax, and that it starts what there is (tests/deploy/test_compose.py); `ray-worker.sh`
# is run by a test of its own. Not run: as a container's first process.
set -eu
: "${LANEWAY_RUNTIME__ADDRESS:?HOST:PORT of the Ray head}"
here=$(dirname "$0")
# shellcheck disable=SC2086  # several arguments in one variable
RAY_HEAD=$LANEWAY_RUNTIME__ADDRESS "$here/ray-worker.sh" --num-cpus=0 ${RAY_START_ARGS:-} &
exec laneway serve --runtime ray "$@"
