"""The Java worker as a worker: killed, disabled, absent. Nothing of a profile is lost, and it says why frames are not there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import javaframes
import jvms
import pytest
from harness import PATIENCE, Folded, Pprof, Service, check_conservation, check_profile_pair, running, share, wait_for
from javaframes import Sample

HZ = 199
SPLIT, ALTERNATING = "j_split", "j_alternating"  # other programs of the tests have the names of their scripts
BUSY = 15  # samples of one process in one snapshot that are enough to say something of it
WORKERS = ("opener", "sampler", "native", "merge", "python", "java")


@pytest.fixture(scope="module")
def place() -> Iterator[jvms.Place]:
    with jvms.find(jvms.own()).place() as one:
        yield one


@pytest.fixture(scope="module")
def busy(place: jvms.Place) -> Iterator[int]:
    """The pid of a JVM that never sleeps, beside another one and a native program. They outlive each service: that is what targets do."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(running([harness.program("threads"), "600"]))
        for script, arguments, name in (("Alternating", ("50",), ALTERNATING), ("Split", (), SPLIT)):
            pid = stack.enter_context(running(place.command(script, *arguments, name=name, seconds=600))).pid
            harness.wait_until_warm(pid, 0.8)
        yield pid


def samples_of(path: Path, pid: int) -> list[Sample]:
    """Those of the main thread."""
    return [sample for sample in javaframes.samples_of(Pprof.read(path).profile, pid) if sample.thread == SPLIT]


def java_of(path: Path, pid: int) -> tuple[int, int]:
    """Samples of Split in a snapshot, and those of them with Java's frames."""
    samples = samples_of(path, pid)
    return javaframes.total(samples), javaframes.count(samples, "^main;(seventy|twenty|ten)")


def text_of(path: Path) -> Folded:
    return Folded.parse(path.with_name(path.name.replace(".pb.gz", ".folded")).read_text())


def check_all(one: Service) -> Counter[str]:
    """Each sample of each snapshot is somewhere, and none has frames that no program could have."""
    total: Counter[str] = Counter()
    for path in one.profiles():
        profile = check_profile_pair(path, alone=False)
        total.update(profile.counters)
        samples = [sample for sample in profile.profile.samples if sample.labels.get("comm") in (SPLIT, ALTERNATING)]
        for pid in {int(sample.labels["pid"]) for sample in samples}:
            wrong = javaframes.impossible_stacks(javaframes.samples_of(profile.profile, pid))
            assert not wrong, wrong[:3]
    check_conservation(total)
    return total


def wait_java(one: Service, pid: int) -> None:
    """Until a snapshot has Java's frames of this process."""

    def there() -> bool:
        files = one.profiles()
        return bool(files) and java_of(files[-1], pid)[1] >= BUSY / 2

    wait_for(there, f"frames of {pid}:\n{one.log()[-1500:]}", PATIENCE * 2)


def test_killed_in_mid_snapshot(service: Callable[..., Service], busy: int) -> None:
    """Every sample that waited in its lane is in the profile, again and again; nobody else restarts."""
    with service({"snapshot": {"interval": "3s", "frequency": HZ}}).start() as one:
        wait_java(one, busy)
        bystanders = one.wait_running(*(name for name in WORKERS if name != "java"))
        for _ in range(3):
            time.sleep(0.7)  # somewhere in a snapshot: the point is that it does not matter where
            one.wait_restarted("java", one.kill_worker("java"))
        files = one.wait_profiles(3)
        assert one.wait_running(*bystanders) == bystanders, "others restarted too"
        row = one.worker("java")
        assert row["restarts"] >= 3 and row["last_cause"] == "signal", row
        assert one.stop() == 0
    total = check_all(one)
    assert not total["lane_damaged"], total
    share(not total["lane_full"] and not total["missed"], total)
    # the last whole one is as before
    samples, frames = java_of(files[-1], busy)
    some = "\n".join(sample.text() for sample in samples_of(files[-1], busy)[:4])
    share(samples >= BUSY and frames >= 0.95 * samples, f"{frames} of {samples}:\n{some}\n{total}")


