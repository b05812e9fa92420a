"""Opening the file: modes, foreign files, and epochs after a reboot."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from laneway.engine.stores.schema import boot_id, connect, renew_epochs
from laneway.routing.errors import StoreError


def opened(path: Path, sync: str = "full") -> sqlite3.Connection:
    return connect(path, sync=sync, busy_s=0.1, factory=sqlite3.Connection)


@pytest.mark.parametrize(("sync", "level"), [("full", 2), ("normal", 1)])
def test_modes(tmp_path: Path, sync: str, level: int) -> None:
    """WAL always; synchronous as asked; a cache that is soon full."""
    db = opened(tmp_path / "s.db", sync)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (level,)
    assert db.execute("PRAGMA cache_size").fetchone() == (-512,)
    db.close()


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    """A file written by a newer laneway is not touched."""
    db = opened(tmp_path / "s.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="version 1"):
        opened(tmp_path / "s.db")


@pytest.mark.parametrize(
    ("opens", "renewals"),
    [
        ([("full", "a"), ("full", "b"), ("full", "")], [False, False, False]),
        ([("normal", "a"), ("normal", "a"), ("normal", "b")], [False, False, True]),
        ([("normal", "a"), ("full", "a"), ("full", "b"), ("full", "c")], [False, False, True, False]),
        ([("normal", ""), ("normal", "")], [False, True]),
    ],
)
def test_epochs_are_renewed_only_when_commits_may_be_lost(
    tmp_path: Path, opens: list[tuple[str, str]], renewals: list[bool]
) -> None:
    """A reboot after unsynced commits renews them once, whichever mode comes next."""
    db = opened(tmp_path / "s.db")
    db.execute("INSERT INTO logs (key, generation, epoch) VALUES ('k', 1, 'first')")
    seen = []
    for sync, boot in opens:
        before = db.execute("SELECT epoch FROM logs").fetchone()
        seen.append(renew_epochs(db, sync=sync, boot=boot))
        assert (db.execute("SELECT epoch FROM logs").fetchone() != before) is seen[-1]
    assert seen == renewals
    db.close()


def test_the_boot_has_a_name_here() -> None:
    """On Linux the kernel names each boot; elsewhere the name is empty."""
    assert boot_id() == boot_id()
    assert bool(boot_id()) == Path("/proc/sys/kernel/random/boot_id").exists()
