"""The configuration of a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from laneway.engine.cli.settings import server_config
from laneway.engine.config import Config


def test_a_server_is_durable_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, environment and options can all choose the store; else it is a file here."""
    for name in ("LANEWAY_CONFIG", "LANEWAY_STORE__URL"):
        monkeypatch.delenv(name, raising=False)
    assert server_config(None).store.url == "laneway.db"
    assert server_config(None, {"store": {"url": "memory"}}).store.url == "memory"
    assert server_config(None, {"store": {"url": None}, "nlp": {"model": "synthetic"}}).nlp.model == "synthetic"
    (tmp_path / "a.toml").write_text('[store]\nurl = "memory"\nsync = "normal"\n')
    assert server_config(tmp_path / "a.toml").store.url == "memory"
    (tmp_path / "b.toml").write_text('[store]\nsync = "normal"\n')
    config = server_config(tmp_path / "b.toml")
    assert (config.store.url, config.store.sync) == ("laneway.db", "normal")
    monkeypatch.setenv("LANEWAY_STORE__URL", "sqlite:elsewhere.db")
    assert server_config(None).store.url == "sqlite:elsewhere.db"


def test_hosts_of_a_server_stay_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever serves next finds them; an engine that is embedded takes its hosts along."""
    for name in ("LANEWAY_CONFIG", "LANEWAY_RUNTIME__LEAVE_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    ray = {"runtime": {"kind": "ray", "cluster": "mine"}}
    assert not Config.load(overrides=ray).runtime.leave_hosts
    runtime = server_config(None, ray).runtime
    assert (runtime.leave_hosts, runtime.kind, runtime.cluster) == (True, "ray", "mine")
    (tmp_path / "a.toml").write_text("[runtime]\nleave_hosts = false\n")
    assert not server_config(tmp_path / "a.toml", ray).runtime.leave_hosts
