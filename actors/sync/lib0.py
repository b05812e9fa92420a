"""lib0, the byte encoding under Yjs: varints, length-prefixed bytes and text; read within bounds.

Law of this file: nothing is allocated or looped over by a length the sender merely claims; every
count is held against the bytes that are left. Only PeerProtocolError comes out.

Source: github.com/dmonad/lib0, encoding.js and decoding.js (little-endian base 128, sign in bit 6).
"""

from __future__ import annotations

from typing import Final, NoReturn

from laneway.routing.errors import PeerProtocolError

__all__ = ["MAX_VARUINT", "Reader", "refuse", "var_bytes", "varuint"]

MAX_VARUINT: Final = 2**53 - 1
"""JavaScript's largest safe integer; lib0 itself refuses more."""


def refuse(reason: str, message: str) -> NoReturn:
    """Raise PeerProtocolError with this reason."""
    raise PeerProtocolError(message, reason=reason)


def varuint(number: int) -> bytes:
    """Encode 0 <= number <= MAX_VARUINT."""
    out = bytearray()
    while number > 127:
        out.append(128 | (number & 127))
        number >>= 7
    out.append(number)
    return bytes(out)


def var_bytes(data: bytes) -> bytes:
    """Encode bytes (or UTF-8 text) with their length before them."""
    return varuint(len(data)) + data


class Reader:
    """Reads one buffer from front to back. Every method raises PeerProtocolError on bad input."""

    __slots__ = ("at", "data", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.size = len(data)

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.size - self.at

    def byte(self) -> int:
        """Read one byte."""
        at = self.at
        if at >= self.size:
            refuse("TRUNCATED", "the message ends inside a value")
        self.at = at + 1
        return self.data[at]

    def varuint(self) -> int:
        """Read an unsigned varint of at most 53 bits."""
        at, data, size = self.at, self.data, self.size
        if at < size and data[at] < 128:
            self.at = at + 1
            return data[at]
        number = shift = 0
        while at < size:
            byte = data[at]
            at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                if number > MAX_VARUINT:
                    break
                self.at = at
                return number
            shift += 7
            if shift > 53:
                break
        else:
            refuse("TRUNCATED", "the message ends inside a number")
        refuse("NUMBER_RANGE", "a length, clock or id is over 2^53-1")

    def skip_varint(self) -> None:
        """Step over a signed varint."""
        for _ in range(10):
            if self.byte() < 128:
                return
        refuse("NUMBER_RANGE", "a number is longer than 64 bits")

    def count(self, least_bytes: int = 1) -> int:
        """Read how many entries follow, each of at least `least_bytes` bytes."""
        number = self.varuint()
        if number * least_bytes > self.size - self.at:
            refuse("TRUNCATED", f"{number} entries announced, {self.size - self.at} bytes left")
        return number

    def skip(self, size: int) -> None:
        """Step over `size` bytes."""
        if size > self.size - self.at:
            refuse("TRUNCATED", f"{size} bytes announced, {self.size - self.at} left")
        self.at += size

    def bytes(self) -> bytes:
        """Read length-prefixed bytes."""
        size = self.varuint()
        start = self.at
        self.skip(size)
        return self.data[start : self.at]

    def text(self) -> str:
        """Read length-prefixed UTF-8."""
        try:
            return self.bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise PeerProtocolError(f"a text is not UTF-8: {error.reason}", reason="BAD_UTF8") from None

    def end(self) -> None:
        """Refuse what follows."""
        if self.at != self.size:
            refuse("TRAILING_BYTES", f"{self.size - self.at} bytes follow the message")