def test_disabled(service: Callable[..., Service], busy: int) -> None:
    """Its processes are native stacks then, under a frame that says why; enabled again, they have their frames back."""
    with service({"snapshot": {"interval": "1s", "frequency": HZ}}).start() as one:
        wait_java(one, busy)
        assert one.order("disable", "java").returncode == 0
        wait_for(lambda: one.worker("java")["state"] == "disabled", "the Java worker to be disabled")
        files = one.wait_profiles(4)
        assert any("java" in text and "disabled" in text for text in one.status()["problems"])
        row = one.targets()[busy]
        assert row["lane"] == "native" and "disabled" in row["why"], row
        assert one.order("enable", "java").returncode == 0
        one.wait_running("java")
        wait_java(one, busy)
        assert not one.targets()[busy]["why"]
        assert one.stop() == 0
    samples = [sample for path in files[-2:] for sample in samples_of(path, busy)]
    assert not any(sample.frames for sample in samples), samples[0].text()
    total = javaframes.total(samples)
    under = sum(sample.n for sample in samples if sample.stack[0] == "[java: disabled]" and len(sample.stack) > 1)
    share(total >= BUSY and under >= 0.97 * total, f"{under} of {total}: {samples[0].text()}")
    counters = check_all(one)
    share(not counters["missed"] and not counters["lane_full"], counters)  # a CPU that others keep busy fills a lane


def test_not_running(service: Callable[..., Service], busy: int, directory: Path) -> None:
    """It ends whenever it is started: everyone else works, and its processes are native stacks that say so."""
    libexec = directory / "libexec"
    libexec.mkdir()
    for name in WORKERS:
        shutil.copy2(harness.BIN / f"bulkhead-{name}", libexec)

    def replace(program: Path) -> None:
        shutil.copy2(program, libexec / "new")
        os.replace(libexec / "new", libexec / "bulkhead-java")

    with service({"snapshot": {"interval": "1s", "frequency": HZ}}, libexec).start() as one:
        wait_java(one, busy)
        replace(Path("/bin/false"))
        one.kill_worker("java")
        time.sleep(1)
        files = one.wait_profiles(4)
        status = one.status()
        assert not status["healthy"] and any("java" in text for text in status["problems"]), status["problems"]
        replace(harness.BIN / "bulkhead-java")
        assert one.order("restart", "java").returncode in (0, 1)  # 1: it is about to be started anyway
        wait_java(one, busy)
        assert one.stop() == 0
    samples = [sample for path in files[-2:] for sample in samples_of(path, busy)]
    total = javaframes.total(samples)
    under = sum(sample.n for sample in samples if sample.stack[0] == "[java: not running]" and len(sample.stack) > 1)
    share(total >= BUSY and under >= 0.97 * total, f"{under} of {total}: {samples[0].text()}")
    check_all(one)


def test_restart_by_order_costs_nothing(service: Callable[..., Service], busy: int) -> None:
    """A successor first: no sample is late for it, or nearly none."""
    with service({"snapshot": {"interval": "1s", "frequency": HZ}}).start() as one:
        wait_java(one, busy)
        old = one.wait_running("java")["java"]
        assert one.order("restart", "java").returncode == 0
        one.wait_restarted("java", old)
        one.wait_profiles(3)
        assert one.stop() == 0
    total = check_all(one)
    share(not total["missed"] and not total["lane_full"], total)


