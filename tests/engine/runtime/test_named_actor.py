"""Waiting for a call to an actor; finding actors is in test_ray_cluster.py."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable

import pytest
from ray.exceptions import ActorDiedError, RayError

from laneway.engine.runtime.named_actor import ABSENT, ATTEMPTS, NamedActor, _answer
from laneway.routing.errors import RuntimeUnavailable


class Reference:
    """Stands for an ObjectRef: what its `future` gives."""

    def __init__(self) -> None:
        self.theirs: concurrent.futures.Future[object] = concurrent.futures.Future()

    def future(self) -> concurrent.futures.Future[object]:
        return self.theirs


def test_an_answer_and_an_error_come_as_they_are() -> None:
    """From whatever thread."""

    async def main() -> None:
        good, bad = Reference(), Reference()
        waits = [asyncio.ensure_future(_answer(reference)) for reference in (good, bad)]
        await asyncio.sleep(0)
        await asyncio.to_thread(good.theirs.set_result, 7)
        await asyncio.to_thread(bad.theirs.set_exception, ValueError("no"))
        assert await waits[0] == 7
        with pytest.raises(ValueError, match="no"):
            await waits[1]

    asyncio.run(main())


def test_who_stops_waiting_leaves_the_call_alone() -> None:
    """Its answer may still come, also after the loop is closed."""
    late, later = Reference(), Reference()

    async def main() -> None:
        for reference in (late, later):
            wait = asyncio.ensure_future(_answer(reference))
            await asyncio.sleep(0)
            wait.cancel()
            await asyncio.wait({wait})
            assert not reference.theirs.cancelled()
        late.theirs.set_result(1)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    later.theirs.set_result(1)


class Failing:
    """Stands for a handle: its calls fail with these errors, and then succeed."""

    def __init__(self, *errors: RayError) -> None:
        self._errors = list(errors)
        self.calls = 0

    @property
    def admit(self) -> Failing:
        return self

    def remote(self) -> Reference:
        self.calls += 1
        reference = Reference()
        if self._errors:
            reference.theirs.set_exception(self._errors.pop(0))
        else:
            reference.theirs.set_result("in")
        return reference


async def ask(handle: Failing, attempts: int) -> object:
    actor = NamedActor("registry", "laneway/test")
    actor.adopt(handle)
    return await actor.call("admit", timeout_s=10.0, attempts=attempts)


def test_what_may_be_asked_twice_outlives_a_crash_under_way() -> None:
    """It is asked again a few times, and then told; what is asked once is told at once."""

    async def main() -> None:
        handle = Failing(RayError("down"), RayError("still down"))
        assert await ask(handle, ATTEMPTS) == "in"
        assert handle.calls == 3
        for attempts in (1, 2):
            handle = Failing(RayError("down"), RayError("still down"))
            with pytest.raises(RuntimeUnavailable, match="down"):
                await ask(handle, attempts)
            assert handle.calls == attempts

    asyncio.run(main())


def test_an_actor_that_was_ended_is_not_asked_again() -> None:
    """Waiting would not bring it back."""

    async def main() -> None:
        handle = Failing(ActorDiedError())
        with pytest.raises(RuntimeUnavailable) as told:
            await ask(handle, ATTEMPTS)
        assert told.value.reason == "ENDED"
        assert handle.calls == 1

    asyncio.run(main())


class Held(NamedActor):
    """One whose killing and finding fail, or hang until they are let go."""

    def __init__(self, finding: Callable[[], object]) -> None:
        super().__init__("held", "laneway/held")
        self._finding = finding
        self.adopt(object())

    def _find(self) -> object:
        return self._finding()

    def _kill(self, handle: object) -> None:
        raise RuntimeUnavailable("no connection")


def test_ending_an_actor_takes_bounded_time_and_no_answer_is_not_taken_for_its_end() -> None:
    """Ray may hang, or know nothing at the moment: neither means that the name is free."""
    let_go = threading.Event()

    def knows_nothing() -> object:
        raise RuntimeUnavailable("the cluster is away")

    def is_gone() -> object:
        raise RuntimeUnavailable("nobody has the name", reason=ABSENT)

    async def main() -> None:
        with pytest.raises(RuntimeUnavailable) as late:
            await Held(let_go.wait).end(within_s=0.05)
        assert late.value.reason == "TIMEOUT"
        let_go.set()
        with pytest.raises(RuntimeUnavailable, match="is away"):
            await Held(knows_nothing).end(within_s=5.0)
        await Held(is_gone).end(within_s=5.0)

    asyncio.run(main())
