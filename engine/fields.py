"""What settings are made of: addresses, secrets, lists of names, numbers with their bounds.

Law of this file: a value that is accepted here can be used as it is, and the message for one that is not
shows what is right.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, NamedTuple, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

__all__ = [
    "Address",
    "AddressField",
    "Bytes",
    "Names",
    "Positive",
    "Seconds",
    "SecondsOrOff",
    "Secret",
    "Share",
]

_MIN_SECRET_BYTES: Final = 32
"""RFC 7518 section 3.2: an HMAC key is at least as long as the hash."""


class Address(NamedTuple):
    """Where to listen; port 0 = any free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """True if only this machine can reach it; a name other than localhost counts as public."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(given: object) -> object:
    if not isinstance(given, str):
        return given
    host, colon, port = given.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("give HOST:PORT, such as 127.0.0.1:7700 or [::1]:7700")
    return Address(host, int(port))


def _comma_separated(given: object) -> object:
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


def _long_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < _MIN_SECRET_BYTES:
        raise ValueError(f"an HMAC secret has at least {_MIN_SECRET_BYTES} bytes; make one with `openssl rand -hex 32`")
    return secret


AddressField: TypeAlias = Annotated[Address, BeforeValidator(_address)]
Secret: TypeAlias = Annotated[SecretStr, AfterValidator(_long_secret)]
Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]
Positive: TypeAlias = Annotated[int, Field(ge=1)]
Bytes: TypeAlias = Annotated[int, Field(ge=1_024)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrOff: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share: TypeAlias = Annotated[float, Field(gt=0, le=1)]
