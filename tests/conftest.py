"""What all tests that run the real programs share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    if os.geteuid() != 0:
        pytest.exit("these tests profile the machine: run them as root", returncode=2)
    missing = [name for name in ("bulkhead", "bulkheadd") if not (harness.BIN / name).exists()]
    if missing:
        pytest.exit(f"{harness.BIN}: no {' and no '.join(missing)}; build first, or set BULKHEAD_BIN", returncode=2)
    harness.build(harness.SOURCE / "tests" / "workloads", harness.WORKLOADS)


@pytest.fixture
def directory() -> Iterator[Path]:
    with harness.short_directory() as path:
        yield path


@pytest.fixture
def workload() -> Callable[[str], Path]:
    """The path of a workload; the test is skipped where its toolchain is missing."""

    def find(name: str) -> Path:
        path = harness.program(name)
        if not path.exists():
            pytest.skip(f"{name} was not built: its toolchain is not installed")
        return path

    return find


@pytest.fixture
def service(directory: Path) -> Iterator[Callable[..., harness.Service]]:
    """Makes services; none outlives its test."""
    made: list[harness.Service] = []

    def make(config: harness.Config | None = None, libexec: Path | None = None) -> harness.Service:
        place = directory / f"service{len(made) + 1}"
        place.mkdir()
        made.append(harness.Service(place, config, libexec))
        return made[-1]

    yield make
    for one in made:
        one.__exit__()
