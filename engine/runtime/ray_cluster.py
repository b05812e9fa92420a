"""A front's hold on its cluster: the registry, and the pool hosts that Ray places for it.

Law of this file: nothing is waited for without an end, and a host that does not come is told with what
Ray lacks. A host is drained before it is stopped, and stopped for good. Who owns the cluster (`async
with` of an engine) ends what it made; who serves leaves its hosts running for whoever comes next.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from laneway.engine.runtime.beats import Terms
from laneway.engine.runtime.named_actor import ABSENT, ATTEMPTS, CONTROL, ENDED, TIMEOUT, NamedActor
from laneway.engine.runtime.placing import pending, ray_node
from laneway.engine.runtime.ray_connection import RayConnection
from laneway.engine.runtime.ray_host import Host, host_name, laneway_version, pool_of
from laneway.engine.runtime.registry import Registry, namespace_of
from laneway.engine.sections import RuntimeConfig
from laneway.routing.errors import ConfigError, LanewayError, RuntimeUnavailable
from laneway.routing.failures import error_of_fields
from laneway.routing.membership import Member

__all__ = ["RayCluster"]

_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)
_CALL_S: Final = 5.0
_MADE_S: Final = 30.0
"""A registry that was made just now has its process to start first, and on a busy machine that takes long."""
_CONTROL_CALLS: Final = 32
_STOPPED: Final = "the cluster was stopped by an operator"


class RayCluster:
    """Ray as one engine, or one operator, uses it. Lives on one event loop.

    Args:
        config: where, which cluster, how many CPUs a host takes.
        owned: hosts spawned here end with `close`, at the latest with this process; otherwise they stay.

    Attributes:
        registry: for `Beats`. terms: what it agreed. node, ip: of this process, as `Member` and servers want them.
    """

    def __init__(self, config: RuntimeConfig, *, owned: bool = True) -> None:
        self.registry = Registry(config.cluster, laneway_version())
        self.terms = Terms("", config.beat_s, config.lost_s)
        self.node = self.ip = ""
        self._config = config
        self._owned = owned
        self._connection = RayConnection(config.address, config.node_ip)
        self._namespace = namespace_of(config.cluster)
        self._actors: dict[str, NamedActor] = {}
        self._made: set[str] = set()

    async def open(self, *, create: bool = True) -> None:
        """Connect, and join the cluster.

        Args:
            create: make the registry if there is none; an operator's command only looks.

        Raises:
            RuntimeUnavailable: no Ray there, or no cluster in it. ConfigError: a cluster of another version.
        """
        await self._connection.open(self._namespace)
        try:
            self.node, self.ip = await self._there(ray_node)
            if self._connection.local:
                self.ip = "127.0.0.1"  # nobody outside this machine has a part in it
            if create:
                fresh = Terms(secrets.token_hex(32), self._config.beat_s, self._config.lost_s)
                await self.registry.create(fresh)
            self.terms = await self._admitted(max(self._config.ready_s, _MADE_S) if create else _CALL_S)
        except BaseException:
            await self._connection.close()
            raise

    async def _admitted(self, within_s: float) -> Terms:
        """Return the registry's terms; one that was made just now has its process to start first."""
        try:
            return await self.registry.admit(within_s)
        except RuntimeUnavailable as error:
            if error.reason != ABSENT:
                raise
            raise RuntimeUnavailable(
                f"Ray runs, but has no cluster of laneway named {self._config.cluster}: none was started there, or it "
                "was stopped; start an engine with `laneway serve --runtime ray`, or name another (runtime.cluster, "
                "--cluster)",
                reason=ABSENT,
            ) from error

    async def spawn(self, pool: str, hosts: int, program: str, spec: bytes) -> list[str]:
        """Make a pool's hosts, or find those that run already; returns their names. `ready` waits for them.

        Args:
            program: import path of a `Program`; spec: for it.

        Raises:
            ConfigError: those that run were made otherwise. RuntimeUnavailable: Ray refuses.
        """
        running = await self.hosts(pool)
        if running:
            await self._compare(running[0], (program, spec))
        return running + await self._add(pool, running, hosts - len(running), (program, spec, self._settings(pool)))

    def _settings(self, pool: str) -> dict[str, Any]:
        """Return what a host is made with beside its program, the same whoever makes another one after it."""
        config = self._config
        own = {"ip": self.ip} if self._connection.local else {}
        return {"start_s": config.ready_s, "version": laneway_version(), "resources": self._asks(pool), **own}

    def _asks(self, pool: str) -> dict[str, float]:
        """Return what a host of a pool asks Ray for."""
        return {"CPU": self._config.cpus, **self._config.resources.get(pool, {})}

    async def ready(self, names: Sequence[str]) -> list[Member]:
        """Wait until these hosts serve; on failure those made here that do not are ended.

        Raises:
            ConfigError: a program cannot start as it is set up. RuntimeUnavailable: a host failed, or was not
            placed within `ready_s`; the message lists what was asked of Ray and what it has.
        """
        waits = [self._ready(name) for name in names]
        told = await asyncio.gather(*waits, return_exceptions=True)
        failed = {name: error for name, error in zip(names, told, strict=True) if isinstance(error, BaseException)}
        if not failed:
            return [member for member in told if isinstance(member, Member)]
        late = [name for name, error in failed.items() if getattr(error, "reason", "") == TIMEOUT]
        asks = [self._asks(pool_of(name)) for name in late]
        waiting = await self._there(pending, late, asks, self._config.ready_s) if late else None
        for name in set(failed) & self._made:
            await self._end(name)
        for name, error in failed.items():
            if name not in late:
                raise error
        raise RuntimeUnavailable(str(waiting), reason="NOT_READY")

    async def scale(self, pool: str, hosts: int, *, drain_s: float) -> list[str]:
        """Bring a pool to so many hosts; returns their names once they serve and the surplus is gone.

        Surplus hosts are those that do not serve, then those of the highest numbers. Raises as `ready`, and
        RuntimeUnavailable if the pool has no host to take after.
        """
        running = await self.hosts(pool)
        if not running:
            raise RuntimeUnavailable(
                f"pool {pool} has no hosts in cluster {self._config.cluster}; an engine starts them: runtime.hosts",
                reason="NO_POOL",
            )
        if hosts < len(running):
            alive = {member.name for member, _ in (await self.registry.roll()).heard}
            surplus = sorted(running, key=lambda name: (name in alive, -_number_of(name)))[: len(running) - hosts]
            await self._drain_all(surplus, drain_s)
            return [name for name in running if name not in surplus]
        added = await self._add(pool, running, hosts - len(running), await self._call(running[0], "recipe"))
        await self.ready(added)
        return running + added

    async def drain(self, name: str, *, drain_s: float) -> bool:
        """Let a host end what it does, then stop it for good. Returns whether it ended in time.

        Raises RuntimeUnavailable if there is no such host.
        """
        if not await self._actor(name).exists():
            raise RuntimeUnavailable(f"there is no host {name} in cluster {self._config.cluster}", reason=ABSENT)
        ended = True
        try:
            await self._call(name, "drain", drain_s, timeout_s=drain_s + _CALL_S)
            await self._call(name, "stop")
        except RuntimeUnavailable as error:
            ended = False
            _log.warning("%s is stopped without having drained: %s", name, error.message)
        await self._end(name)
        return ended

    async def _drain_all(self, names: Sequence[str], drain_s: float) -> None:
        """Drain them side by side, each to its end whatever the others come to. Raises the first failure then."""
        told = await asyncio.gather(*(self.drain(name, drain_s=drain_s) for name in names), return_exceptions=True)
        for error in told:
            if isinstance(error, BaseException) and getattr(error, "reason", "") != ABSENT:  # that one has ended
                raise error

    async def hosts(self, pool: str = "") -> list[str]:
        """Return the names of all hosts, or of one pool's, in the order of their numbers."""
        found = [name for name in await self._there(_named_actors, self._namespace) if pool_of(name)]
        return sorted(
            (name for name in found if pool in ("", pool_of(name))), key=lambda n: (pool_of(n), _number_of(n))
        )

    async def statistics(self, name: str) -> Mapping[str, Any]:
        """Return what a host says of itself. Raises RuntimeUnavailable."""
        return dict(await self._call(name, "statistics"))

    async def stop(self, *, drain_s: float) -> int:
        """End the cluster: every host, whoever made it, then the registry. Returns how many hosts ended."""
        await self.registry.stop(_STOPPED)
        names = await self.hosts()
        await self._drain_all(names, drain_s)
        await self._all_told()
        await self.registry.end()
        return len(names)

    async def _all_told(self) -> None:
        """Return when nobody beats any more: a front that had not been told would begin the cluster anew."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + 2 * self.terms.lost_s
        while (await self.registry.roll()).heard and loop.time() < ends:  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(self.terms.beat_s)

    async def close(self, *, drain_s: float = 0.0) -> None:
        """Let go: owned hosts are ended, and the registry with the last member. Idempotent."""
        try:
            if self._owned and self._made:
                pools = {pool_of(name) for name in self._made}
                mine = [name for name in await self.hosts() if pool_of(name) in pools]
                await self._drain_all(mine, drain_s)
                self._made.clear()
                if not (await self.registry.roll()).heard:
                    await self.registry.end()
        except LanewayError as error:
            _log.warning("the cluster could not be left in order: %s", error)
        finally:
            try:
                await self._connection.close()
            except TimeoutError:  # whoever closes has more to close
                _log.error("Ray did not end in time and is left behind")

    async def _compare(self, name: str, own: tuple[str, bytes]) -> None:
        """Raise ConfigError if a host that was found was made otherwise."""
        try:
            recipe = await self._actor(name).call("recipe", timeout_s=self._config.ready_s, attempts=ATTEMPTS)
        except RuntimeUnavailable as error:
            if error.reason != TIMEOUT:  # it waits for its place, and `ready` will tell so
                raise
            return
        if tuple(recipe[:2]) != own:
            raise ConfigError(
                f"hosts of pool {pool_of(name)} run in cluster {self._config.cluster} with other settings; stop them "
                "with `laneway cluster stop`, or use another runtime.cluster"
            )

    async def _add(self, pool: str, running: Sequence[str], count: int, recipe: tuple[Any, ...]) -> list[str]:
        """Make `count` more hosts, with the lowest numbers that are free."""
        numbers, taken = range(len(running) + max(0, count)), set(running)
        names = [name for name in (host_name(pool, number) for number in numbers) if name not in taken][: max(0, count)]
        for name in names:
            self._actor(name).adopt(await self._there(self._make, name, recipe))
            self._made.add(name)
        return names

    def _make(self, name: str, recipe: tuple[Any, ...]) -> Any:
        import ray
        from ray.exceptions import RayError

        asks = dict(recipe[2]["resources"])
        made: Any = ray.remote  # its types know no concurrency groups
        options = made(concurrency_groups={CONTROL: _CONTROL_CALLS})(Host).options(
            name=name,
            namespace=self._namespace,
            lifetime=None if self._owned else "detached",
            get_if_exists=True,
            num_cpus=asks.pop("CPU"),
            num_gpus=asks.pop("GPU", 0),
            memory=asks.pop("memory", None),
            resources=asks,
            max_restarts=-1,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        try:
            return options.remote(self._config.cluster, name, *recipe)
        except (RayError, ValueError) as error:
            raise RuntimeUnavailable(f"Ray does not make {name}: {error}") from error

    async def _ready(self, name: str) -> Member:
        try:
            asked = self._actor(name).call("ready", timeout_s=self._config.ready_s, attempts=ATTEMPTS)
            member, error = await asked
        except RuntimeUnavailable as died:
            if died.reason not in (ABSENT, ENDED):
                raise
            raise RuntimeUnavailable(
                f"{name} ended while this engine waited for it: its process died, or somebody stopped the cluster; its "
                "log is below /tmp/ray/session_latest/logs on its node",
                reason=died.reason,
            ) from died
        if error is not None:
            raise error_of_fields(error)
        return Member(*member)

    async def _end(self, name: str) -> None:
        await self._actor(name).end(within_s=_CALL_S)
        self._made.discard(name)

    def _actor(self, name: str) -> NamedActor:
        return self._actors.setdefault(name, NamedActor(name, self._namespace, group=CONTROL))

    async def _call(self, name: str, method: str, *arguments: object, timeout_s: float = _CALL_S) -> Any:
        return await self._actor(name).call(method, *arguments, timeout_s=timeout_s)

    async def _there(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Run something of Ray's that blocks. Raises RuntimeUnavailable, and errors of ours as they are."""
        try:
            async with asyncio.timeout(_CALL_S):
                return await asyncio.to_thread(work, *arguments)
        except TimeoutError as error:
            raise RuntimeUnavailable(f"Ray did not answer within {_CALL_S:g} s") from error
        except LanewayError:
            raise
        except Exception as error:  # Ray tells a lost cluster in many ways
            raise RuntimeUnavailable(f"Ray does not answer: {type(error).__name__}: {str(error)[:500]}") from error


def _named_actors(namespace: str) -> list[str]:
    import ray

    return [row["name"] for row in ray.util.list_named_actors(all_namespaces=True) if row["namespace"] == namespace]


def _number_of(name: str) -> int:
    number = name.rpartition("/")[2]
    return int(number) if number.isdigit() else -1
