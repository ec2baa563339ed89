"""The JVMs that the tests run their workloads on: that of this machine, those of roots of other Debian releases (tests/roots SUITE java), and
what BULKHEAD_TEST_JAVAS names (directories of JDKs, with colons between)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import harness
import pytest
from interpreters import MAKING_LIMIT, own_suite
from javaframes import PACKAGE

# Release of Java, and which Debian has it.
RELEASES = {"8": "sid", "11": "bullseye", "17": "bookworm", "21": "trixie", "25": "trixie"}
CLASSES = harness.WORKLOADS / "java"
CLASSES_8 = harness.WORKLOADS / "java8"
# Small heaps, since many run at once.
OPTIONS = ("-Xms48m", "-Xmx96m")


@dataclass(frozen=True)
class Jvm:
    name: str
    release: int
    path: Path
    """Of the launcher, inside the root."""
    root: Path = Path("/")

    @contextlib.contextmanager
    def place(self) -> Iterator[Place]:
        """A directory inside the root with the compiled workloads."""
        directory = Path(tempfile.mkdtemp(prefix="bh-java-", dir=self.root / "tmp"))
        try:
            directory.chmod(0o755)
            shutil.copytree(CLASSES if self.release > 8 else CLASSES_8, directory / "classes")
            with contextlib.ExitStack() as stack:
                yield Place(self, directory, stack)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@dataclass
class Place:
    jvm: Jvm
    directory: Path
    stack: contextlib.ExitStack
    pids: dict[str, int] = field(default_factory=dict)

    def inside(self, path: Path) -> Path:
        return Path("/") / path.relative_to(self.jvm.root)

    def command(self, script: str, *arguments: str, name: str = "", options: tuple[str, ...] = (), seconds: float = 120) -> list[str]:
        """Run by a link of that name, which makes it the process's name too."""
        link = self.directory / (name or script)
        if not link.is_symlink():
            link.symlink_to(self.jvm.path)
        classes = str(self.inside(self.directory / "classes"))
        command = [str(self.inside(link)), *OPTIONS, *options, "-cp", classes, PACKAGE + script, f"{seconds:g}", *arguments]
        if self.jvm.root == Path("/"):
            return command
        # the launcher looks for itself in /proc; each step becomes the next one, so the pid is that of the JVM
        enter = 'mount -t proc proc "$1/proc" && exec chroot "$@"'
        return ["unshare", "--mount", "sh", "-c", enter, "sh", str(self.jvm.root), *command]

    def start(self, script: str, *arguments: str, name: str = "", options: tuple[str, ...] = ()) -> int:
        """The pid of a workload that runs until the place is left."""
        process = self.stack.enter_context(harness.running(self.command(script, *arguments, name=name, options=options)))
        self.pids[name or script] = process.pid
        return process.pid

    def wait_until_warm(self, seconds: float = 0.8) -> None:
        """What is hot is compiled, or about to be."""
        for pid in self.pids.values():
            harness.wait_until_warm(pid, seconds)


def release_of(path: Path, root: Path = Path("/")) -> int:
    """As the directory of a JVM says: a file beside bin, which Debian's 8 has not, in which it was called 1.8."""
    home = (root / path.relative_to("/")).parent.parent
    text = (home / "release").read_text() if (home / "release").exists() else f'JAVA_VERSION="{home}"'
    found = re.search(r'JAVA_VERSION="(?:1\.|.*/java-)?(\d+)', text)
    assert found, text
    return int(found[1])


@lru_cache
def root_of(suite: str) -> Path | str:
    """Where it is; or why it can't be made."""
    command = [str(harness.SOURCE / "tests" / "roots"), suite, "java"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAKING_LIMIT)
    if done.returncode:
        return f"no JVMs of Debian {suite}: {done.stderr.strip()[-300:]}"
    return Path(done.stdout.strip())


def find(name: str) -> Jvm:
    """By its release, or the directory of a JDK; skips the test where there is none."""
    if not CLASSES.exists():
        pytest.skip("there is no javac, so the Java workloads were not built")
    if name.startswith("/"):
        path = Path(name) / "bin" / "java"
        return Jvm(name, release_of(path), path)
    suite = RELEASES[name]
    path = Path(f"/usr/lib/jvm/java-{name}-openjdk-amd64") / ("jre/bin/java" if name == "8" else "bin/java")
    if suite == own_suite() and path.exists():
        return Jvm(name, release_of(path), path)
    root = root_of(suite)
    if isinstance(root, str):
        pytest.skip(root)
    return Jvm(name, release_of(path, root), path, root)


def all_names() -> list[str]:
    return [*RELEASES, *filter(None, os.environ.get("BULKHEAD_TEST_JAVAS", "").split(":"))]


def own() -> str:
    """The one that needs no root."""
    return next((name for name, suite in RELEASES.items() if suite == own_suite() != "sid"), "17")
