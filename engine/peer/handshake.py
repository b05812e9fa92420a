"""Who may connect: what the metadata of a stream says, checked before a byte of it is read.

Law of this file: the secret first, in constant time, so that whoever does not know it learns nothing;
then versions, then names. Neither the secret nor anything made of it is ever in a message or a log.

Both streams of a connection bring the same metadata (docs/hosts.md); the answer is initial metadata.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from laneway.routing.errors import ConfigError, LanewayError, RuntimeUnavailable, Unauthenticated

__all__ = [
    "DATA_METHOD",
    "GONE",
    "PROTOCOL",
    "REASON_KEY",
    "SERVICE",
    "URGENT_METHOD",
    "VERSION_MISMATCH",
    "WRONG_HOST",
    "Gate",
    "Hello",
    "Identity",
    "refusal",
    "text_metadata",
]

SERVICE: Final = "laneway.v1.Peer"
URGENT_METHOD: Final = "Urgent"
DATA_METHOD: Final = "Data"
PROTOCOL: Final = 1
"""Of frames and verbs; grows with every change that an older host would misunderstand."""

VERSION_MISMATCH: Final = "VERSION_MISMATCH"
WRONG_HOST: Final = "WRONG_HOST"
GONE: Final = "GONE"
REASON_KEY: Final = "laneway-reason"
"""Trailing metadata of a refused stream: the error's `reason`."""

_NAME: Final = re.compile(r"[!-~]{1,128}\Z")
"""Printable ASCII without spaces: what metadata carries unchanged."""
_MIN_SECRET_CHARS: Final = 16
_MAX_BARRED: Final = 10_000
"""Dropped lives that are remembered; the oldest is forgotten first."""

_Metadata: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """This host, as others see it.

    Attributes:
        name: unique in the cluster. incarnation: this life of it. version: of laneway.

    Raises:
        ConfigError: a part is empty, longer than 128 characters or not printable ASCII.
    """

    name: str
    incarnation: str
    version: str

    def __post_init__(self) -> None:
        for field in ("name", "incarnation", "version"):
            if not _NAME.match(getattr(self, field)):
                raise ConfigError(
                    f"a host's {field} is 1 to 128 printable ASCII characters without spaces, "
                    f"not {getattr(self, field)!r}"
                )


class Hello(NamedTuple):
    """Who is on the other side, and of which connection a stream is one half."""

    name: str
    incarnation: str
    connection: str


class Gate:
    """Writes and checks the metadata of one host's streams.

    Args:
        identity: this host.
        secret: what all hosts of the cluster know; 16 characters or more.

    Raises:
        ConfigError: the secret is too short.
    """

    def __init__(self, identity: Identity, secret: str) -> None:
        if len(secret) < _MIN_SECRET_CHARS:
            raise ConfigError(f"the cluster secret must have {_MIN_SECRET_CHARS} characters or more")
        self._me = identity
        self._key = hmac.new(secret.encode(), SERVICE.encode(), hashlib.sha256).hexdigest()
        self._barred: dict[tuple[str, str], None] = {}

    def bar(self, name: str, incarnation: str) -> None:
        """Let this life of a host in no more: it was dropped, and others have taken over from it."""
        self._barred[name, incarnation] = None
        if len(self._barred) > _MAX_BARRED:
            del self._barred[next(iter(self._barred))]

    def hello(self, name: str, incarnation: str, connection: str) -> _Metadata:
        """Return what this side says when it dials that life of that host."""
        return (
            ("laneway-key", self._key),
            *self.answer(),
            ("laneway-to", name),
            ("laneway-to-incarnation", incarnation),
            ("laneway-connection", connection),
        )

    def answer(self) -> _Metadata:
        """Return what this side says when it is dialled."""
        return (
            ("laneway-protocol", str(PROTOCOL)),
            ("laneway-version", self._me.version),
            ("laneway-name", self._me.name),
            ("laneway-incarnation", self._me.incarnation),
        )

    def admit(self, said: Mapping[str, str]) -> Hello:
        """Return who dials.

        Raises:
            Unauthenticated: the secret is another one.
            ConfigError: another version, reason VERSION_MISMATCH.
            RuntimeUnavailable: it looks for another host or life of it, or has no proper name, reason
                WRONG_HOST; or it was dropped, reason GONE.
        """
        if not hmac.compare_digest(said.get("laneway-key", "").encode(), self._key.encode()):
            raise Unauthenticated("this is not the secret of our cluster; give all its hosts the same one")
        self.check_version(said)
        name, incarnation = said.get("laneway-name", ""), said.get("laneway-incarnation", "")
        connection = said.get("laneway-connection", "")
        for text in (name, incarnation, connection):
            if not _NAME.match(text):
                raise RuntimeUnavailable(f"{text!r} names no host, life or connection", reason=WRONG_HOST)
        if name == self._me.name:
            raise RuntimeUnavailable(f"{name} is our own name; give each host another", reason=WRONG_HOST)
        if (name, incarnation) in self._barred:
            raise RuntimeUnavailable(
                f"host {name!r} was dropped in its life {incarnation!r}; start it anew", reason=GONE
            )
        self._check_aim(said.get("laneway-to", ""), said.get("laneway-to-incarnation", ""))
        return Hello(name, incarnation, connection)

    def check_version(self, said: Mapping[str, str]) -> None:
        """Raise ConfigError, reason VERSION_MISMATCH, unless the other side speaks as we do."""
        protocol, version = said.get("laneway-protocol", "none"), said.get("laneway-version", "none")
        if protocol != str(PROTOCOL) or version != self._me.version:
            raise ConfigError(
                f"host {said.get('laneway-name', '')!r} runs laneway {version} (peer protocol {protocol}), host "
                f"{self._me.name!r} laneway {self._me.version} (peer protocol {PROTOCOL}); install the same version "
                "on both and restart the older one",
                reason=VERSION_MISMATCH,
            )

    def _check_aim(self, name: str, incarnation: str) -> None:
        me = self._me
        if (name, incarnation) != (me.name, me.incarnation):
            raise RuntimeUnavailable(
                f"here is host {me.name!r} in its life {me.incarnation!r}, not {name!r} in {incarnation!r}; "
                "look its address up again",
                reason=WRONG_HOST,
            )

    def meet(self, said: Mapping[str, str], name: str, incarnation: str) -> None:
        """Check the answer of the host that was dialled. Raises LanewayError as `admit` does."""
        self.check_version(said)
        if (said.get("laneway-name"), said.get("laneway-incarnation")) != (name, incarnation):
            raise RuntimeUnavailable(
                f"{said.get('laneway-name')!r} answers where {name!r} was looked for", reason=WRONG_HOST
            )


def refusal(code: str, reason: str, details: str, who: str) -> LanewayError:
    """Return what a dialler is told for a refused or failed call.

    Args:
        code: name of the gRPC status. reason: what the other side gave as such, or empty.
        details: its sentence. who: host and address.
    """
    if code == "UNAUTHENTICATED":
        return Unauthenticated(f"{who} refused us: {details}")
    if reason == VERSION_MISMATCH:
        return ConfigError(f"{who} refused us: {details}", reason=reason)
    if reason:
        return RuntimeUnavailable(f"{who} refused us: {details}", reason=reason)
    return RuntimeUnavailable(f"{who} cannot be reached ({code}: {details})", reason="UNREACHABLE")


def text_metadata(metadata: Iterable[tuple[str, Any]] | None) -> dict[str, str]:
    """Return the text entries; a repeated key keeps its first value."""
    found: dict[str, str] = {}
    for key, value in metadata or ():
        if isinstance(value, str):
            found.setdefault(key, value)
    return found
