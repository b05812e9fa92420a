"""Stores and models by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from laneway.engine.app.choices import choose_model, choose_store
from laneway.engine.config import Config
from laneway.engine.models.local_llm import LocalLlm
from laneway.engine.models.openai import OpenAIModel
from laneway.engine.models.scripted import ScriptedModel
from laneway.engine.models.synthetic import SyntheticModel
from laneway.engine.stores.memory import MemoryStore
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.errors import ConfigError


def test_stores(tmp_path: Path) -> None:
    """What is given wins over what is configured; a path is sqlite."""
    path = tmp_path / "a.db"
    configured = Config.model_validate({"store": {"url": f"sqlite:{path}"}})
    assert isinstance(choose_store(Config()), MemoryStore)
    assert isinstance(choose_store(Config(), path), SqliteStore)
    assert isinstance(choose_store(configured), SqliteStore)
    assert isinstance(choose_store(configured, "memory"), MemoryStore)
    own = MemoryStore()
    assert choose_store(configured, own) is own


@pytest.mark.parametrize("url", ["redis://host", "postgresql://host/db"])
def test_a_store_of_a_later_version_is_refused(url: str) -> None:
    """Instead of making a file of that name."""
    with pytest.raises(ConfigError, match="there is no"):
        choose_store(Config(), url)


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
