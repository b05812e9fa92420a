"""Connecting to Ray; a Ray that is started here is in test_ray_cluster.py."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from laneway.engine.runtime.ray_connection import RayConnection
from laneway.routing.errors import ConfigError


def test_the_address_of_a_ray_client_is_refused() -> None:
    """It cannot carry hosts; the fix is named."""
    with pytest.raises(ConfigError, match="HOST:PORT of the head"):
        asyncio.run(RayConnection("ray://127.0.0.1:10001").open("laneway/x"))


def test_an_address_without_a_port_is_refused_before_ray_is_loaded() -> None:
    """With how one looks."""
    with pytest.raises(ConfigError, match=r"'10\.0\.0\.1' has no port; give HOST:PORT"):
        asyncio.run(RayConnection("10.0.0.1").open("laneway/test"))


def test_a_ray_that_does_not_start_is_told_in_a_sentence(tmp_path: Path) -> None:
    """With Ray's own cause, here a directory with too long a name for its sockets."""
    code = (
        "import asyncio\n"
        "from laneway.engine.runtime.ray_connection import RayConnection\n"
        "from laneway.routing.errors import RuntimeUnavailable\n"
        "try:\n"
        "    asyncio.run(RayConnection('local').open('laneway/test'))\n"
        "except RuntimeUnavailable as error:\n"
        "    print(error)\n"
    )
    environ = {**os.environ, "RAY_TMPDIR": str(tmp_path / ("long" * 30))}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environ, check=True, timeout=60, capture_output=True, text=True
    )
    assert "RUNTIME_UNAVAILABLE/NO_LOCAL_RAY: Ray could not be started on this machine: " in ended.stdout
    assert "107 bytes" in ended.stdout


def test_closing_what_was_never_opened_is_nothing() -> None:
    """And needs no Ray."""
    asyncio.run(RayConnection("").close())


def test_an_engine_without_ray_does_not_load_it() -> None:
    """The modules of this runtime are light until they are used."""
    code = "import sys, laneway.engine.runtime.ray_cluster, laneway.engine.cli.cluster; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_rays_own_messages_stay_out_of_our_output() -> None:
    """A command's stdout is the command's: what the raylet says is in its own log."""
    code = (
        "from laneway.engine.runtime.ray_connection import _environment\n"
        "with _environment():\n"
        "    import ray\n"
        "from ray._private.worker import print_to_stdstream\n"
        "print_to_stdstream({'lines': ['A worker died'], 'pid': 'raylet', 'is_err': False}, ignore_prefix=False)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert ended.stdout == ""
