"""The peer connections of a host, from its settings.

Law of this file: fronts and pool hosts get theirs the same way; gRPC is loaded when the first host starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from laneway.engine.config import RuntimeConfig
from laneway.engine.peer.plane import Plane
from laneway.engine.peer.policy import PeerPolicy
from laneway.engine.tls import Tls

if TYPE_CHECKING:
    from laneway.actors.hosts.peers import Receiver
    from laneway.actors.ports import Clock

__all__ = ["connections"]


def connections(
    role: str,
    name: str,
    incarnation: str,
    secret: str,
    version: str,
    receiver: Receiver,
    clock: Clock,
    config: RuntimeConfig,
) -> Plane:
    """Return the plane of one life of a host; see `Plane`. Raises ConfigError for TLS files that cannot be used."""
    policy = PeerPolicy(beat_s=config.beat_s, lost_s=config.lost_s)
    tls = None
    if config.tls_cert is not None and config.tls_key is not None:
        tls = Tls(config.tls_cert, config.tls_key, config.tls_ca)
    return Plane(
        name,
        incarnation,
        receiver,
        secret=secret,
        clock=clock,
        version=version,
        role=role,
        policy=policy,
        tls=tls,
        tls_name=config.tls_name,
    )
