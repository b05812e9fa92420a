"""One virtual environment per MCP server, made once in a cache directory.

Law of this file: a server's dependencies never mix with the engine's. An environment is usable only
when its marker, written last, is there; whatever an interrupted installation left is removed and made
anew. One process installs, under a file lock; the others wait for it. A failure is typed and says what
pip said; there is no fallback.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from laneway.engine.cache import cache_directory, exclusive
from laneway.routing.errors import ConfigError, ToolUnavailable

__all__ = ["Progress", "ensure_environment", "package_name"]

Progress: TypeAlias = Callable[[str], None]
"""Told one line per step of an installation, from the event loop."""

_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9,._-]+\])?(==[A-Za-z0-9.!+_-]+)?")
_MARKER: Final = "laneway-ready"
_LINE_BYTES: Final = 65_536
_TOLD_LINES: Final = 8


def package_name(requirement: str) -> str:
    """Return the distribution's name. Raises ConfigError unless it is ``name``, ``name[extra]`` or ``name==1.2``."""
    found = _REQUIREMENT.fullmatch(requirement)
    if found is None:
        raise ConfigError(f"{requirement!r} is not `name` or `name==version`; anything else pip understands is refused")
    return found[1]


async def ensure_environment(
    requirement: str, *, directory: Path | None = None, progress: Progress | None = None, timeout_s: float = 300.0
) -> Path:
    """Return the directory of executables of an environment that has this package.

    Args:
        requirement: ``name`` or ``name==version``; give the version, so that it is the same everywhere.
        directory: where environments are kept; `tools` in the cache directory if None.
        progress: told each step; not called when the environment is already there.
        timeout_s: for waiting and installing together.

    Raises:
        ConfigError: the requirement is not of that form, or LANEWAY_CACHE is not absolute.
        ToolUnavailable: reason INSTALL_FAILED or INSTALL_TIMEOUT; nothing half-made is used.
    """
    package_name(requirement)
    base = directory or cache_directory() / "tools"
    key = re.sub(r"[^A-Za-z0-9.]+", "-", requirement) + f"-py{sys.version_info[0]}{sys.version_info[1]}"
    home = base / key
    executables = home / ("Scripts" if sys.platform == "win32" else "bin")
    python = executables / ("python.exe" if sys.platform == "win32" else "python")
    if (home / _MARKER).exists() and python.exists():
        return executables
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.to_thread(base.mkdir, parents=True, exist_ok=True)
            async with exclusive(base / f"{key}.lock", timeout_s):
                if not ((home / _MARKER).exists() and python.exists()):
                    await _make(home, python, requirement, progress or _silent)
    except TimeoutError as error:
        raise ToolUnavailable(
            f"installing {requirement} took more than {timeout_s:g} s; check the network and try again",
            reason="INSTALL_TIMEOUT",
        ) from error
    except OSError as error:
        raise ToolUnavailable(
            f"{requirement} cannot be installed in {home}: {error}", reason="INSTALL_FAILED"
        ) from error
    return executables


def _silent(line: str) -> None:
    """Tell nobody."""


async def _make(home: Path, python: Path, requirement: str, progress: Progress) -> None:
    await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
    progress(f"making an environment for {requirement}")
    await _spoken([sys.executable, "-m", "venv", os.fspath(home)], requirement, progress)
    pip = [os.fspath(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    await _spoken([*pip, "--progress-bar=off", requirement], requirement, progress)
    await asyncio.to_thread((home / _MARKER).write_text, requirement)
    progress(f"{requirement} is ready")


async def _spoken(command: list[str], requirement: str, progress: Progress) -> None:
    """Run one step, tell its lines, kill its whole group if this task is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=_LINE_BYTES,
        start_new_session=True,
    )
    said: deque[str] = deque(maxlen=_TOLD_LINES)
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            text = line.decode(errors="replace").strip()
            if text:
                said.append(text)
                progress(text)
        status = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        await asyncio.shield(process.wait())
        raise
    if status != 0:
        raise ToolUnavailable(
            f"installing {requirement} failed; check the network and the version. It said: {' | '.join(said)[-1500:]}",
            reason="INSTALL_FAILED",
        )
