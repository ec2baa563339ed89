"""The Python worker as a worker: killed, stopped, disabled, absent. Nothing of a profile is lost, and it says why frames are not there."""

from __future__ import annotations

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
import interpreters
import pyframes
import pytest
from harness import PATIENCE, Folded, Pprof, Service, check_conservation, check_profile_pair, running, share, wait_for
from interpreters import Place

HZ = 199
# other programs of the tests have the names of their scripts
SPLIT, ALTERNATING = "py_split", "py_alternating"
SPLIT_CHAIN = "main;seventy|main;twenty|main;ten"
BUSY = 30  # samples of one process in one snapshot that are enough to say something of it
ENOUGH = 300  # samples of one process, of which two per cent say something
MOST_LATE = 0.1
# The rate is not to follow what else the machine does: the tests below count samples.
STEADY: harness.Config = {"supervisor": {"pressure": "no"}}
WORKERS = ("opener", "sampler", "native", "merge", "python")


@pytest.fixture
def place() -> Iterator[Place]:
    with interpreters.find(interpreters.own_suite() or "bookworm").place() as one:
        yield one


@pytest.fixture
def busy(place: Place, workload: Callable[[str], Path]) -> Iterator[int]:
    """The pid of an interpreter that never sleeps, beside another one and a native program."""
    with running([workload("threads"), "180"]):
        place.start("alternating", "50", name=ALTERNATING)
        pid = place.start("split", name=SPLIT)
        place.wait_until_warm()
        yield pid


def text_of(path: Path) -> Folded:
    return Folded.parse(path.with_name(path.name.replace(".pb.gz", ".folded")).read_text())


def python_of(path: Path) -> tuple[int, int]:
    """Samples of split.py in a snapshot, and those of them with Python's frames."""
    folded = text_of(path).of(SPLIT)
    return folded.total, pyframes.count(folded, SPLIT_CHAIN)


def on_time(folded: Folded) -> Folded:
    """Without what was read late, also under a frame that says where the worker is: the machine decides that, not the worker. Of that there
    is a limit, too."""
    stacks = {
        stack: n for stack, n in folded.stacks.items() if not pyframes.is_late(stack) and not pyframes.is_late(stack[1:])
    }
    late = folded.total - sum(stacks.values())
    share(late <= max(1, MOST_LATE * folded.total), f"{late} of {folded.total} samples were read late")
    return Folded(Counter(stacks))


def check_all(one: Service) -> Counter[str]:
    """Each sample of each snapshot is somewhere, and none has frames that no program could have."""
    total: Counter[str] = Counter()
    for path in one.profiles():
        total.update(check_profile_pair(path, alone=False).counters)
        folded = text_of(path)
        for comm in (SPLIT, ALTERNATING):
            wrong = pyframes.impossible_stacks(folded.of(comm))
            assert not wrong, wrong[:3]
    check_conservation(total)
    return total


def wait_python(one: Service, pid: int) -> None:
    """Until a snapshot has Python's frames of this process."""

    def there() -> bool:
        files = one.profiles()
        return bool(files) and python_of(files[-1])[1] >= BUSY / 2

    wait_for(there, f"frames of {pid}:\n{one.log()[-1500:]}", PATIENCE * 2)


def test_killed_in_mid_snapshot(service: Callable[..., Service], busy: int) -> None:
    """Every sample that waited in its lane is in the profile, again and again; nobody else restarts."""
    with service({"snapshot": {"interval": "3s", "frequency": HZ}, **STEADY}).start() as one:
        wait_python(one, busy)
        bystanders = one.wait_running(*(name for name in WORKERS if name != "python"))
        for _ in range(3):
            time.sleep(0.7)  # somewhere in a snapshot: the point is that it does not matter where
            one.wait_restarted("python", one.kill_worker("python"))
        files = one.wait_profiles(3)
        assert one.wait_running(*bystanders) == bystanders, "others restarted too"
        row = one.worker("python")
        assert row["restarts"] >= 3 and row["last_cause"] == "signal", row
        assert one.stop() == 0
    total = check_all(one)
    assert not total["lane_full"] and not total["missed"] and not total["lane_damaged"], total
    # the last whole one is as before
    folded = on_time(text_of(files[-1]).of(SPLIT))
    frames = pyframes.count(folded, SPLIT_CHAIN)
    share(folded.total >= BUSY and frames >= 0.97 * folded.total, f"{frames} of {folded.total}: {folded.stacks.most_common(3)}")


