"""What a worker process gives up before it runs anybody's code.

Law of this file: standard library only, no import of ours (the launcher loads it by path), and every
layer is optional but reported: resource limits (POSIX), Landlock (writes only below one directory,
Linux 5.13), seccomp (no new processes, no signals to others), and, where the kernel offers neither, a Python
audit hook that does the same for Python code but not for native code. Numbers are from the kernel's
UAPI headers (landlock.h, seccomp.h, audit.h, unistd_64.h).

This stops accidents and ordinary misuse. It is not a boundary against code written to break out:
reading files and, unless forbidden, the network stay open. Such code belongs in a container.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Any

__all__ = ["confine"]

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_SIGKILL = 9
# LANDLOCK_ACCESS_FS_*: write_file, remove_*, make_*; refer from ABI 2, truncate from ABI 3
_WRITES, _REFER, _TRUNCATE = 0x1FF2, 1 << 13, 1 << 14
_WRITE_FILE = 1 << 1
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_CLONE_THREAD = 0x00010000
_SYSCALLS: dict[str, dict[str, Any]] = {
    "x86_64": {
        "arch": 0xC000003E,
        "again": (57, 58),  # fork, vfork
        "clone": 56,
        "own": (62, 234),  # kill, tgkill: only to oneself
        # execve, execveat, setsid, setpgid, ptrace, tkill, rt_sigqueueinfo, process_vm_writev, pidfd_send_signal
        "never": (59, 322, 112, 109, 101, 200, 129, 311, 424),
        "socket": 41,
    },
    "aarch64": {
        "arch": 0xC00000B7,
        "again": (),
        "clone": 220,
        "own": (129, 131),
        "never": (221, 281, 157, 154, 117, 130, 138, 271, 424),
        "socket": 198,
    },
}
_CLONE3 = 435


def confine(scratch: str, limits: dict[str, Any]) -> list[str]:
    """Give up what the limits say, for good; return the names of the layers that are in force.

    Args:
        scratch: the only directory below which files may be written.
        limits: memory_bytes, file_bytes, open_files, processes (bool), network (bool).
    """
    layers = _limit_resources(limits)
    linux = sys.platform == "linux"
    if linux:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if _landlock(libc, scratch):
            layers.append("landlock")
        if not limits["processes"] and _seccomp(libc, network=bool(limits["network"])):
            layers.append("seccomp")
    if "landlock" not in layers or ("seccomp" not in layers and not limits["processes"]):
        _audit(scratch, processes=bool(limits["processes"]))
        layers.append("audit")
    return layers


def _limit_resources(limits: dict[str, Any]) -> list[str]:
    try:
        import resource
    except ImportError:  # not POSIX
        return []
    for which, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS refuses RLIMIT_AS
            resource.setrlimit(which, (value, value))
    return ["rlimit"]


def _landlock(libc: Any, scratch: str) -> bool:
    abi = libc.syscall(_SYS_LANDLOCK_CREATE, None, 0, 1)
    if abi < 1:
        return False
    handled = _WRITES | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0)
    ruleset = libc.syscall(_SYS_LANDLOCK_CREATE, struct.pack("=Q", handled), 8, 0)
    if ruleset < 0:
        return False
    try:
        file_only = _WRITE_FILE | (_TRUNCATE if abi >= 3 else 0)
        for path, allowed in ((scratch, handled), (os.devnull, file_only)):
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                if libc.syscall(_SYS_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", allowed, opened), 0) != 0:
                    return False
            finally:
                os.close(opened)
        return bool(libc.syscall(_SYS_LANDLOCK_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _filter(table: dict[str, Any], pid: int, *, network: bool) -> bytes:
    def refuse(number: int, error: int) -> bytes:
        return _instruction(_JEQ, number, 0, 1) + _instruction(_RET, _ERRNO | error)

    def first_argument(number: int, test: int, value: int, error: int) -> bytes:
        return (
            _instruction(_JEQ, number, 0, 4)
            + _instruction(_LD, 16)  # low half of the first argument, little endian
            + _instruction(test, value, 1, 0)
            + _instruction(_RET, _ERRNO | error)
            + _instruction(_RET, _ALLOW)
        )

    rules = _instruction(_LD, 4) + _instruction(_JEQ, table["arch"], 1, 0) + _instruction(_RET, _KILL)
    rules += _instruction(_LD, 0) + _instruction(_JGE, 0x40000000, 0, 1) + _instruction(_RET, _ERRNO | errno.EPERM)
    for number in table["again"]:
        rules += refuse(number, errno.EAGAIN)
    rules += refuse(_CLONE3, errno.ENOSYS)  # its flags lie in memory; the C library falls back to clone
    for number in (*table["never"], *(() if network else (table["socket"],))):
        rules += refuse(number, errno.EPERM)
    for number in table["own"]:
        rules += first_argument(number, _JEQ, pid, errno.EPERM)
    rules += first_argument(table["clone"], _JSET, _CLONE_THREAD, errno.EAGAIN)
    return rules + _instruction(_RET, _ALLOW)


def _seccomp(libc: Any, *, network: bool) -> bool:
    table = _SYSCALLS.get(platform.machine())
    if table is None:
        return False
    rules = _filter(table, os.getpid(), network=network)
    kept = ctypes.create_string_buffer(rules, len(rules))
    program = struct.pack("@HP", len(rules) // 8, ctypes.addressof(kept))
    return bool(libc.prctl(_PR_SET_SECCOMP, 2, program, 0, 0) == 0)


def _audit(scratch: str, *, processes: bool) -> None:
    inside = os.path.realpath(scratch) + os.sep
    starts = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "os.kill"}
    changes = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

    def outside(path: object) -> bool:
        if not isinstance(path, (str, bytes)):
            return False  # an open descriptor
        text = os.fsdecode(path)
        return text != os.devnull and not os.path.realpath(text).startswith(inside)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in starts and not processes:
            raise BlockingIOError(errno.EAGAIN, "this worker may not start processes")
        if (event == "open" and args[2] & writing and outside(args[0])) or (event in changes and outside(args[0])):
            raise PermissionError(errno.EACCES, "this worker may only write below its scratch directory")

    sys.addaudithook(hook)
