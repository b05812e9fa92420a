"""How an MCP server's process is started: given outright, or installed first.

Law of this file: settings are plain data, and what is made from them can be told to another process,
which then starts a server of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laneway.engine.tooling.environments import Progress, ensure_environment, package_name

__all__ = ["ManagedCommand", "ServerCommand", "command_of", "plain_command"]


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How a stdio server is started; `env` is added to HOME, PATH, USER and the like, nothing else."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


@dataclass(frozen=True, slots=True)
class ManagedCommand:
    """A server from the package index; calling it installs it, if need be, and tells how it is started.

    Attributes:
        requirement: ``mcp-server-time==2026.10.19``.
        executable: its console script; default the package's name. args: its arguments.
        directory: where environments are kept; install_s: longest installation; progress: told each line of it,
            in this process only.

    Raises:
        ConfigError: the requirement has another form. Calling raises ToolUnavailable(INSTALL_FAILED).
    """

    requirement: str
    executable: str = ""
    args: tuple[str, ...] = ()
    directory: Path | None = None
    install_s: float = 300.0
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Check the requirement's form."""
        package_name(self.requirement)

    @property
    def package(self) -> str:
        """The package's name."""
        return package_name(self.requirement)

    async def __call__(self) -> ServerCommand:
        """Install it, and return how it is started."""
        executables = await ensure_environment(
            self.requirement, directory=self.directory, progress=self.progress, timeout_s=self.install_s
        )
        return ServerCommand(str(executables / (self.executable or self.package)), self.args)


def plain_command(command: object) -> dict[str, Any] | None:
    """Return a command as plain data, or None for a function. Elsewhere nobody is told the progress."""
    if isinstance(command, ServerCommand):
        where = str(command.cwd) if command.cwd is not None else None
        return {"command": command.command, "args": list(command.args), "env": dict(command.env), "cwd": where}
    if isinstance(command, ManagedCommand):
        where = str(command.directory) if command.directory is not None else None
        return {
            "requirement": command.requirement,
            "executable": command.executable,
            "args": list(command.args),
            "directory": where,
            "install_s": command.install_s,
        }
    return None


def command_of(plain: Mapping[str, Any]) -> ServerCommand | ManagedCommand:
    """Return what `plain_command` told."""
    given = dict(plain)
    args = tuple(given.pop("args"))
    if "requirement" in given:
        directory = _path(given.pop("directory"))
        return ManagedCommand(args=args, directory=directory, **given)
    return ServerCommand(args=args, cwd=_path(given.pop("cwd")), **given)


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None