def test_samples_that_waited_have_their_innermost_frames(service: Callable[..., Service], busy: int) -> None:
    """Its successor finds threads that ran on: those samples count as late, with the native leaf that they carry."""
    with service({"snapshot": {"interval": "3s", "frequency": HZ}, **STEADY}).start() as one:
        wait_python(one, busy)
        before = len(one.profiles())
        pid = one.wait_running("python")["python"]
        os.kill(pid, signal.SIGSTOP)
        until = harness.cpu_seconds(busy) + 0.5
        wait_for(lambda: harness.cpu_seconds(busy) >= until, "a hundred samples that nobody reads")
        os.kill(pid, signal.SIGKILL)
        one.wait_restarted("python", pid)
        one.wait_profiles(2)
        assert one.stop() == 0
    total = check_all(one)
    late: Counter[str] = Counter()
    for path in one.profiles()[before:]:
        for sample in Pprof.read(path).profile.of(pid=busy):
            if sample.labels.get("stack") == "late":
                late[";".join(frame.name for frame in sample.frames if not frame.name.startswith("["))] += 1
    assert not late[""], f"late samples without any frame: {late}"
    share(late.total() > 0 and total["late"] >= 20, f"{late.total()} stacks of late samples: {total}")


@pytest.fixture
def with_short_stacks() -> Iterator[Place]:
    """The interpreter's loop has a small frame from 3.13 on: a sample may carry all of a thread's native stack."""
    with interpreters.find("trixie").place() as one:
        yield one


def test_late_is_not_called_early(service: Callable[..., Service], with_short_stacks: Place) -> None:
    """Late samples that carry all of the native stack were taken for samples from before the process was known."""
    pid = with_short_stacks.start("threads", "8")
    with service({"snapshot": {"interval": "2s", "frequency": HZ}, **STEADY}).start() as one:
        wait_for(lambda: one.targets().get(pid, {}).get("lane") == "python", "it to be taken")
        one.wait_profiles(2)  # the snapshot that runs now began when it was known
        before = len(one.profiles())
        worker = one.wait_running("python")["python"]
        os.kill(worker, signal.SIGSTOP)
        until = harness.cpu_seconds(pid) + 0.5
        wait_for(lambda: harness.cpu_seconds(pid) >= until, "samples that nobody reads")
        os.kill(worker, signal.SIGCONT)
        one.wait_profiles(2)
        assert one.stop() == 0
    outcomes: Counter[str] = Counter()
    for path in one.profiles()[before:]:
        for sample in Pprof.read(path).profile.of(pid=pid):
            outcomes[str(sample.labels.get("stack", "complete"))] += sample.values["samples"]
    share(outcomes["late"] > 0, outcomes)
    assert not outcomes["early"], outcomes


def test_stopped_worker_keeps_nobody_waiting(service: Callable[..., Service], busy: int) -> None:
    """It stands still: snapshots go on without it, and say so; then it is replaced, or goes on."""
    with service({"snapshot": {"interval": "1s", "deadline": "3s", "frequency": HZ}, **STEADY}).start() as one:
        wait_python(one, busy)
        pid = one.wait_running("python")["python"]
        os.kill(pid, signal.SIGSTOP)
        try:
            files = one.wait_profiles(2)
        finally:
            if harness.alive(pid):
                os.kill(pid, signal.SIGCONT)
        told = [line for path in files for line in Pprof.read(path).profile.missing()]
        assert any("python" in comment for comment in told), f"no profile says that python was missing: {told}"
        wait_for(lambda: one.wait_running("python"), "the Python worker to run")
        wait_python(one, busy)
        assert one.stop() == 0
    check_all(one)


def test_disabled(service: Callable[..., Service], busy: int) -> None:
    """Its processes are native stacks then, under a frame that says why; enabled again, they have their frames back."""
    with service({"snapshot": {"interval": "1s", "frequency": HZ}, **STEADY}).start() as one:
        wait_python(one, busy)
        assert one.order("disable", "python").returncode == 0
        wait_for(lambda: one.worker("python")["state"] == "disabled", "the Python worker to be disabled")
        files = one.wait_profiles(4)
        folded = of_the_last(files)
        assert any("python" in text and "disabled" in text for text in one.status()["problems"])
        assert one.order("enable", "python").returncode == 0
        one.wait_running("python")
        wait_python(one, busy)
        assert one.stop() == 0
    assert not pyframes.chains(folded), folded.stacks.most_common(3)
    total = check_all(one)
    assert not total["lane_full"], total
    # Its lane gets samples until it has ended: those of its last moments, which it did not read any more, are counted there.
    share(total["missed"] <= 0.01 * total["taken"], total)
    check_under(folded, "[python: disabled]")


