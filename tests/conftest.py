"""How the suite is spread over processes (`pytest -n 3`): whole modules, and one real Ray at a time.

Law of this file: a module's tests run in one process, in their order, so that what they share is started once.
Modules that need a real Ray (they name the fixture `ray_address` or the mark `ray`) all run in the same process:
Ray is ten processes, and two of them side by side starve each other. What takes long begins first, so that no
process is left with it at the end. Without `-n` only the order changes: Ray comes first. And nothing is judged by
the time it takes: on a busy machine any example of a property may take long, and a Ray minutes to come up.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

__all__ = ["pytest_collection_modifyitems", "pytest_itemcollected", "pytest_xdist_make_scheduler"]

_RAY = re.compile(r"\bray_address\b|\bmark\.ray\b")
_RAY_TIMEOUT_S = 300
"""For a test that needs a Ray, with the start of that Ray in it: on a machine of load 20 it takes a minute alone."""

# Ray starts its programs by fork: with gRPC's own fork handlers one ends before it is a program, now and then.
# Read when gRPC is imported, which is later.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

settings.register_profile("untimed", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@cache
def _needs_ray(module: Path) -> bool:
    """By its text: who gives out the work has collected no test."""
    return _RAY.search(module.read_text(encoding="utf-8")) is not None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Who asks for a Ray has its mark; who has its mark has the time."""
    if "ray_address" in getattr(item, "fixturenames", ()):
        item.add_marker("ray")
    if item.get_closest_marker("ray") and not item.get_closest_marker("timeout"):
        item.add_marker(pytest.mark.timeout(_RAY_TIMEOUT_S))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what needs Ray, and go on with the modules that have slow tests."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not _needs_ray(item.path), item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Give out modules, in the order above."""
    from xdist.scheduler import LoadScopeScheduling

    class Modules(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return "ray" if _needs_ray(config.rootpath / module) else module

    config.option.loadscopereorder = False
    return Modules(config, log)
