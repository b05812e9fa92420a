"""Outside programs that tests drive for real: promtool, curl, node, chromium.

Law of this file: a missing program skips the test with what to install; where the environment
variable CI is set nothing may be missing, and the test fails.
"""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["require"]


def require(program: str, *, package: str) -> str:
    """Return the path of `program`; without it the test is skipped, or fails where CI is set.

    Args:
        package: the Debian package that has it.
    """
    path = shutil.which(program)
    if path is not None:
        return path
    why = f"{program} is not installed; on Debian: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(f"{why} (CI is set, and there every test runs)")
    pytest.skip(why)
