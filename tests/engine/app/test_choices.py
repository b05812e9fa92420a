"""Stores and models by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from laneway.engine.app.choices import as_model, choose_model, choose_runtime, choose_store, first_number
from laneway.engine.config import Config
from laneway.engine.models.agui import AgUiModel
from laneway.engine.models.local_llm import LocalLlm
from laneway.engine.models.openai import OpenAIModel
from laneway.engine.models.scripted import ScriptedModel
from laneway.engine.models.synthetic import SyntheticModel
from laneway.engine.settings import DEFAULTS
from laneway.engine.stores.memory import MemoryStore
from laneway.engine.stores.redis import RedisStore
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.errors import ConfigError
from tests.engine.app import shop

SHOP = shop.__name__


def test_stores(tmp_path: Path) -> None:
    """What is given wins over what is configured; a path is sqlite."""
    path = tmp_path / "a.db"
    configured = Config.model_validate({"store": {"url": f"sqlite:{path}"}})
    assert isinstance(choose_store(Config()), MemoryStore)
    assert isinstance(choose_store(Config(), path), SqliteStore)
    assert isinstance(choose_store(configured), SqliteStore)
    assert isinstance(choose_store(configured, "memory"), MemoryStore)
    assert isinstance(choose_store(configured, "redis://127.0.0.1:1/2"), RedisStore)
    assert isinstance(choose_store(configured, "rediss://user:word@host"), RedisStore)
    own = MemoryStore()
    assert choose_store(configured, own) is own


@pytest.mark.parametrize("url", ["postgres://host/db", "postgresql://host/db"])
def test_a_store_of_a_later_version_is_refused(url: str) -> None:
    """Instead of making a file of that name."""
    with pytest.raises(ConfigError, match="there is no"):
        choose_store(Config(), url)


def test_a_bad_address_is_refused_without_being_told() -> None:
    """What is wrong is said, the password is not."""
    with pytest.raises(ConfigError, match=r"store\.url") as refused:
        choose_store(Config(), "redis://user:secret/word@host")
    assert "secret" not in str(refused.value)


def test_which_stores_hosts_may_share() -> None:
    """Only one that is a server of its own."""
    assert choose_store(Config(), "redis://127.0.0.1").shared
    assert not choose_store(Config(), "memory").shared
    assert not choose_store(Config(), "some.db").shared


def test_models() -> None:
    """The names of the command line."""
    assert isinstance(choose_model("synthetic"), SyntheticModel)
    assert isinstance(choose_model("scripted"), ScriptedModel)
    assert isinstance(choose_model("local-llm"), LocalLlm)
    model = choose_model("openai:http://127.0.0.1:9/v1#small")
    assert isinstance(model, OpenAIModel)
    assert model.endpoint.url == "http://127.0.0.1:9/v1"


@pytest.mark.parametrize("name", ["", "gpt", "synthetic:x", "openai:"])
def test_an_unknown_model_lists_the_known_ones(name: str) -> None:
    """The message is enough to mend the command."""
    with pytest.raises(ConfigError, match="local-llm"):
        choose_model(name)


def test_models_of_ones_own() -> None:
    """A path leads to a model, an agent, or to a class or function that makes one, each time anew."""
    assert choose_model(f"{SHOP}:model") is shop.model
    assert isinstance(choose_model(f"{SHOP}:agent"), AgUiModel)
    assert isinstance(choose_model(f"{SHOP}:Clerk"), shop.Clerk)
    assert choose_model(f"{SHOP}:make_model") is not choose_model(f"{SHOP}:make_model")
    assert as_model(shop.model) is shop.model


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent", "no absent"),
        ("Stranger", "no model"),
        ("SHELF", "no model"),
        ("failing", "it raised RuntimeError: out of stock"),
        ("Clerk.absent", "no Clerk.absent"),
    ],
)
def test_what_is_no_model_is_named(name: str, says: str) -> None:
    """With its path, and what is wrong."""
    with pytest.raises(ConfigError, match=says) as refused:
        choose_model(f"{SHOP}:{name}")
    assert f"{SHOP}:{name}" in refused.value.message


def test_the_runtime_of_an_argument_wins() -> None:
    """None and the same one change nothing, another one everything else leaves as it is; no third one."""
    config = Config.model_validate({"runtime": {"cluster": "blue"}})
    assert choose_runtime(config, None) is config
    assert choose_runtime(DEFAULTS, "local") is DEFAULTS
    chosen = choose_runtime(config, "ray").runtime
    assert (chosen.kind, chosen.cluster) == ("ray", "blue")
    assert choose_runtime(DEFAULTS, "ray").runtime.kind == "ray"
    with pytest.raises(ConfigError, match="use local or ray"):
        choose_runtime(config, "spark")


def test_fronts_number_their_own_events_apart() -> None:
    """A session that comes from another front has events of that one: ids are not given twice; alone it begins at 1."""
    others: Any = object()
    assert first_number(None) == 1
    assert len({first_number(others) for _ in range(20)}) == 20
    assert all(1 <= first_number(others) <= 2**40 for _ in range(20))
