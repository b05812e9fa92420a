"""A host: a Ray actor that carries a program on a thread and an event loop of its own.

Law of this file: Ray runs `__init__` again whenever it restarts the actor, so everything begins there,
and a killed host heals by itself with a new incarnation at a new address. A program that cannot start
does not end the actor, which Ray would restart without end: the failure is kept and told by `ready`.
Control calls run on a loop beside the program's and are answered while that one is busy. Only plain
data crosses: errors as their fields.

Ray starts its workers at nice 15 unless RAY_worker_niceness says otherwise on their node; a process may
not undo that by itself, so a host logs it, and `statistics` shows `nice`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from laneway.engine.runtime.lives import Lives
from laneway.engine.runtime.loop import loop_factory
from laneway.engine.runtime.program import HostFacts, program_of
from laneway.engine.runtime.registry import Registry
from laneway.routing.errors import ConfigError, LanewayError
from laneway.routing.failures import error_fields

__all__ = ["Host", "host_name", "laneway_version", "pool_of"]

_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)
_TURN_S: Final = 1.0
"""A loop that serves runs turns in milliseconds; one that takes so long is told as busy."""


def host_name(pool: str, number: int) -> str:
    """Return the name of a pool's host, which is also its actor's."""
    return f"host/{pool}/{number}"


def pool_of(name: str) -> str:
    """Return the pool of a host's name, or an empty text if it is none."""
    first, _, rest = name.partition("/")
    return rest.rpartition("/")[0] if first == "host" else ""


def laneway_version() -> str:
    """Return the version of laneway that is installed in this process."""
    from importlib.metadata import version

    return version("laneway")


class Host:
    """What runs in the actor.

    Args:
        cluster: whose registry it beats. name: as `host_name` gives it.
        program: import path of a `Program`. spec: for it.
        settings: `start_s`, how long the program may take to start; `version`, of laneway, of who spawned
            the host; `resources` that it asked Ray for; `ip`, to listen on, if not the node's.
    """

    def __init__(self, cluster: str, name: str, program: str, spec: bytes, settings: Mapping[str, Any]) -> None:
        self._recipe = (program, spec, dict(settings))
        self._loop = loop_factory()()
        self._lives = Lives(
            partial(_checked_program, program, name, str(settings["version"])),
            _facts(cluster, name, spec, settings),
            Registry(cluster, laneway_version()),
            start_s=float(settings["start_s"]),
        )
        threading.Thread(target=self._live, name="laneway-host", daemon=True).start()

    async def ready(self) -> tuple[Any, Any]:
        """Wait until it has started, or failed. Returns (member, None) or (None, error fields)."""
        try:
            return tuple(await self._there(self._lives.ready())), None
        except LanewayError as error:
            return None, error_fields(error)

    async def statistics(self) -> dict[str, Any]:
        """Return what the program says, with `state` (busy if its loop does not turn), `failure`, `pid` and `nice`."""
        try:
            async with asyncio.timeout(_TURN_S):
                told = await self._there(self._statistics())
        except TimeoutError:
            told = {"state": "busy", "failure": f"the loop of this host has not turned for {_TURN_S:g} s"}
        return {**told, "pid": os.getpid(), "nice": _niceness()}

    async def recipe(self) -> tuple[str, bytes, dict[str, Any]]:
        """Return (program, spec, settings): what another host of this pool is made with."""
        return self._recipe

    async def drain(self, deadline_s: float) -> None:
        """Return when the program has nothing under way."""
        await self._there(self._lives.drain(deadline_s))

    async def stop(self) -> None:
        """Leave the cluster and close the program; the actor is then killed by who called this."""
        await self._there(self._halt())

    async def _statistics(self) -> Mapping[str, Any]:
        return self._lives.statistics()

    async def _settle(self) -> None:
        """Keep collections away from what is loaded by now: one of Ray's modules holds everything up for 20-50 ms."""
        with suppress(LanewayError):  # whoever waits for this host is told
            await self._lives.ready()
            gc.collect()
            gc.freeze()

    async def _halt(self) -> None:
        self._settling.cancel()
        self._lives.stop()
        await asyncio.wait({self._running, self._settling})

    async def _there(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run something on the program's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _live(self) -> None:
        """The thread: it ends with `stop`, or takes the process with it, so that Ray makes a new one."""
        asyncio.set_event_loop(self._loop)
        self._running = self._loop.create_task(self._lives.run(), name="host-lives")
        self._settling = self._loop.create_task(self._settle(), name="host-settles")
        try:
            if _niceness() > 0:
                _log.warning("this host runs at nice %d: set RAY_worker_niceness=0 on its node", _niceness())
            self._loop.run_until_complete(self._running)
            self._loop.run_forever()
        except BaseException:
            _log.critical("the host's loop failed; the process ends", exc_info=True)
            os._exit(1)


def _facts(cluster: str, name: str, spec: bytes, settings: Mapping[str, Any]) -> HostFacts:
    import ray

    return HostFacts(
        cluster=cluster,
        name=name,
        incarnation="",
        pool=pool_of(name),
        node=ray.get_runtime_context().get_node_id(),
        ip=settings.get("ip") or str(ray.util.get_node_ip_address()),  # type: ignore[no-untyped-call]
        pid=os.getpid(),
        secret="",
        version=laneway_version(),
        spec=spec,
    )


def _checked_program(path: str, name: str, version: str) -> Any:
    own = laneway_version()
    if own != version:
        raise ConfigError(
            f"its node has laneway {own}, the engine that spawned it has {version}; install the same version on all "
            "nodes (one image for all)",
            reason="VERSION",
        )
    return program_of(path)


def _niceness() -> int:
    return os.nice(0) if hasattr(os, "nice") else 0