def of_the_last(files: list[Path]) -> Folded:
    """Stacks of split.py in the last two snapshots: one alone has few."""
    return Folded(text_of(files[-2]).of(SPLIT).stacks + text_of(files[-1]).of(SPLIT).stacks)


def check_under(folded: Folded, root: str) -> None:
    """Native stacks, under a frame that says why they have none of Python."""
    found = on_time(folded)
    under = sum(n for stack, n in found.stacks.items() if stack[1] == root and len(stack) > 4)
    share(
        found.total >= BUSY and under >= 0.97 * found.total,
        f"{under} of {found.total} under {root}: {found.stacks.most_common(3)}",
    )


def libexec_of_our_own(directory: Path) -> Path:
    libexec = directory / "libexec"
    libexec.mkdir()
    for name in WORKERS:
        shutil.copy2(harness.BIN / f"bulkhead-{name}", libexec)
    return libexec


def replace(libexec: Path, program: Path) -> None:
    shutil.copy2(program, libexec / "new")
    os.replace(libexec / "new", libexec / "bulkhead-python")


def test_not_running(service: Callable[..., Service], busy: int, directory: Path) -> None:
    """It ends whenever it is started: everyone else works, and its processes are native stacks that say so."""
    libexec = libexec_of_our_own(directory)
    with service({"snapshot": {"interval": "1s", "frequency": HZ}, **STEADY}, libexec).start() as one:
        wait_python(one, busy)
        replace(libexec, Path("/bin/false"))
        one.kill_worker("python")
        time.sleep(1)
        files = one.wait_profiles(4)
        # at this very moment it may be in one of its short starts
        wait_for(
            lambda: not (status := one.status())["healthy"] and any("python" in text for text in status["problems"]),
            "status to name python as a problem",
        )
        folded = of_the_last(files)
        replace(libexec, harness.BIN / "bulkhead-python")
        assert one.order("restart", "python").returncode in (0, 1)  # 1: it is about to be started anyway
        wait_python(one, busy)
        assert one.stop() == 0
    check_all(one)
    check_under(folded, "[python: not running]")


def test_service_is_ready_without_it(service: Callable[..., Service], directory: Path) -> None:
    """A runtime's worker that can never start is no reason for the whole service not to."""
    libexec = libexec_of_our_own(directory)
    replace(libexec, Path("/bin/false"))
    with service({"snapshot": {"interval": "1s", "frequency": HZ}, **STEADY}, libexec).start() as one:
        assert Pprof.read(one.wait_profiles(2)[-1]).counters["taken"]
        assert one.stop() == 0


def test_restart_by_order_costs_nothing(service: Callable[..., Service], busy: int) -> None:
    """A successor first: no sample is late for it, or nearly none."""
    with service({"snapshot": {"interval": "1s", "frequency": HZ}, **STEADY}).start() as one:
        wait_python(one, busy)
        old = one.wait_running("python")["python"]
        assert one.order("restart", "python").returncode == 0
        one.wait_restarted("python", old)
        one.wait_profiles(3)
        assert one.stop() == 0
    total = check_all(one)
    assert not total["missed"] and not total["lane_full"], total


def test_yield_in_the_long_run(service: Callable[..., Service], busy: int) -> None:
    """Snapshots after the first ones, in which everything was found: at least 99.9 % of the samples in there have frames."""
    with service({"snapshot": {"interval": "2s", "frequency": 999}}).start() as one:
        wait_python(one, busy)
        files = one.wait_profiles(6)[1:]
        assert one.stop() == 0
    missing: Counter[tuple[str, ...]] = Counter()
    total = 0
    for path in files:
        for comm in (SPLIT, ALTERNATING):
            folded = text_of(path).of(comm)
            total += folded.total
            missing.update(pyframes.missed(folded))
    misses = sum(missing.values())
    share(total > 1500 and misses <= max(2, 0.001 * total), f"{misses} of {total}: {missing.most_common(5)}")


