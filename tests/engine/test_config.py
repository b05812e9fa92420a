"""Settings: defaults, layers, and errors that name the field and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from laneway.actors.sessions.session import SessionPolicy
from laneway.engine.config import Address, Config
from laneway.engine.limits import Limits
from laneway.routing.dispatch import DispatchPolicy
from laneway.routing.errors import ConfigError

SECRET = "s" * 32
TLS = {"tls_cert": "c.pem", "tls_key": "k.pem"}
JWT = {"mode": "jwt", "issuer": "i", "audience": "a", "secret": SECRET}


def load(environ: dict[str, str] | None = None, **overrides: dict[str, Any]) -> Config:
    return Config.load(environ=environ or {}, overrides=overrides)


def refusal(**sections: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**sections)
    return caught.value.message


def test_defaults_are_safe() -> None:
    """Loopback, volatile store, no authentication needed since nobody outside gets in."""
    config = Config()
    assert config.edge.grpc == ("127.0.0.1", 7700)
    assert config.edge.http.loopback
    assert config.store.url == "memory"
    assert config.store.sync == "full"
    assert config.limits.codec() == Limits()


def test_the_session_policy_is_what_is_set() -> None:
    """Session and link settings reach the actors' policies; the defaults are theirs."""
    assert Config().session_policy() == SessionPolicy()
    policy = load(session={"ring_events": 7, "heartbeat_s": 3}, limits={"frame_bytes": 2_048}).session_policy()
    assert (policy.ring_events, policy.link.heartbeat_s, policy.link.max_frame_bytes) == (7, 3.0, 2_048)


def test_the_dispatch_policy_is_what_is_set() -> None:
    """Dispatch settings reach the dispatcher's policy; the defaults are its own."""
    assert Config().dispatch_policy() == DispatchPolicy()
    policy = load(dispatch={"age_s": 1, "session_events": 9}).dispatch_policy()
    assert (policy.age_s, policy.admission.session_events) == (1.0, 9)


def test_layers(tmp_path: Path) -> None:
    """Overrides beat the environment, which beats the file, which beats the defaults; field by field."""
    path = tmp_path / "laneway.toml"
    path.write_text(
        '[nlp]\nmodel = "file"\nconcurrency = 2\n[tools]\nworkers = 3\nconcurrency = 4\n[limits]\ndepth = 8\n'
    )
    environ = {"LANEWAY_NLP__MODEL": "environment", "LANEWAY_TOOLS__WORKERS": "5", "HOME": "/"}
    overrides = {"tools": {"workers": 6, "concurrency": None}}
    config = Config.load(path, environ=environ, overrides=overrides)
    assert (config.nlp.model, config.nlp.concurrency) == ("environment", 2)
    assert (config.tools.workers, config.tools.concurrency) == (6, 4)
    assert (config.limits.depth, config.limits.items) == (8, 1_024)
    assert Config.load(environ={"LANEWAY_CONFIG": str(path)}).tools.workers == 3


def test_values_from_the_environment_have_types() -> None:
    """Addresses, booleans, numbers, lists and tables are read from text."""
    config = load(
        {
            "LANEWAY_EDGE__GRPC": "[::1]:0",
            "LANEWAY_EDGE__HTTP": "localhost:80",
            "LANEWAY_EDGE__INSECURE": "true",
            "LANEWAY_SESSION__FLUSH_S": "0.02",
            "LANEWAY_AUTH__ALGORITHMS": "RS256, ES256",
            "LANEWAY_AUTH__PUBLIC_KEYS": '{"2026": "a.pem"}',
        }
    )
    assert (config.edge.grpc, str(config.edge.grpc)) == (Address("::1", 0), "[::1]:0")
    assert config.edge.http.loopback
    assert config.edge.insecure is True
    assert config.session.flush_s == 0.02
    assert config.auth.algorithms == ("RS256", "ES256")
    assert config.auth.public_keys == {"2026": Path("a.pem")}


@pytest.mark.parametrize("address", ["0.0.0.0:7700", "[::]:7700", "192.0.2.1:1", "example.org:7700"])
@pytest.mark.parametrize("port", ["grpc", "http"])
def test_a_public_address_needs_tls_and_authentication(address: str, port: str) -> None:
    """Without either it is refused, naming what is missing; with both, or insecure, it is taken."""
    edge = {port: address}
    assert "edge.tls_cert and edge.tls_key and auth.mode" in refusal(edge=edge)
    assert "set edge.tls_cert and edge.tls_key, listen" in refusal(edge=edge, auth=JWT)
    assert 'set auth.mode = "jwt", listen' in refusal(edge=edge | TLS)
    assert "edge.insecure = true" in refusal(edge=edge)
    load(edge=edge | TLS, auth=JWT)
    load(edge=edge | {"insecure": True})


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.1.2.3:1", "localhost:1", "[::1]:1"])
def test_loopback_addresses(address: str) -> None:
    """The machine's own addresses need nothing."""
    assert load(edge={"grpc": address}).edge.grpc.loopback


