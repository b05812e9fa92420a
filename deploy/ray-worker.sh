#!/bin/sh
# A node of the Ray cluster that laneway's hosts run on: pools are placed here.
#
#   RAY_AUTH_TOKEN_PATH=/etc/laneway/ray.token RAY_HEAD=10.0.0.10:6379 deploy/ray-worker.sh --num-cpus=4
#
# More arguments of `ray start` may follow; the last of a kind wins. deploy/compose.yaml runs this very
# script, and deploy/kuberay.yaml gives the operator the same arguments and settings.
#
# Validated: run as it is, on loopback and other ports, by tests/deploy/test_ray_start.py, which sees the
# node join the head of deploy/ray-head.sh with its CPUs. Not run: several machines.
set -eu

# As on the head, whose script says what each is for.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-/etc/laneway/ray.token}"
test -s "$RAY_AUTH_TOKEN_PATH" || { echo "no token in $RAY_AUTH_TOKEN_PATH; copy the head's" >&2; exit 1; }
export RAY_health_check_initial_delay_ms=500
export RAY_health_check_period_ms=500
export RAY_health_check_timeout_ms=1000
export RAY_health_check_failure_threshold=3
export RAY_worker_niceness=0

: "${RAY_HEAD:?HOST:PORT of the Ray head}"
# Of several addresses that this machine has, the one it has towards the head.
own=$(python3 -c 'import socket, sys
host, _, port = sys.argv[1].rpartition(":")
info = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
with socket.socket(info[0], socket.SOCK_DGRAM) as probe:
    probe.connect(info[4])
    print(probe.getsockname()[0])' "$RAY_HEAD")

exec ray start --block --disable-usage-stats --address="$RAY_HEAD" --node-ip-address="$own" \
    --node-manager-port=6800 --object-manager-port=6801 --runtime-env-agent-port=6802 \
    --dashboard-agent-grpc-port=6803 --dashboard-agent-listen-port=6804 --metrics-export-port=6805 \
    --min-worker-port=6900 --max-worker-port=7299 --object-store-memory=268435456 "$@"
