"""Breaking a connection between two other processes, as a network does.

Law of this file: nothing is configured and nothing stays: a copy of the socket is taken out of its process,
shut down in both directions, and closed.
"""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path
from typing import Final

__all__ = ["cut"]

_PIDFD_GETFD: Final = 438
_ESTABLISHED: Final = "01"


def cut(pid: int, port: int) -> int:
    """Break every TCP connection of process `pid` to `port`; returns how many."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _ESTABLISHED and int(fields[2].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held = os.readlink(entry)
        except FileNotFoundError:  # closed meanwhile
            continue
        if held in inodes:
            _shut(pid, int(entry.name))
            count += 1
    return count


def _shut(pid: int, number: int) -> None:
    process = os.pidfd_open(pid)
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, process, number, 0)
        if copy < 0:
            raise OSError(ctypes.get_errno(), f"no copy of descriptor {number} of process {pid}")
        with socket.socket(fileno=copy) as connection:
            connection.shutdown(socket.SHUT_RDWR)
    finally:
        os.close(process)
