"""Values put in one turn: each one's answer as if it had been put alone, and everything in order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.actors.ports import Entry
from laneway.engine.stores.sqlite import SqliteStore
from laneway.engine.stores.writer import Writer
from laneway.routing.errors import StoreError

PUTS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.binary(max_size=3), st.sampled_from([None, 0, 1, 2, 3, 5, 9])), max_size=90
)


class _Time:
    at = 1_000.0

    def __call__(self) -> float:
        return self.at


async def _opened(path: str | Path, unix: _Time | None = None) -> SqliteStore:
    store = SqliteStore(path, sync="normal", unix=unix or _Time())
    await store.open()
    return store


@settings(max_examples=25, deadline=None)
@given(PUTS, st.integers(1, 90))
def test_together_is_one_after_the_other(tmp_path_factory: pytest.TempPathFactory, puts: list, at_once: int) -> None:
    """Versions, refusals and values are those of puts that wait for each other."""

    async def main() -> None:
        folder = tmp_path_factory.mktemp("puts")
        alone, together = await _opened(folder / "alone.db"), await _opened(folder / "together.db")
        one_by_one = [await alone.put(key, value, version=version) for key, value, version in puts]
        at = 0
        given_back: list[int] = []
        while at < len(puts):
            some = [together.put(key, value, version=version) for key, value, version in puts[at : at + at_once]]
            given_back += await asyncio.gather(*some)
            at += at_once
        assert given_back == one_by_one
        for key in "abcd":
            assert await alone.get(key) == await together.get(key)
        await alone.close()
        await together.close()

    asyncio.run(main())


def test_a_turns_puts_are_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four at most, and before what else the store is asked afterwards."""
    jobs: list[int] = []
    submit = Writer.submit

    def counted(self: Writer, call: object, size_bytes: int = 0) -> object:
        jobs.append(size_bytes)
        return submit(self, call, size_bytes)  # type: ignore[arg-type]

    async def main() -> None:
        store = await _opened(tmp_path / "s.db")
        claim = await store.claim("log")
        monkeypatch.setattr(Writer, "submit", counted)
        puts = [asyncio.ensure_future(store.put(f"k{n}", b"v")) for n in range(100)]
        await asyncio.sleep(0)
        read = await store.get("k99")
        assert (read.value, len(jobs)) == (b"v", 3)
        assert sorted(await asyncio.gather(*puts)) == list(range(1, 101))
        put = asyncio.ensure_future(store.put("k", b"seven b"))
        append = asyncio.ensure_future(store.append(claim, [Entry(1, 1, 1, b"x")]))
        await asyncio.gather(put, append)
        assert jobs[-2:] == [7 + 64, 1 + 64]
        await store.close()

    asyncio.run(main())


def test_a_value_ends_and_is_swept(tmp_path: Path) -> None:
    """One that has ended is none: it may be put anew, under a version never used before."""

    async def main() -> None:
        unix = _Time()
        store = await _opened(tmp_path / "s.db", unix)
        first = await asyncio.gather(*[store.put(f"k{n}", b"v", version=0, ttl_s=10) for n in range(30)])
        unix.at += 11
        again = await asyncio.gather(*[store.put(f"k{n}", b"w", version=0, ttl_s=10) for n in range(30)])
        assert min(again) > max(first)
        assert await store.put("k3", b"x", version=first[3]) == 0
        assert (await store.get("k3")).value == b"w"
        await store.close()

    asyncio.run(main())


def test_who_went_away_takes_nobody_along(tmp_path: Path) -> None:
    """A cancelled put may be written or not; its neighbours are told."""

    async def main() -> None:
        store = await _opened(tmp_path / "s.db")
        puts = [asyncio.ensure_future(store.put(f"k{n}", b"v")) for n in range(3)]
        await asyncio.sleep(0)
        puts[1].cancel()
        assert [type(told) for told in await asyncio.gather(*puts, return_exceptions=True)] == [
            int, asyncio.CancelledError, int,
        ]  # fmt: skip
        await store.close()
        with pytest.raises(StoreError, match="not open"):
            await store.put("late", b"v")

    asyncio.run(main())
