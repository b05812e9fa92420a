"""How commands reach an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from laneway.engine.cli.dialling import dial
from laneway.routing.errors import ConfigError


def test_tokens_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file wins; neither is fine."""
    monkeypatch.delenv("LANEWAY_TOKEN", raising=False)
    assert dial("h:1", None, None)._dial.token is None
    monkeypatch.setenv("LANEWAY_TOKEN", "from-environment")
    assert dial("h:1", None, None)._dial.token == "from-environment"
    (tmp_path / "token").write_text("from-file\n")
    client = dial("h:1", tmp_path / "token", None, session="s9")
    assert client._dial.token == "from-file"
    assert client.session == "s9"


def test_roots_switch_tls_on(tmp_path: Path) -> None:
    """A file that is not there is named."""
    (tmp_path / "ca.pem").write_bytes(b"PEM")
    tls = dial("h:1", None, tmp_path / "ca.pem")._dial.tls
    assert tls is not None
    assert tls.roots == b"PEM"
    with pytest.raises(ConfigError, match=r"none\.pem"):
        dial("h:1", None, tmp_path / "none.pem")
