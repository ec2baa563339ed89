"""The interpreters that the tests run their workloads on: that of this machine, those of roots of other Debian releases (tests/roots), and
what BULKHEAD_TEST_PYTHONS names (paths, with colons between)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import harness
import pyframes
import pytest

MAKING_LIMIT = 900  # seconds for a root; two of them may be made by turns
SUITES = {"bullseye": (3, 9), "bookworm": (3, 11), "trixie": (3, 13)}
if os.environ.get("BULKHEAD_TEST_SID"):  # a release that changes every day is for the asking
    SUITES["sid"] = (3, 14)


@dataclass(frozen=True)
class Interpreter:
    name: str
    version: tuple[int, int]
    path: Path
    """Inside the root."""
    root: Path = Path("/")

    @contextlib.contextmanager
    def place(self) -> Iterator[Place]:
        """A directory inside the root with the workloads."""
        tmp = self.root / "tmp"
        directory = Path(tempfile.mkdtemp(prefix="bh-py-", dir=tmp))
        try:
            directory.chmod(0o755)
            for script in pyframes.WORKLOADS.glob("*.py"):
                shutil.copy(script, directory)
            with contextlib.ExitStack() as stack:
                yield Place(self, directory, stack)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@dataclass
class Place:
    interpreter: Interpreter
    directory: Path
    stack: contextlib.ExitStack
    pids: dict[str, int] = field(default_factory=dict)

    def inside(self, path: Path) -> Path:
        return Path("/") / path.relative_to(self.interpreter.root)

    def command(self, script: str, *arguments: str, name: str = "", seconds: float = 120) -> list[str]:
        """Run by a link of that name, which makes it the process's name too."""
        link = self.directory / (name or script)
        if not link.is_symlink():
            link.symlink_to(self.interpreter.path)
        command = [str(self.inside(link)), "-B", str(self.inside(self.directory / f"{script}.py")), f"{seconds:g}", *arguments]
        return command if self.interpreter.root == Path("/") else ["chroot", str(self.interpreter.root), *command]

    def start(self, script: str, *arguments: str, name: str = "") -> int:
        """The pid of a workload that runs until the place is left."""
        process = self.stack.enter_context(harness.running(self.command(script, *arguments, name=name)))
        self.pids[name or script] = process.pid
        return process.pid

    def wait_until_warm(self, seconds: float = 0.3) -> None:
        """chroot becomes what it starts, so the pids are those of the interpreters."""
        for pid in self.pids.values():
            harness.wait_until_warm(pid, seconds)


def version_of(command: list[str]) -> tuple[int, int]:
    done = subprocess.run([*command, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, check=True)
    major, minor = map(int, done.stdout.split())
    return major, minor


@lru_cache
def own_suite() -> str:
    text = Path("/etc/os-release").read_text()
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line).get("VERSION_CODENAME", "")


@lru_cache
def root_of(suite: str) -> Path | str:
    """Where it is; or why it can't be made."""
    done = subprocess.run(
        [str(harness.SOURCE / "tests" / "roots"), suite], capture_output=True, text=True, timeout=MAKING_LIMIT
    )
    if done.returncode:
        return f"no root of Debian {suite}: {done.stderr.strip()[-300:]}"
    return Path(done.stdout.strip())


def find(name: str) -> Interpreter:
    """By the name of a suite, or the path of an interpreter; skips the test where there is none."""
    if name.startswith("/"):
        return Interpreter(name, version_of([name]), Path(name))
    path = Path("/usr/bin/python3")
    if name == own_suite() and path.exists():
        return Interpreter(name, version_of([str(path)]), path.resolve())
    root = root_of(name)
    if isinstance(root, str):
        pytest.skip(root)
    return Interpreter(name, version_of(["chroot", str(root), str(path)]), path, root)


def all_names() -> list[str]:
    return [*SUITES, *filter(None, os.environ.get("BULKHEAD_TEST_PYTHONS", "").split(":"))]
