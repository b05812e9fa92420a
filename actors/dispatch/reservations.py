"""Who was let in and has not come in yet: whole frames, and single events.

Law of this file: each reservation ends once, when its event comes in or is given back. A frame comes in as
it was let in, or falls into single events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from laneway.routing.envelope import Envelope, Key, key_of
from laneway.routing.frame import Frame

__all__ = ["Reservations"]


class Reservations:
    """The reservations of one door. Calls with a frame O(1), or O(events) at some 5 ns each.

    Attributes:
        single: key -> event, of those that were let in by themselves, or whose frame fell apart.
        frames: key of the first event -> frame.
    """

    __slots__ = ("frames", "single")

    def __init__(self) -> None:
        self.single: dict[Key, Envelope] = {}
        self.frames: dict[Key, Frame] = {}

    def __len__(self) -> int:
        return len(self.single) + sum(map(len, self.frames.values()))

    def __iter__(self) -> Iterator[Envelope]:
        for frame in self.frames.values():
            yield from frame
        yield from self.single.values()

    def hold(self, frame: Frame) -> None:
        """A frame was let in. Its events must have no reservation."""
        self.frames[key_of(frame[0])] = frame

    def whole(self, envs: Sequence[Envelope]) -> Frame | None:
        """End the reservation of a frame and return it, if these are its events, all and in order."""
        if not envs:
            return None
        key = key_of(envs[0])
        frame = self.frames.get(key)
        if frame is None or frame != envs:
            return None
        return self.frames.pop(key)

    def end(self, key: Key) -> Envelope | None:
        """End one event's reservation; returns the event, or None if there is none."""
        if key not in self.single and self.frames:
            self._break(key)
        return self.single.pop(key, None)

    def _break(self, key: Key) -> None:
        """Let the frame that this event is of fall into single events."""
        frame = self._frame_with(key)
        if frame is not None:
            del self.frames[key_of(frame[0])]
            self.single.update((key_of(env), env) for env in frame)

    def _frame_with(self, key: Key) -> Frame | None:
        for frame in self.frames.values():
            if (frame.tenant, frame.session, frame.producer) == key[:3] and key[3] in frame.counters:
                return frame
        return None
