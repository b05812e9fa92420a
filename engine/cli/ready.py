"""`laneway ready`: whether the engine of this configuration serves now, for a container's health check.

Law of this file: it reads the same settings as `serve` and asks this machine only; the certificate is
not judged, since nothing is told and nothing but a status is believed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from laneway.engine.cli.settings import server_config

if TYPE_CHECKING:
    import http.client

    from laneway.engine.config import EdgeConfig

__all__ = ["ready"]

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where to ask an engine that listens on all addresses."""


def ready(
    config: Annotated[Path | None, typer.Option(help="TOML file, as for serve.")] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT, as for serve.")] = None,
    timeout_s: Annotated[float, typer.Option(help="How long it may take to answer.")] = 2.0,
) -> None:
    """Ask the engine of this configuration, on this machine, whether it is ready; exit code 1 if it is not."""
    edge = server_config(config, {"edge": {"http": http}}).edge
    serves, said = _asked(edge, timeout_s)
    typer.echo(said)
    if not serves:
        raise typer.Exit(1)


def _asked(edge: EdgeConfig, timeout_s: float) -> tuple[bool, str]:
    """Return whether it is ready, and what it answered, or why nothing came."""
    import http.client

    connection = _connection(edge, timeout_s)
    try:
        connection.request("GET", "/readyz", headers={"host": "localhost"})
        answer = connection.getresponse()
        body = answer.read(4096).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from {edge.http}: {error}"
    finally:
        connection.close()
    return (True, body) if answer.status == 200 else (False, f"{answer.status} {body}")


def _connection(edge: EdgeConfig, timeout_s: float) -> http.client.HTTPConnection:
    import http.client

    host, port = _ANY.get(edge.http.host, edge.http.host), edge.http.port
    if edge.tls_cert is None:
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if edge.tls_client_ca is not None and edge.tls_key is not None:
        context.load_cert_chain(edge.tls_cert, edge.tls_key)  # counts if that authority signed it
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
