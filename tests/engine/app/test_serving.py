"""From configuration to an edge."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest

from laneway.engine.app.serving import grpc_options
from laneway.engine.config import Config
from laneway.engine.edge.auth import JwtAuthenticator, no_auth
from laneway.routing.errors import ConfigError, TokenInvalid

SECRET = "0123456789abcdef0123456789abcdef"
JWT = {"mode": "jwt", "issuer": "https://id.example", "audience": "laneway"}


def _token(secret: str = SECRET) -> str:
    now = int(time.time())
    claims = {"sub": "ada", "iss": JWT["issuer"], "aud": "laneway", "iat": now, "exp": now + 60, "scope": "admin"}
    return jwt.encode(claims, secret, "HS256")


def test_the_defaults_are_loopback_and_open() -> None:
    """As far as this machine goes."""
    options = grpc_options(Config())
    assert (options["host"], options["port"], options["tls"]) == ("127.0.0.1", 7700, None)
    assert options["authenticate"] is no_auth
    assert grpc_options(Config.model_validate({"edge": {"grpc": "[::1]:0"}}))["host"] == "[::1]"


def test_a_secret_checks_tokens() -> None:
    """Tokens of our issuer for us count, others do not."""
    options = grpc_options(Config.model_validate({"auth": {**JWT, "secret": SECRET}}))
    hook = options["authenticate"]
    assert isinstance(hook, JwtAuthenticator)
    principal = hook({"authorization": f"Bearer {_token()}"})
    assert (principal.subject, principal.scopes) == ("ada", frozenset({"admin"}))
    with pytest.raises(TokenInvalid):
        hook({"authorization": f"Bearer {_token('f' * 32)}"})


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Before anything listens."""
    config = Config.model_validate({"auth": {**JWT, "public_keys": {"k1": str(tmp_path / "none.pem")}}})
    with pytest.raises(ConfigError, match=r"none\.pem"):
        grpc_options(config)
