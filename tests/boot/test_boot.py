"""A Debian system that boots with Bulkhead as its systemd service. Each check inside it (checks.py) is a test here."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import checks
import machine
import pytest

NAMES = [function.__name__ for function in checks.CHECKS]


@pytest.fixture(scope="session")
def booted() -> Iterator[machine.Boot]:
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("qemu-system-x86_64 is not installed")
    with tempfile.TemporaryDirectory(prefix="bh-boot-") as directory:
        yield machine.boot(Path(directory))


@pytest.mark.parametrize("name", NAMES)
def test_boot(name: str, booted: machine.Boot) -> None:
    if name not in booted.results:
        raise AssertionError(f"never got there: {booted.tail()}")
    why = booted.results[name]
    if why is not None:
        raise AssertionError(f"{why}\n{booted.tail()}")


def test_machine_ends_by_itself(booted: machine.Boot) -> None:
    """No panic, no hang, and no check that took the rest with it."""
    if booted.timed_out or not booted.done:
        raise AssertionError(booted.tail())
