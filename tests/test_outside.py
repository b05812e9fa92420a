"""How tests treat outside programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.outside import require


def test_a_program_that_is_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is returned."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert require(Path(sys.executable).name, package="python3") == sys.executable


def test_a_missing_program_skips_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a developer's machine the reason says what to install."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install no-such-package"):
        require("no-such-program", package="no-such-package")


def test_a_missing_program_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """There a skip would hide that nothing was checked."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install no-such-package"):
        require("no-such-program", package="no-such-package")
