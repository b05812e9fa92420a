"""Which addresses an edge may listen on."""

from __future__ import annotations

from pathlib import Path

import pytest

from laneway.actors.ports import Principal
from laneway.engine.edge.auth import no_auth
from laneway.engine.edge.exposure import check_exposure, is_loopback
from laneway.engine.tls import Tls
from laneway.routing.errors import ConfigError

TLS = Tls(Path("cert.pem"), Path("key.pem"))


def test_loopback_addresses() -> None:
    """Names other than localhost count as public: what they resolve to is not ours."""
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "", "localhost.evil.org")))


def test_a_public_address_needs_tls_and_authentication() -> None:
    """What is missing is named; the operator may take the risk in writing."""

    def somebody(metadata: object) -> Principal:
        return Principal("ada")

    check_exposure("127.0.0.1", None, no_auth, insecure=False)
    check_exposure("0.0.0.0", TLS, somebody, insecure=False)
    check_exposure("0.0.0.0", None, no_auth, insecure=True)
    with pytest.raises(ConfigError, match="without TLS and authentication"):
        check_exposure("0.0.0.0", None, no_auth, insecure=False)
    with pytest.raises(ConfigError, match="without authentication"):
        check_exposure("::", TLS, no_auth, insecure=False)
    with pytest.raises(ConfigError, match="without TLS:"):
        check_exposure("example.org", None, somebody, insecure=False)
