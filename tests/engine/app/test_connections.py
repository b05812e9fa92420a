"""A host's connections take their rhythm and their certificates from the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from laneway.actors.hosts.switchboard import Switchboard
from laneway.engine.app.clock import SystemClock
from laneway.engine.app.connections import connections
from laneway.engine.config import RuntimeConfig
from laneway.routing.errors import ConfigError
from laneway.routing.membership import FRONT

WHO = (FRONT, "front/a", "1", "s" * 32, "1", Switchboard(), SystemClock())


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    """Before anything listens."""
    missing = tmp_path / "cert.pem"
    with pytest.raises(ConfigError, match="TLS files"):
        connections(*WHO, RuntimeConfig(tls_cert=missing, tls_key=missing, tls_ca=missing))


def test_a_short_secret_is_refused() -> None:
    """Who can guess it is a host of the cluster."""
    with pytest.raises(ConfigError, match="secret"):
        connections(FRONT, "front/a", "1", "short", "1", Switchboard(), SystemClock(), RuntimeConfig())
