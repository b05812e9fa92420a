"""One connection to a Redis server: commands in one write, replies in order, a deadline over all of them.

Law of this file: whatever the client library raises leaves here as one of three things. `Refused`: the
server answered with an error. `Broken`: the connection ended, and what was sent may or may not have been
carried out. StoreError: the server cannot be reached or gave no answer in time. A connection that broke
or was late is closed, so that no reply can be taken for another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from laneway.engine.stores.redis_address import Address
from laneway.routing.errors import ConfigError, StoreError

__all__ = ["Broken", "Command", "Refused", "Wire"]

Command: TypeAlias = Sequence[bytes | str | int]

_CODES: Final = {
    "NoScriptError": "NOSCRIPT",
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
}
"""The client library takes these codes off the texts that it has classes for."""


class Refused(Exception):
    """The server answered with an error: `code` is its first word, in capitals."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Broken(Exception):
    """The connection ended under way; whether the commands were carried out is unknown."""


class Wire:
    """One connection; used by one task at a time.

    Args:
        connect_s: deadline of connecting, with TLS and credentials.
        answer_s: deadline of one exchange, however many commands it has.
    """

    def __init__(self, address: Address, *, connect_s: float, answer_s: float) -> None:
        self.address = address
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._connection: Any = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known here."""
        return self._connection is not None and self._connection.is_connected

    async def open(self) -> None:
        """Connect, if there is no connection.

        Raises StoreError (it cannot be reached), ConfigError (it does not take our credentials, TLS settings).
        """
        if self.is_open:
            return
        self._connection = self._made()
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(self._connect_s):
                await self._connection.connect()
        except TimeoutError:
            await self.close()
            raise StoreError(f"{self.address.label} did not answer within {self._connect_s:g} s; is it up?") from None
        except (RedisError, OSError, EOFError) as error:
            await self.close()
            raise self._no_entry(error) from None
        except BaseException:
            await self.close()
            raise

    def _made(self) -> Any:
        """Return a connection that is not open yet; any, since the library is typed in part only."""
        try:
            from redis.asyncio.connection import ConnectionPool
        except ImportError:
            raise ConfigError("a redis store needs the redis package: pip install 'laneway[redis]'") from None
        try:
            pool: Any = ConnectionPool.from_url(
                self.address.url, protocol=2, socket_timeout=None, socket_connect_timeout=self._connect_s
            )
            return pool.make_connection()
        except (TypeError, ValueError, OSError) as error:
            raise ConfigError(f"store.url: {self.address.scrub(str(error))}") from None

    def _no_entry(self, error: Exception) -> StoreError | ConfigError:
        """Return why there is no connection, for a person."""
        where, code = self.address.label, _code_of(error)
        text = self.address.scrub(" ".join(str(error).split()))
        if code in ("WRONGPASS", "NOPERM", "NOAUTH"):
            return ConfigError(f"{where} does not take these credentials ({code}); mend user and password in store.url")
        if code == "LOADING":
            return StoreError(f"{where} still loads its data from disk; it will answer when it is done")
        if "Invalid Database" in text or "DB index" in text:
            return ConfigError(f"{where} has no database of that number; name another one at the end of store.url")
        if isinstance(error.__context__, ssl.SSLError | FileNotFoundError):
            return ConfigError(f"{where}: TLS failed: {text}; name its roots with ?ssl_ca_certs=FILE in store.url")
        return StoreError(f"{where} cannot be reached: {text}; start the server or mend store.url")

    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands in one write and return their replies; one that was refused stands as a `Refused`.

        Raises Broken, and StoreError if not all replies came in time.
        """
        from redis.exceptions import RedisError

        connection = self._connection
        if not self.is_open:  # the library would connect by itself, unseen
            raise Broken("there is no connection")
        try:
            async with asyncio.timeout(self._answer_s):
                await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                return [await self._reply(connection) for _ in commands]
        except TimeoutError:
            await self.close()
            raise StoreError(
                f"{self.address.label} gave no answer in {self._answer_s:g} s; whether it was written is unknown"
            ) from None
        except (RedisError, OSError, EOFError) as error:
            await self.close()
            raise Broken(self.address.scrub(" ".join(str(error).split()))) from None
        except BaseException:
            await self.close()
            raise

    async def _reply(self, connection: Any) -> Any:
        from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

        try:
            return await connection.read_response(disconnect_on_error=False)  # an error is an answer
        except (ResponseError, AuthenticationError, BusyLoadingError) as error:
            return Refused(_code_of(error), self.address.scrub(str(error)))

    async def close(self) -> None:
        """Close the connection; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            from redis.exceptions import RedisError

            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect()


def _code_of(error: Exception) -> str:
    """Return the code of an answer that is an error."""
    first = str(error).partition(" ")[0]
    return _CODES.get(type(error).__name__) or (first if first.isupper() else "ERR")
