"""What the measurements of Java share: a JDK of this machine with its tools, async-profiler from Maven Central, and each way of profiling."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import harness
import jvms
import pytest

CACHE = Path(os.environ.get("BULKHEAD_TEST_CACHE", "/var/cache/bulkhead-tests"))
VERSION = "4.1"
LIBRARY = "linux-x64/libasyncProfiler.so"
SETTLE_SECONDS = 1.0
WARM_SECONDS = 3.0


def async_profiler() -> Path:
    """Its library, from its jar on Maven Central, by Maven."""
    place = CACHE / f"async-profiler-{VERSION}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / ".lock-async-profiler", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / LIBRARY).exists():
            if not shutil.which("mvn"):
                sys.exit("async-profiler comes by Maven: apt-get install maven")
            copy = ["dependency:copy", f"-Dartifact=tools.profiler:async-profiler:{VERSION}", f"-DoutputDirectory={place}"]
            subprocess.run(["mvn", "-q", "-B", *copy], check=True, cwd=CACHE)
            with zipfile.ZipFile(place / f"async-profiler-{VERSION}.jar") as jar:
                jar.extract(LIBRARY, place)
    return place / LIBRARY


def find(name: str) -> jvms.Jvm:
    """One of this machine, since its tools are needed too."""
    try:
        jvm = jvms.find(name)
    except pytest.skip.Exception as error:
        sys.exit(str(error))
    if not (jvm.path.parent / "jcmd").exists() or jvm.root != Path("/"):
        sys.exit(f"there is no jcmd beside {jvm.root / jvm.path}: a JDK of this machine is needed (--java)")
    return jvm


def jcmd(jvm: jvms.Jvm, pid: int, *words: str) -> str:
    done = subprocess.run([jvm.path.parent / "jcmd", str(pid), *words], capture_output=True, text=True, timeout=60)
    if done.returncode or "rror" in done.stdout:
        sys.exit(f"jcmd {pid} {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def agent(jvm: jvms.Jvm, pid: int, options: str) -> None:
    """The quotes are for jcmd, which has a language of its own."""
    jcmd(jvm, pid, "JVMTI.agent_load", str(async_profiler()), f'"{options}"')


@contextlib.contextmanager
def ours(hz: int) -> Iterator[Callable[[], list[int]]]:
    """The service, which profiles the whole machine; gives the pids of all our processes."""
    with harness.short_directory() as directory:
        config: harness.Config = {
            "snapshot": {"interval": "2s", "frequency": hz},
            "output": {"formats": "pprof", "keep_files": 2},
            "supervisor": {"log_level": "warning"},
        }
        with harness.Service(directory, config).start() as service:
            service.wait_profiles(2)
            yield lambda: common.family(service.pid)
            service.stop()


@contextlib.contextmanager
def theirs(jvm: jvms.Jvm, pid: int, hz: int, out: Path = Path("/dev/null")) -> Iterator[None]:
    """async-profiler inside the target; the profile is written at the end."""
    agent(jvm, pid, f"start,event=cpu,interval={1_000_000_000 // hz}ns,threads")
    try:
        time.sleep(SETTLE_SECONDS)
        yield
    finally:
        agent(jvm, pid, f"stop,file={out},collapsed,ann,threads")


@contextlib.contextmanager
def flight_recorder(jvm: jvms.Jvm, pid: int) -> Iterator[None]:
    """With the settings that the JDK calls those for profiling."""
    with harness.short_directory() as directory:
        jcmd(jvm, pid, "JFR.start", "name=bench", "settings=profile", f"filename={directory}/out.jfr")
        try:
            time.sleep(SETTLE_SECONDS)
            yield
        finally:
            jcmd(jvm, pid, "JFR.stop", "name=bench")


def wait_until_compiled(pid: int) -> None:
    """By then what is hot has been compiled for good."""
    harness.wait_for(lambda: harness.cpu_seconds(pid) >= WARM_SECONDS, f"process {pid} to be warm", 120)
