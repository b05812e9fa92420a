"""Where a Redis server is, and who we are to it: `redis://USER:PASSWORD@HOST:PORT/DB`, `rediss://` for TLS.

Law of this file: the password stands in no message, representation or log; what a person reads is
`label`, and any text that comes from below passes `scrub` first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from laneway.routing.errors import ConfigError

__all__ = ["Address"]

_DEFAULT_PORT = 6379
_ADVICE = (
    "write it as redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS, and percent-encode @ : / ? # in names"
)


@dataclass(frozen=True, slots=True)
class Address:
    """One server.

    Attributes:
        label: the address without credentials and options, for people.
        url: the whole of it, for the client library alone.
    """

    label: str
    url: str = field(repr=False)
    _secrets: tuple[str, ...] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Check an address. Raises ConfigError, which does not quote it.

        Options are those of TLS, after a `?`: ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs, ...
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or _DEFAULT_PORT
        except ValueError:
            raise ConfigError(f"store.url is no address of a Redis server; {_ADVICE}") from None
        if parts.scheme not in ("redis", "rediss") or not host:
            raise ConfigError(f"store.url names no host of a Redis server; {_ADVICE}")
        number = parts.path.strip("/") or "0"
        if not (number.isascii() and number.isdigit()) or parts.fragment:
            raise ConfigError(f"store.url names no number of a database after the host; {_ADVICE}")
        _check_options(parts)
        bracketed = f"[{host}]" if ":" in host else host
        secrets = (parts.password or "", unquote(parts.password or ""), quote(unquote(parts.password or "")))
        return cls(f"{parts.scheme}://{bracketed}:{port}/{number}", url, tuple({text for text in secrets if text}))

    def scrub(self, text: str) -> str:
        """Return `text` without our password."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "[redacted]")
        return text


def _check_options(parts: SplitResult) -> None:
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if not name.startswith("ssl_"):
            raise ConfigError(
                f"store.url has the option {name[:40]!r}; there are only those of TLS (ssl_ca_certs, ...)"
            )
        if parts.scheme != "rediss":
            raise ConfigError(f"store.url has the option {name[:40]!r} of TLS, but is not encrypted; write rediss://")
