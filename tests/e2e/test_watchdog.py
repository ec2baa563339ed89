"""The watchdog of systemd, with a socket of our own in its place: it is fed in time, and only by a loop that runs."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import PATIENCE, Service

# It is fed twice in this time: a machine that stalls for less than half of it is no matter.
WATCHDOG_S = 10.0


@pytest.fixture
def listener(directory: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(directory / "watchdog"))
        yield one


def start(one: Service, listener: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
    with open(one.log_file, "ab") as log:
        one.process = subprocess.Popen(one.command(), stdout=log, stderr=log, env={**os.environ, **environment})
    one.wait_ready(listener)


def fed(listener: socket.socket, seconds: float) -> bool:
    """Whether it is within that time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([listener], [], [], left)[0] and b"WATCHDOG=1" in listener.recv(4096).split(b"\n"):
            return True
    return False


def drain(listener: socket.socket) -> None:
    while select.select([listener], [], [], 0)[0]:
        listener.recv(4096)


def test_watchdog_is_fed_by_a_loop_that_runs(service: Callable[..., Service], listener: socket.socket) -> None:
    with service() as one:
        start(one, listener)
        for _ in range(3):
            assert fed(listener, WATCHDOG_S), one.log()[-2000:]
        one.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        drain(listener)
        assert not fed(listener, WATCHDOG_S + 1), "it is fed by somebody who is stopped"
        one.process.send_signal(signal.SIGCONT)
        assert fed(listener, PATIENCE)
        assert one.stop() == 0


def test_watchdog_is_not_fed_unasked(service: Callable[..., Service]) -> None:
    with service() as one, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(one.directory / "watchdog"))
        with open(one.log_file, "ab") as log:
            environment = {**os.environ, "NOTIFY_SOCKET": listener.getsockname()}
            environment.pop("WATCHDOG_USEC", None)
            one.process = subprocess.Popen(one.command(), stdout=log, stderr=log, env=environment)
        one.wait_ready(listener)
        assert not fed(listener, 2.5)
        assert one.stop() == 0
