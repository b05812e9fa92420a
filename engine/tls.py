"""TLS of everything that listens: 1.3 only, proven at start and not believed.

Law of this file: a server that speaks TLS tries itself with a TLS 1.2 client before it serves and
refuses to run if that client gets in.

grpcio has no setting for the lowest version (https://github.com/grpc/grpc/issues/37305) and
accepts 1.2. Its list of 1.2 ciphers is read once, when grpc is loaded, from an environment
variable: naming only a cipher that no certificate can serve leaves 1.3 alone (measured with
1.85; `TLS_AES_...` names there break the server). A library must not set process-wide variables,
so only `laneway serve` does, before its first import of grpc.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from laneway.routing.errors import ConfigError

if TYPE_CHECKING:
    import grpc

__all__ = ["CIPHER_VARIABLE", "Tls", "require_tls13", "verify_tls13"]

CIPHER_VARIABLE: Final = "GRPC_SSL_CIPHER_SUITES"
_NO_TLS12_CIPHER: Final = "ECDHE-PSK-AES128-CBC-SHA"
"""A pre-shared-key suite: grpc has no such key, so no 1.2 handshake can end."""
_PROBE_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of one TLS identity.

    Attributes:
        cert: PEM certificate chain; key: its PEM private key.
        client_ca: PEM roots; when given, clients must show a certificate of them (mTLS).
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Return grpc credentials. Raises ConfigError if a file cannot be read or does not fit."""
        import grpc

        try:
            # the ssl module says clearly what grpc would say in its C log only
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key)
            roots = self.client_ca.read_bytes() if self.client_ca else None
            pair = (self.key.read_bytes(), self.cert.read_bytes())
        except (OSError, ssl.SSLError) as error:
            raise _unusable(error) from error
        return grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None)

    def context(self) -> ssl.SSLContext:
        """Return the context of an asyncio server. Raises ConfigError if a file cannot be read or does not fit."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_cert_chain(self.cert, self.key)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise _unusable(error) from error
        return context

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return grpc credentials of the dialling side, which trusts `client_ca` and shows the same certificate.

        Raises ConfigError if a file cannot be read or does not fit.
        """
        import grpc

        self.context()
        try:
            roots = self.client_ca.read_bytes() if self.client_ca else None
            return grpc.ssl_channel_credentials(roots, self.key.read_bytes(), self.cert.read_bytes())
        except OSError as error:
            raise _unusable(error) from error


def require_tls13() -> None:
    """Leave grpc nothing but TLS 1.3, for this whole process. Call before grpc is imported.

    Raises ConfigError if it is too late.
    """
    if os.environ.get(CIPHER_VARIABLE) == _NO_TLS12_CIPHER:
        return
    if "grpc" in sys.modules:
        raise ConfigError(f"grpc is loaded already; set {CIPHER_VARIABLE}={_NO_TLS12_CIPHER} before the start")
    os.environ[CIPHER_VARIABLE] = _NO_TLS12_CIPHER


async def verify_tls13(host: str, port: int, identity: Tls | None = None) -> None:
    """Connect to our own port with TLS 1.2. Raises ConfigError if that is accepted, or nothing listens.

    Args:
        identity: shown to a server that asks for certificates, lest it refuses for the want of one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # we ask which version it speaks, not who it is
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    if identity is not None:
        context.load_cert_chain(identity.cert, identity.key)
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(_reachable(host), port, ssl=context)
    except (ssl.SSLError, ConnectionResetError):
        return
    except (OSError, TimeoutError) as error:
        raise ConfigError(f"the TLS server on {host}:{port} did not answer its own probe: {error!r}") from error
    writer.transport.abort()
    raise ConfigError(
        f"the server on {host}:{port} accepts TLS 1.2; start it with `laneway serve`, or set "
        f"{CIPHER_VARIABLE}={_NO_TLS12_CIPHER} in the environment before grpc is loaded"
    )


def _unusable(error: Exception) -> ConfigError:
    return ConfigError(f"the TLS files cannot be used: {error}")


def _reachable(host: str) -> str:
    """Return an address to connect to for an address to listen on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}.get(host, host.strip("[]"))
