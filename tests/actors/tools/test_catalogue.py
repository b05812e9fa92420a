"""Names and rights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from laneway.actors.ports import Context, Principal, ToolSpec
from laneway.actors.tools.catalogue import Catalogue, may_call
from laneway.routing.errors import ConfigError, ToolDenied, UnknownTool


class Tool:
    def __init__(self, name: str, *scopes: str) -> None:
        self.spec = ToolSpec(name, "", {}, scopes=frozenset(scopes))

    async def invoke(self, arguments: Mapping[str, Any], context: Context) -> str:
        return "null"


def who(*scopes: str) -> Principal:
    return Principal("ann", scopes=frozenset(scopes))


@pytest.mark.parametrize(
    ("scopes", "asked", "allowed"),
    [
        ((), (), True),
        (("tool:time",), (), True),
        (("tool:*",), (), True),
        (("tool:other",), (), False),
        (("chat",), ("pay",), False),
        (("pay",), ("pay",), True),
        (("tool:*",), ("pay",), False),
        (("tool:time", "pay"), ("pay",), True),
        (("admin",), ("pay",), True),
    ],
)
def test_who_may_call(scopes: tuple[str, ...], asked: tuple[str, ...], allowed: bool) -> None:
    """All scopes the tool asks for, and the name on the allow-list if the principal has one."""
    assert may_call(who(*scopes), Tool("time", *asked).spec) is allowed


def test_unknown_and_forbidden_are_told_apart() -> None:
    """TOOL_UNKNOWN and TOOL_DENIED; the list shows only what may be called, sorted."""
    catalogue = Catalogue()
    catalogue.add(Tool("zebra"))
    catalogue.add(Tool("pay", "money"))
    with pytest.raises(UnknownTool):
        catalogue.find("nothing", who())
    with pytest.raises(ToolDenied):
        catalogue.find("pay", who())
    assert [spec.name for spec in catalogue.specs(who("money"))] == ["pay", "zebra"]
    assert [spec.name for spec in catalogue.specs(who())] == ["zebra"]


def test_a_source_is_replaced_whole_or_not_at_all() -> None:
    """A reconnected server's tools take the place of its old ones; a clash changes nothing."""
    catalogue = Catalogue()
    catalogue.add(Tool("mine"))
    catalogue.replace("server", [Tool("a"), Tool("b")])
    catalogue.replace("server", [Tool("b"), Tool("c")])
    assert sorted(tool.spec.name for tool in catalogue) == ["b", "c", "mine"]
    with pytest.raises(ConfigError):
        catalogue.replace("server", [Tool("d"), Tool("mine")])
    assert sorted(tool.spec.name for tool in catalogue) == ["b", "c", "mine"]


def test_a_name_is_taken_once() -> None:
    """Two tools of one name, empty and overlong names are ConfigError; a removed name is free again."""
    catalogue = Catalogue()
    catalogue.add(Tool("a"))
    for name in ("a", "", "x" * 129):
        with pytest.raises(ConfigError):
            catalogue.add(Tool(name))
    catalogue.remove("a")
    catalogue.add(Tool("a"))
    with pytest.raises(UnknownTool):
        catalogue.remove("b")