# -- bulkhead status --targets


def test_targets_as_json(service: Callable[..., Service], busy: int, place: Place, workload: Callable[[str], Path]) -> None:
    with service({"snapshot": {"interval": "1s", "frequency": HZ}, **STEADY}).start() as one, running([workload("split"), "60"]) as native:
        wait_python(one, busy)
        rows = wait_for(
            lambda: (
                (rows := one.targets()).keys() >= {busy, native.pid}
                and rows[busy]["samples"] >= ENOUGH
                and rows[native.pid]["samples"] >= BUSY
                and rows
            ),
            "samples of both processes",
        )
        row, other = rows[busy], rows[native.pid]
        keys = "pid start_time comm lane runtime version samples torn skewed unreadable truncated late why".split()
        assert set(keys) <= set(row), row
        version = ".".join(map(str, place.interpreter.version))
        assert (row["comm"], row["lane"], row["runtime"]) == (SPLIT, "python", "python"), row
        assert row["version"].startswith(version) and not row["why"], row
        assert row["start_time"] == int(Path(f"/proc/{busy}/stat").read_text().rpartition(")")[2].split()[19]), row
        assert other["lane"] == "native" and other["runtime"] != "python", other
        wait_for(lambda: one.targets()[busy]["samples"] > row["samples"], "it to count on")
        assert one.stop() == 0
    share(row["torn"] + row["skewed"] + row["unreadable"] <= 0.02 * row["samples"], row)


def test_targets_for_people(service: Callable[..., Service], busy: int, place: Place) -> None:
    with service({"snapshot": {"interval": "1s", "frequency": HZ}, **STEADY}).start() as one:
        wait_python(one, busy)
        command = [part for part in one.status_command("--targets") if part != "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode in (0, 1), done
        (line,) = [text for text in done.stdout.splitlines() if re.search(rf"\b{busy}\b", text)]
        assert "python" in line and ".".join(map(str, place.interpreter.version)) in line and SPLIT in line, line
        assert one.stop() == 0


def test_targets_say_why_there_are_no_frames(
    service: Callable[..., Service], busy: int, workload: Callable[[str], Path]
) -> None:
    """A disabled worker is a reason, in words."""
    with service({"snapshot": {"interval": "1s", "frequency": HZ}, **STEADY}).start() as one:
        wait_python(one, busy)
        assert one.order("disable", "python").returncode == 0
        one.wait_profiles(3)
        row = one.targets()[busy]
        assert row["lane"] == "native" and "disabled" in row["why"], row
        assert [silent for silent in one.ask("--targets")["silent"] if silent["worker"] == "python" and "disabled" in silent["why"]]
        assert one.order("enable", "python").returncode == 0
        wait_python(one, busy)
        assert not one.targets()[busy]["why"]
        assert one.stop() == 0


def test_targets_that_are_gone_are_gone(service: Callable[..., Service], place: Place) -> None:
    """A list that only grew would be a leak."""
    with service({"snapshot": {"interval": "1s", "frequency": HZ}, **STEADY}).start() as one:
        pid = place.start("split")
        wait_for(lambda: pid in one.targets(), "it to be listed")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: pid not in one.targets(), "it to be forgotten")
        assert one.stop() == 0


def test_row_in_status(service: Callable[..., Service], busy: int) -> None:
    with service().start() as one:
        one.wait_running(*WORKERS)
        command = [part for part in one.status_command() if part != "--json"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE).stdout
        assert re.search(r"^\s*python\b.*\brunning\b", text, re.MULTILINE), text
        assert one.stop() == 0


def test_process_that_began_while_the_worker_was_disabled(service: Callable[..., Service], place: Place) -> None:
    """Its introduction was in a lane that nobody read."""
    with service({"snapshot": {"interval": "1s", "frequency": HZ}, **STEADY}).start() as one:
        one.wait_running(*WORKERS)
        assert one.order("disable", "python").returncode == 0
        pid = place.start("split", name=SPLIT)
        wait_for(lambda: (row := one.targets().get(pid)) and row["samples"] >= BUSY and "disabled" in row["why"], "its samples")
        one.wait_profiles(len(one.profiles()) + 3)  # what lies in the lane of a worker that is away is passed over
        assert one.order("enable", "python").returncode == 0
        wait_python(one, pid)
        row = one.targets()[pid]
        assert row["lane"] == "python" and not row["why"], row
        assert one.stop() == 0