def test_targets(service: Callable[..., Service], busy: int, place: jvms.Place) -> None:
    """As JSON and for people: the runtime, its version, the samples; who is gone is gone."""
    with service({"snapshot": {"interval": "1s", "frequency": HZ}}).start() as one:
        with running(place.command("Split", name="j_short")) as short:
            wait_java(one, busy)
            row = wait_for(lambda: (row := one.targets().get(busy)) and row["samples"] >= BUSY and row, "its samples")
            keys = "pid start_time comm lane runtime version samples torn skewed unreadable truncated late why".split()
            assert set(keys) <= set(row), row
            assert (row["comm"], row["lane"], row["runtime"]) == (SPLIT, "java", "java"), row
            assert row["version"].startswith(str(place.jvm.release)) and not row["why"], row
            share(row["torn"] + row["skewed"] + row["unreadable"] <= 0.02 * row["samples"], row)
            command = [part for part in one.status_command("--targets") if part != "--json"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            (line,) = [text for text in done.stdout.splitlines() if re.search(rf"\b{busy}\b", text)]
            assert "java" in line and row["version"] in line and SPLIT in line, line
            wait_for(lambda: short.pid in one.targets(), "the other one to be listed")
        wait_for(lambda: short.pid not in one.targets(), "it to be forgotten")
        command = [part for part in one.status_command() if part != "--json"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE).stdout
        assert re.search(r"^\s*java\b.*\brunning\b", text, re.MULTILINE), text
        assert one.stop() == 0


def test_deleted_by_an_upgrade(service: Callable[..., Service], place: jvms.Place) -> None:
    """A JVM goes on when its files are gone, and is read all the same."""
    home = place.directory / "jdk"
    shutil.copytree(place.jvm.path.resolve().parent.parent, home, symlinks=True)
    command = place.command("Split", name=SPLIT)
    command[0] = str(home / "bin" / "java")
    with running(command) as old:
        harness.wait_until_warm(old.pid, 0.8)
        shutil.rmtree(home)
        with service({"snapshot": {"interval": "1s", "frequency": HZ}}).start() as one:

            def there() -> bool:
                files = one.profiles()
                samples = javaframes.samples_of(Pprof.read(files[-1]).profile, old.pid) if files else []
                return javaframes.count(samples, "^main;(seventy|twenty|ten)") >= BUSY / 2

            wait_for(there, f"frames of {old.pid}: {one.targets().get(old.pid)}\n{one.log()[-1500:]}", PATIENCE)
            assert not one.targets()[old.pid]["why"]
            assert one.stop() == 0


OPENJ9 = "its virtual machine is OpenJ9: not supported"


def build_other(program: Path, before: str = "") -> Path:
    """What only looks like a JVM."""
    source = program.with_suffix(".c")
    text = "int JNI_CreateJavaVM(void **a, void **b, void *c) { return a || b || c; }\nint main(void) { for (volatile int i = 0;; i++) ; }\n"
    source.write_text(before + text)
    subprocess.run(["gcc", "-O1", "-rdynamic", "-o", program, source], check=True)
    return program


def wait_for_reason(one: Service, pid: int, why: str) -> None:
    wait_for(lambda: (row := one.targets().get(pid)) and row["samples"] and row["why"] == why, why)
    assert one.targets()[pid]["lane"] == "native"


@pytest.mark.parametrize(
    ("program", "section", "why"),
    [
        ("other", "", "its virtual machine is not HotSpot: not supported"),
        ("libj9vm29", "", OPENJ9),
        ("image", '__attribute__((section(".svm_heap"))) int heap = 1;\n', "it is a native image: its frames are native"),
    ],
    ids=["other", "openj9", "native_image"],
)
def test_other_machines_of_java_are_refused_by_name(
    service: Callable[..., Service], directory: Path, program: str, section: str, why: str
) -> None:
    """What only looks like a JVM has native stacks, and is told why: without HotSpot's tables there is nothing to go by."""
    build_other(directory / program, section)
    with service({"snapshot": {"interval": "1s", "frequency": HZ}}).start() as one, running([directory / program]) as other:
        wait_for_reason(one, other.pid, why)
        found = Pprof.read(one.wait_profiles(2)[-1]).of(other.pid)
        share(found.count("main") >= 0.9 * found.total > 0, found.stacks.most_common(3))
        assert one.stop() == 0


@pytest.mark.parametrize("last_first", [False, True])
def test_child_of_python_that_becomes_another_machine(service: Callable[..., Service], directory: Path, last_first: bool) -> None:
    """Python's worker hears of the new program on one CPU before it gets to the samples of the old one from another: "no interpreter was
    found in it" stood there for the rest of its life, and that it were in Python's lane."""
    program = build_other(directory / "libj9vm29")
    cpus = sorted(os.sched_getaffinity(0))
    before, after = (cpus[-1], cpus[0]) if last_first else (cpus[0], cpus[-1])
    script = f"""
import os, select, sys, time

def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end: pass

while not select.select([sys.stdin], [], [], 0)[0]: pass
child = os.fork()
if not child:
    os.sched_setaffinity(0, [{before}])
    spin(0.1)
    os.sched_setaffinity(0, [{after}])
    os.execv({str(program)!r}, ["other"])
print(child, flush=True)
spin(600)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    one = service({"snapshot": {"interval": "1s", "frequency": HZ}}).start()
    with one, running([sys.executable, "-c", script], **pipes) as parent:
        wait_for(lambda: (row := one.targets().get(parent.pid)) and row["lane"] == "python" and row["samples"], "its Python")
        worker = one.worker("python")["pid"]
        os.kill(worker, signal.SIGSTOP)
        assert parent.stdin and parent.stdout
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        child = int(parent.stdout.readline())
        time.sleep(0.25)
        os.kill(worker, signal.SIGCONT)
        wait_for_reason(one, child, OPENJ9)
        for _ in range(10):
            assert one.targets()[child]["why"] == OPENJ9
            time.sleep(0.2)
        assert one.stop() == 0