BAD: list[tuple[dict[str, dict[str, Any]], list[str]]] = [
    ({"edge": {"grpc": "7700"}}, ["edge.grpc", "HOST:PORT", "'7700'"]),
    ({"edge": {"grpc": "127.0.0.1:70000"}}, ["edge.grpc", "HOST:PORT"]),
    ({"edge": {"grpc": "127.0.0.1:"}}, ["edge.grpc", "HOST:PORT"]),
    ({"edge": {"grcp": "127.0.0.1:1"}}, ["edge.grcp is not a setting", "did you mean grpc"]),
    ({"egde": {"grpc": "127.0.0.1:1"}}, ["egde is not a setting", "did you mean edge"]),
    ({"edge": {"zzz": "1"}}, ["edge.zzz is not a setting", "there are: grpc"]),
    ({"edge": {"tls_cert": "c.pem"}}, ["edge", "tls_cert and tls_key go together"]),
    ({"edge": {"tls_client_ca": "c.pem"}}, ["tls_client_ca needs"]),
    ({"store": {"sync": "off"}}, ["store.sync", "'full' or 'normal'", "'off'"]),
    ({"limits": {"depth": 1_000}}, ["limits.depth", "200", "1000"]),
    ({"limits": {"items": "many"}}, ["limits.items", "integer", "many"]),
    ({"session": {"heartbeat_s": 0}}, ["session.heartbeat_s", "1"]),
    ({"tools": {"workers": 0}}, ["tools.workers", "greater"]),
    ({"dispatch": {"rate_per_s": float("inf")}}, ["dispatch.rate_per_s", "finite"]),
    ({"auth": {"mode": "jwt"}}, ["auth", "issuer and audience"]),
    ({"auth": JWT | {"secret": None}}, ["auth", "either secret or public_keys"]),
    ({"auth": JWT | {"public_keys": {"k": "a.pem"}}}, ["auth", "either secret or public_keys"]),
    ({"auth": JWT | {"secret": "short secret"}}, ["auth.secret", "32 bytes", "openssl"]),
    ({"auth": JWT | {"leeway_s": 61}}, ["auth.leeway_s", "60"]),
    ({"runtime": {"resources": {"nlp": {"CPU": 1}}}}, ["runtime", "runtime.cpus"]),
    ({"runtime": {"resources": {"nlp": {"GPU": 0}}}}, ["runtime.resources.nlp.GPU", "greater"]),
]


@pytest.mark.parametrize(("sections", "words"), BAD)
def test_wrong_settings_are_named(sections: dict[str, dict[str, Any]], words: list[str]) -> None:
    """The error names field, rule and what came; `Config(...)` gives the same as `load`."""
    message = refusal(**sections)
    assert all(word in message for word in words), message
    with pytest.raises(ConfigError):
        Config(**sections)  # type: ignore[arg-type]


def test_secrets_are_not_shown() -> None:
    """Neither an error, nor its cause, nor the printed configuration holds a secret."""
    with pytest.raises(ConfigError) as caught:
        load(auth=JWT | {"secret": "hunter2", "public_keys": {}})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "hunter2" not in refusal(auth=JWT | {"secret": "hunter2" * 5, "issuer": ""})
    assert SECRET not in repr(load(auth=JWT))


def test_a_forgotten_underscore_is_told() -> None:
    """LANEWAY_EDGE_GRPC would silently do nothing; other LANEWAY_ names belong to commands."""
    with pytest.raises(ConfigError, match="write LANEWAY_EDGE__GRPC"):
        load({"LANEWAY_EDGE_GRPC": "127.0.0.1:1"})
    assert load({"LANEWAY_CACHE": "/tmp/x"}) == Config()
    with pytest.raises(ConfigError, match=r"edge\.nope is not a setting"):
        load({"LANEWAY_EDGE__NOPE": "1"})
    with pytest.raises(ConfigError, match="LANEWAY_AUTH__PUBLIC_KEYS"):
        load({"LANEWAY_AUTH__PUBLIC_KEYS": "{nope"})


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[edge\n", "not TOML"), (b"\xff", "not TOML"), (b"edge = 3\n", "edge"), (None, "cannot be read")],
)
def test_bad_files(tmp_path: Path, content: bytes | None, words: str) -> None:
    """A missing or broken file is named."""
    path = tmp_path / "laneway.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        Config.load(path, environ={})
    with pytest.raises(ConfigError, match=words):
        Config.load(path, environ={"LANEWAY_EDGE__GRPC": "127.0.0.1:1"})


def test_config_reads_nothing_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded `Config()` is not changed by the environment; `load()` is."""
    monkeypatch.setenv("LANEWAY_TOOLS__WORKERS", "9")
    assert Config().tools.workers == 2
    assert Config.load().tools.workers == 9
