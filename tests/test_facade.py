"""The public surface: what `import laneway` offers and what it must not cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import laneway

ROOT = Path(__file__).parent.parent
HEAVY = ("ray", "grpc", "opentelemetry", "mcp", "starlette", "pydantic", "pycrdt", "sqlite3", "typer", "rich")


def _python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def test_import_loads_nothing_heavy(tmp_path: Path) -> None:
    """A bare `import laneway` loads none of the heavy libraries."""
    code = f"import sys, laneway; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = _python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_engine_loads_no_wire_and_no_ray(tmp_path: Path) -> None:
    """Naming the Engine loads neither Ray nor gRPC, OpenTelemetry, MCP or Starlette."""
    code = (
        "import sys; from laneway import Engine; "
        "print([m for m in ('ray', 'grpc', 'opentelemetry', 'mcp', 'starlette', 'pycrdt') if m in sys.modules])"
    )
    result = _python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_every_public_name_resolves() -> None:
    """Each name of `__all__` can be imported, is unique, and dir() shows it."""
    assert len(set(laneway.__all__)) == len(laneway.__all__)
    for name in laneway.__all__:
        assert getattr(laneway, name) is not None
        assert name in dir(laneway)


def test_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as it would on any module."""
    with pytest.raises(AttributeError, match="Enginee"):
        _ = laneway.Enginee  # type: ignore[attr-defined]


@pytest.mark.parametrize("package", ["routing", "actors", "engine"])
def test_bare_package_names_are_refused(package: str) -> None:
    """`import routing` from a checkout says in one sentence what to import instead."""
    result = _python(f"import {package}", ROOT)
    assert result.returncode != 0
    assert f"import laneway.{package}, not {package}" in result.stderr


def test_links_turned_into_text_files_are_explained(tmp_path: Path) -> None:
    """A checkout without symbolic links fails with the way out, not with a missing module."""
    package = tmp_path / "laneway"
    package.mkdir()
    (package / "__init__.py").write_bytes((ROOT / "laneway" / "__init__.py").read_bytes())
    for name in ("routing", "actors", "engine"):
        (package / name).write_text(f"../{name}")
    result = _python("import laneway", tmp_path)
    assert result.returncode != 0
    assert "core.symlinks" in result.stderr
