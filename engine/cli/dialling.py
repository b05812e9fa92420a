"""Options of every command that talks to an engine, and the client they make.

Law of this file: a token is read from the environment or a file, never from the command line, where
other users of the machine would see it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from laneway.engine.client import Client

__all__ = ["Ca", "Target", "TokenFile", "dial"]

Target: TypeAlias = Annotated[str, typer.Option("--grpc", envvar="LANEWAY_TARGET", help="HOST:PORT of the engine.")]
TokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="LANEWAY_TOKEN_FILE", help="File with a JWT; or set LANEWAY_TOKEN."),
]
Ca: TypeAlias = Annotated[Path | None, typer.Option("--tls-ca", help="PEM roots to trust; switches TLS on.")]


def dial(target: str, token_file: Path | None, ca: Path | None, **options: Any) -> Client:
    """Return a client, not connected yet. Raises ConfigError for a file that cannot be read."""
    import os

    from laneway.engine.client import Client, Trust
    from laneway.routing.errors import ConfigError

    try:
        token = token_file.read_text().strip() if token_file is not None else os.environ.get("LANEWAY_TOKEN")
        tls = Trust(roots=ca.read_bytes()) if ca is not None else None
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}") from error
    return Client(target, token=token or None, tls=tls, **options)
