"""Callables that misbehave, run in real worker processes by test_workers.py."""

import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path


def add(a: int, b: int = 2) -> int:
    return a + b


def weekday(day: date) -> str:
    return day.strftime("%A")


def pid() -> int:
    return os.getpid()


def environment() -> dict[str, str]:
    return dict(os.environ)


def descriptors() -> list[str]:
    found = []
    for descriptor in range(3, 128):
        try:
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue
    return found


def spin() -> None:
    while True:
        pass


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def fork_bomb() -> None:
    while True:
        os.fork()


def shell() -> str:
    return subprocess.run(["/bin/echo", "hi"], capture_output=True, text=True, check=True).stdout


def thread_sum() -> int:
    import threading

    out: list[int] = []
    thread = threading.Thread(target=lambda: out.append(42))
    thread.start()
    thread.join()
    return out[0]


def allocate(gib: int) -> int:
    return len(bytearray(gib << 30))


def print_gib() -> None:
    line = "x" * 1_048_575 + "\n"
    for _ in range(1024):
        sys.stdout.write(line)


def return_much() -> str:
    return "x" * (4 << 20)


def write_to(path: str) -> str:
    Path(path).write_text("was here")
    return Path(path).read_text()


def exit_with(status: int) -> None:
    os._exit(status)


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def kill_parent() -> None:
    os.kill(os.getppid(), signal.SIGTERM)


def garbage() -> None:
    for descriptor in range(3, 32):
        try:
            os.write(descriptor, b"\x00\x00\x00\x05hello")
        except OSError:
            continue


def raising() -> None:
    raise ValueError("no such city")


def printing() -> str:
    print("noise on stdout")
    return "kept apart"


def variable(name: str) -> str | None:
    return os.environ.get(name)
