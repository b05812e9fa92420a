"""What the host of one pool is to carry: settings and registrations, as the bytes of its start.

Law of this file: two fronts of one cluster that were told the same give the same bytes, because hosts
that run already are recognised by them. A host is told what its pool needs and nothing else: no
credentials of stores or edges, no tools for a pool that runs none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

import msgpack

from laneway.engine.app.registrations import Registrations
from laneway.engine.config import Config
from laneway.routing.errors import ConfigError

__all__ = ["HostOrder", "needed"]

_SETTINGS: Final[Any] = {
    "telemetry": {"otlp", "sample_ratio", "follow_clients", "traces_per_s", "export_s", "service"},
    "tools": True,
    "nlp": {"concurrency", "unread"},
    "runtime": {"beat_s", "lost_s", "tls_cert", "tls_key", "tls_ca", "tls_name"},
}
"""What a host obeys; fronts may differ in all else."""


@dataclass(frozen=True, slots=True)
class HostOrder:
    """One pool's hosts are made by it.

    Attributes:
        pool: whose cells they carry. config: of it what a host obeys. told: what it needs to know.
    """

    pool: str
    config: Config
    told: Registrations

    def to_bytes(self) -> bytes:
        """Return it as plain data."""
        said = self.config.model_dump(mode="json", include=_SETTINGS, exclude_defaults=True)
        settings = json.dumps({section: fields for section, fields in said.items() if fields}, sort_keys=True)
        packed: bytes = msgpack.packb([self.pool, settings, needed(self.told, self.pool).to_bytes()])
        return packed

    @classmethod
    def from_bytes(cls, data: bytes) -> HostOrder:
        """Return what `to_bytes` gave. Raises ConfigError for what another version wrote."""
        try:
            pool, settings, told = msgpack.unpackb(data)
            config = Config.model_validate(json.loads(settings))
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"an order for a host cannot be read here ({error}); run the same version of laneway on every host"
            ) from error
        return cls(pool, config, Registrations.from_bytes(told))


def needed(told: Registrations, pool: str) -> Registrations:
    """Return what the hosts of one pool must know of it all."""
    tools, nlp = pool == "tools", pool == "nlp"
    return replace(
        told,
        pools=(told.pool(pool),),
        tools=told.tools if tools else (),
        servers=told.servers if tools else (),
        specs=told.specs if not tools else (),
        model=told.model if nlp else "",
    )
