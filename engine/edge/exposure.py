"""Where an edge may listen: loopback for everybody, elsewhere only behind TLS and authentication.

Law of this file: one rule for every edge, checked before anything listens.
"""

from __future__ import annotations

import ipaddress

from laneway.engine.edge.auth import Authenticate, no_auth
from laneway.engine.tls import Tls
from laneway.routing.errors import ConfigError

__all__ = ["check_exposure", "is_loopback"]


def check_exposure(host: str, tls: Tls | None, authenticate: Authenticate, *, insecure: bool) -> None:
    """Raise ConfigError if the outside could reach `host` without TLS or without authentication.

    Args:
        insecure: the operator takes that risk in writing.
    """
    if insecure or is_loopback(host):
        return
    missing = [name for name, lacks in (("TLS", tls is None), ("authentication", authenticate is no_auth)) if lacks]
    if missing:
        raise ConfigError(
            f"refusing to listen on {host} without {' and '.join(missing)}: anybody who reaches it could "
            "read and steer every session; configure it, listen on 127.0.0.1, or pass insecure (--insecure)"
        )


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach a socket bound to `host`; names other than localhost are not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
