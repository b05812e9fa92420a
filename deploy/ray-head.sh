#!/bin/sh
# The head of the Ray cluster that laneway's hosts run on: it knows the nodes and runs nothing itself.
#
#   RAY_AUTH_TOKEN_PATH=/etc/laneway/ray.token deploy/ray-head.sh --node-ip-address=10.0.0.10
#
# More arguments of `ray start` may follow; the last of a kind wins. deploy/compose.yaml runs this very
# script, and deploy/kuberay.yaml gives the operator the same arguments and settings.
#
# Validated: run as it is, on loopback and other ports, by tests/deploy/test_ray_start.py: a driver with
# the token is served, one with another or none is refused, and SIGTERM ends all it started.
# Not run: several machines.
set -eu

# Without a token everybody who reaches a port of Ray may run code here. The same file on every node,
# `openssl rand -hex 32`, readable by its user only; engines need the same two settings.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-/etc/laneway/ray.token}"
test -s "$RAY_AUTH_TOKEN_PATH" || { echo "no token in $RAY_AUTH_TOKEN_PATH; make one: openssl rand -hex 32" >&2; exit 1; }
# A lost node is known after 2 s instead of 16 (measured with Ray 2.60); hosts beat for themselves besides.
export RAY_health_check_initial_delay_ms=500
export RAY_health_check_period_ms=500
export RAY_health_check_timeout_ms=1000
export RAY_health_check_failure_threshold=3
# Ray starts its workers with nice 15: beside anything else on the machine, latency suffers first.
export RAY_worker_niceness=0

# Fixed ports, so that a firewall can name them. Events do not go through Ray's object store: it is small.
exec ray start --head --block --disable-usage-stats --num-cpus=0 --include-dashboard=false \
    --port=6379 --ray-client-server-port=10001 \
    --node-manager-port=6800 --object-manager-port=6801 --runtime-env-agent-port=6802 \
    --dashboard-agent-grpc-port=6803 --dashboard-agent-listen-port=6804 --metrics-export-port=6805 \
    --min-worker-port=6900 --max-worker-port=7299 --object-store-memory=268435456 "$@"