# -- processes that were Python's, or carried it, and become another program


def become_native(one: Service, *pids: int) -> None:
    """Nobody says of them what was true of the program before: not soon, and not later."""
    native = ["split", "native", "native", ""]

    def rows() -> dict[int, list[object]]:
        keys = ("comm", "lane", "runtime", "why")
        return {pid: [row[key] for key in keys] for pid, row in one.targets().items() if pid in pids}

    end = time.monotonic() + PATIENCE / 4
    while (found := rows()) != dict.fromkeys(pids, native):
        assert time.monotonic() < end, found
    for _ in range(5):
        time.sleep(0.2)
        assert all(row == native for row in rows().values())


def test_program_after_one_with_an_interpreter_that_never_began(service: Callable[..., Service], workload: Callable[[str], Path]) -> None:
    """Python's worker had been told of it, and waited; that it became another program it was not told."""
    library = next(Path("/usr/lib").glob("*-linux-gnu/libpython3.*.so.1.0"))
    script = 'unset LD_PRELOAD; until read -t 0; do :; done; exec "$0" 60'
    with (
        service({"snapshot": {"interval": "1s", "frequency": HZ}}).start() as one,
        running(["bash", "-c", script, workload("split")], env={**os.environ, "LD_PRELOAD": str(library)}, stdin=subprocess.PIPE) as process,
    ):
        wait_for(lambda: "not initialised" in one.targets().get(process.pid, {}).get("why", ""), "its interpreter")
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
        become_native(one, process.pid)
        assert one.stop() == 0


def test_program_after_one_with_an_interpreter_heard_of_late(service: Callable[..., Service], workload: Callable[[str], Path]) -> None:
    """Python's worker hears of the interpreter when the process is another program already."""
    script = "import os, select, sys\nwhile not select.select([sys.stdin], [], [], 0)[0]: pass\nos.execv(sys.argv[1], ['split', '60'])"
    with service({"snapshot": {"interval": "1s", "frequency": HZ}}).start() as one:
        worker = one.wait_running("python")["python"]
        os.kill(worker, signal.SIGSTOP)
        with running([sys.executable, "-c", script, workload("split")], stdin=subprocess.PIPE) as process:
            time.sleep(0.4)  # native finds it
            assert process.stdin
            process.stdin.write(b"\n")
            process.stdin.flush()
            time.sleep(0.1)
            os.kill(worker, signal.SIGCONT)
            become_native(one, process.pid)
        assert one.stop() == 0


@pytest.mark.parametrize("last_first", [False, True])
def test_child_that_became_another_program_before_its_birth_was_heard_of(
    service: Callable[..., Service], workload: Callable[[str], Path], last_first: bool
) -> None:
    """The birth is in the ring of its parent's CPU, the new program in that of its own: Python's worker may see them the wrong way round."""
    cpus = sorted(os.sched_getaffinity(0))
    before, after = (cpus[-1], cpus[0]) if last_first else (cpus[0], cpus[-1])
    script = f"""
import os, select, sys
os.sched_setaffinity(0, [{before}])
while True:
    while not select.select([sys.stdin], [], [], 0)[0]: pass
    if not sys.stdin.readline(): break
    for _ in range(4):
        child = os.fork()
        if not child:
            os.sched_setaffinity(0, [{after}])
            os.execv(sys.argv[1], ["split", "60"])
        print(child, flush=True)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    children: list[int] = []
    with (
        service({"snapshot": {"interval": "1s", "frequency": HZ}}).start() as one,
        running([sys.executable, "-c", script, workload("split")], **pipes) as parent,
    ):
        wait_for(lambda: (row := one.targets().get(parent.pid)) and row["lane"] == "python" and row["samples"], "its Python")
        assert parent.stdin and parent.stdout
        worker = one.worker("python")["pid"]
        try:
            for _ in range(5):
                os.kill(worker, signal.SIGSTOP)
                parent.stdin.write(b"\n")
                parent.stdin.flush()
                children += [int(parent.stdout.readline()) for _ in range(4)]
                time.sleep(0.1)
                os.kill(worker, signal.SIGCONT)
                time.sleep(0.1)
            become_native(one, *children)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
        assert one.stop() == 0
