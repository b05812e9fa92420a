"""This process's connection to Ray: the one it has, a cluster that is joined, or a local one started here.

Law of this file: a process has one connection; who finds one uses it and leaves it open, who makes one
closes it. A Ray that is started here answers loopback needs only: no dashboard, little shared memory,
no niceness, quick health checks.

Ray is started on a thread that lives until it is shut down: its processes are told to die with the
thread that started them, and `ray.init` on the main thread would replace our handler of SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from laneway.routing.errors import ConfigError, RuntimeUnavailable

__all__ = ["RayConnection"]

_STORE_BYTES: Final = 80 * 2**20
"""Of shared memory, near Ray's least: frames do not go through it."""
_LEAST_CPUS: Final = 4
"""That a local Ray counts: hosts mostly wait, so that a small machine still takes a few of each pool."""
_OPEN_S: Final = 60.0
_CLOSE_S: Final = 20.0
_KNOCK_S: Final = 3.0
_ENVIRONMENT: Final = {
    "RAY_worker_niceness": "0",  # workers are at nice 15 by default
    "RAY_health_check_initial_delay_ms": "500",  # a lost node is noticed after 2 s instead of 16 s
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "(?s).*",  # read by `import ray`: its messages would go to our stdout
}


class RayConnection:
    """Open and close it on one event loop.

    Args:
        address: "auto" (the cluster this machine belongs to), HOST:PORT of a head's GCS, or empty: what
            RAY_ADDRESS names, else a local Ray is started and ends with `close`.
        node_ip: of the node to belong to, if this machine has several; empty = Ray chooses, the head first.

    Attributes:
        local: True if Ray was started here.
    """

    def __init__(self, address: str, node_ip: str = "") -> None:
        self.local = False
        self._node_ip = node_ip
        self._address = address or os.environ.get("RAY_ADDRESS", "")
        self._thread: ThreadPoolExecutor | None = None

    async def open(self, namespace: str) -> None:
        """Connect. Raises ConfigError (an address that cannot be meant), RuntimeUnavailable (nothing answers)."""
        if self._address.startswith("ray://"):
            raise ConfigError(
                f"runtime.address = {self._address[:100]!r} is for Ray clients; an engine joins its cluster: give "
                'HOST:PORT of the head, or "auto" on a machine of the cluster'
            )
        if self._address not in ("", "auto", "local") and not _has_port(self._address):
            raise ConfigError(
                f"runtime.address = {self._address[:100]!r} has no port; give HOST:PORT of the head, such as "
                '10.0.0.10:6379, or "auto" on a machine of the cluster'
            )
        await _knock(self._address)
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="laneway-ray")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_OPEN_S):
                opened = await loop.run_in_executor(thread, self._open, namespace)
        except BaseException as error:
            thread.shutdown(wait=False)
            if isinstance(error, TimeoutError):
                raise RuntimeUnavailable(f"Ray at {self._address or 'this machine'} did not answer in time") from error
            raise
        _keep_handler()
        if opened:
            self._thread = thread
        else:
            thread.shutdown()

    async def close(self) -> None:
        """Close what `open` opened. Idempotent. Raises TimeoutError if Ray does not end."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        import ray

        async with asyncio.timeout(_CLOSE_S):
            await asyncio.get_running_loop().run_in_executor(thread, ray.shutdown)
        thread.shutdown()

    def _open(self, namespace: str) -> bool:
        """Return whether a connection was made; False if this process had one."""
        with _environment():
            import ray

        if ray.is_initialized():
            return False
        if not self._address or self._address == "local":
            with _environment():
                _begin_local(namespace)
            self.local = True
            return True
        try:
            _init(address=self._address, namespace=namespace, _node_ip_address=self._node_ip or None)
        except (ConnectionError, ValueError, RuntimeError) as error:  # RuntimeError: another version of Ray or Python
            raise _unreachable(self._address, error) from error
        return True


def _keep_handler() -> None:
    """Put this process's own handler of SIGTERM first again: Ray's writes a stack on stderr before it."""
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGTERM)
        if handler is not None:  # else it is not Python's
            signal.signal(signal.SIGTERM, handler)


async def _knock(address: str) -> None:
    """Look whether anything listens there: Ray itself tries for more than a minute."""
    if not _has_port(address):
        return  # "auto", "local" or nothing
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_KNOCK_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError) as error:
        raise _unreachable(address, error) from error
    writer.close()


def _has_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit()


def _unreachable(address: str, error: Exception) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"no Ray cluster can be joined at {address[:100]!r}: {_cause(error)}; start one with `ray start --head`, "
        "or give its address (runtime.address, --address or RAY_ADDRESS); if it asks for a token, RAY_AUTH_MODE=token"
    )


def _begin_local(namespace: str) -> None:
    try:
        _init(address="local", namespace=namespace, **_local_options())
    except Exception as error:  # Ray raises bare ones; what it started ends with this thread
        raise RuntimeUnavailable(
            f"Ray could not be started on this machine: {_cause(error)}; its logs are in /tmp/ray/session_latest/logs "
            "(RAY_TMPDIR), it needs about 1 GB of memory and, on a machine that is not busy, a few seconds",
            reason="NO_LOCAL_RAY",
        ) from error


def _cause(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:500] or type(error).__name__


def _init(**options: Any) -> None:
    import logging

    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(logging_level=logging.ERROR, log_to_driver=False, configure_logging=False, **options)


def _local_options() -> dict[str, Any]:
    cpus = max(_LEAST_CPUS, os.cpu_count() or 1)
    return {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": _STORE_BYTES}


class _environment:  # noqa: N801  # a block, not a thing
    """What a Ray that is started inside the block inherits; the embedder's own settings win."""

    def __enter__(self) -> None:
        self._added = [name for name in _ENVIRONMENT if name not in os.environ]
        os.environ.update({name: _ENVIRONMENT[name] for name in self._added})

    def __exit__(self, *error: object) -> None:
        for name in self._added:
            del os.environ[name]
