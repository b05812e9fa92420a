"""How the suite is spread over processes (`pytest -n 3`): whole modules, and one real Ray at a time.

Law of this file: a module's tests run in one process, in their order, so that what they share is started once.
What needs a real Ray (the fixture `ray_address`, or the mark `ray`) runs in one process too, whichever its module:
Ray is ten processes, and two of them side by side starve each other. What takes long begins first, so that no
process is left with it at the end. Without `-n` only the order changes: Ray comes first. And no property is judged
by the time an example takes: on a busy machine any may take long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadGroupScheduling

__all__ = ["pytest_collection_modifyitems", "pytest_xdist_make_scheduler"]

_RAY = "ray"

settings.register_profile("untimed", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Ray, and put it and the modules with slow tests first."""
    for item in items:
        if "ray_address" in getattr(item, "fixturenames", ()):
            item.add_marker(_RAY)
        if item.get_closest_marker(_RAY):
            item.add_marker(pytest.mark.xdist_group(_RAY))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not item.get_closest_marker(_RAY), item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadGroupScheduling:
    """Give out groups, and where there is none modules."""
    from xdist.scheduler import LoadGroupScheduling

    class Modules(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return super()._split_scope(nodeid).partition("::")[0]

    return Modules(config, log)
