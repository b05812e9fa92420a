"""What a Redis server says about itself, and what that means for a store.

Law of this file: a set-up in which a write that was answered can vanish by design is refused (an
evicting server, a replica, a cluster), and `lacks` is silent only if the server fsyncs every write before
it answers. What it does not let us read counts as absent unless the operator vouches for it.

With `appendfsync everysec` the server postpones its write while an earlier fsync runs, up to two
seconds, and answers meanwhile (`flushAppendOnlyFile` in aof.c of Redis 7): a kill -9 of the server
loses that. With `no-appendfsync-on-rewrite yes` even `always` skips the fsync while the file is rewritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from laneway.routing.errors import ConfigError

__all__ = ["Server"]

_OLDEST = (7, 0)
"""Scripts are replicated by their effects, and errors inside them are tables."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server at one moment.

    Attributes:
        run: name of this life of the process; another one after each restart.
        replicas: how many follow it at this moment.
        policy: what it does when its memory is full; max_memory_bytes: when that is, 0 = never.
        logs: whether it writes an append-only file.
        fsync: "always", "everysec", "no", or "" if it does not tell.
        rests: whether it stops to fsync while it rewrites the file.
    """

    version: str
    run: str
    role: str
    replicas: int
    cluster: bool
    policy: str
    max_memory_bytes: int
    logs: bool
    fsync: str
    rests: bool

    @classmethod
    def of(cls, info: Mapping[str, str], config: Mapping[str, str]) -> Server:
        """Read the fields of INFO, and of CONFIG GET as far as that was allowed."""
        return cls(
            version=info.get("redis_version", "0"),
            run=info.get("run_id", ""),
            role=info.get("role", "master"),
            replicas=int(info.get("connected_slaves", "0")),
            cluster=info.get("cluster_enabled", "0") != "0",
            policy=info.get("maxmemory_policy", "noeviction"),
            max_memory_bytes=int(info.get("maxmemory", "0")),
            logs=info.get("aof_enabled", "0") != "0",
            fsync=config.get("appendfsync", ""),
            rests=config.get("no-appendfsync-on-rewrite", "no") != "no",
        )

    def check(self, where: str) -> None:
        """Raise ConfigError, naming the fix, if a store must not be kept there."""
        numbers = tuple(int(part) for part in self.version.split(".")[:2] if part.isdigit())
        if numbers < _OLDEST:
            raise ConfigError(f"{where} is version {self.version}; a store needs Redis 7.0 or newer")
        if self.cluster:
            raise ConfigError(
                f"{where} is part of a Redis cluster, which loses answered writes when it fails over; "
                "use one server that stands alone"
            )
        if self.role != "master":
            raise ConfigError(f"{where} is a replica of another server; name that one in store.url")
        if self.max_memory_bytes and self.policy != "noeviction":
            raise ConfigError(
                f"{where} forgets keys when its memory is full (maxmemory-policy {self.policy}); "
                "set it to noeviction: CONFIG SET maxmemory-policy noeviction, and in redis.conf"
            )

    def lacks(self, assumed: bool) -> str:
        """Return why what it answered may be lost by kill -9 or loss of power, and the fix; empty if it may not.

        `assumed`: the operator vouches that an fsync setting which cannot be read is `always`, and that
        no replica is ever promoted.
        """
        if not self.logs and not (assumed and not self.fsync):
            return "it writes no append-only file; set appendonly yes and appendfsync always"
        if not self.fsync and not assumed:
            return (
                "it does not let its settings be read (CONFIG GET); "
                "allow that, or set store.assume_durable if you know that it runs with appendfsync always"
            )
        if self.fsync not in ("", "always"):
            return f"it answers before it syncs (appendfsync {self.fsync}); set appendfsync always"
        if self.rests:
            return "it does not sync while it rewrites its file; set no-appendfsync-on-rewrite no"
        if self.replicas and not assumed:
            return (
                f"{self.replicas} replicas follow it, and a failover loses answered writes; detach them, "
                "or set store.assume_durable if none is ever promoted"
            )
        return ""
