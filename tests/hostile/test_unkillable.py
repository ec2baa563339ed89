"""A worker that SIGKILL does not end: it reads a page of a file system whose daemon does not answer (law 5).

fuse_stall.c is that daemon, fuse_target.c the processes that have such pages. What may be read is on a list of ranges, so
an honest process cannot bring this about; one that changes its memory behind the list can.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import PATIENCE, Pprof, Service, check_profile_pair, running, share, wait_for
from test_hostile import post

HOSTILE = Path(os.environ.get("BULKHEAD_HOSTILE", harness.WORKLOADS.parent / "hostile")).resolve()
QUARANTINE_MAX = 8  # supervisor.h
FILE_BYTES = 1 << 20
ATTEMPTS = 8
NOT_READ = r"\[not read: its memory hung a reader\]"


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/fuse here")
    names = ("fuse_stall", "fuse_target", "native.hang_in_file")
    harness.build(harness.SOURCE / "tests" / "hostile", HOSTILE, *(str(HOSTILE / name) for name in names))


class Lines:
    """What a process says, line by line; and how it is told something."""

    def __init__(self, *command: str | Path) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.said: list[str] = []
        self.rest = b""

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")

    def listen(self, seconds: float = 0.0) -> list[str]:
        assert self.process.stdout
        while select.select([self.process.stdout], [], [], seconds)[0]:
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                break
            *lines, self.rest = (self.rest + got).split(b"\n")
            self.said += [line.decode() for line in lines]
        return self.said

    def wait_said(self, start: str, times: int = 1) -> None:
        wait_for(
            lambda: sum(line.startswith(start) for line in self.listen(0.01)) >= times, f"{start!r} of {self.process.args}"
        )

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


class Daemon(Lines):
    """One mounted file, of the bytes of a program, whose pages come until they do not."""

    def __init__(self, place: Path, program: Path) -> None:
        self.mount = place / "mnt"
        self.mount.mkdir(parents=True)
        self.file = self.mount / "file"
        source = place / "source"
        shutil.copyfile(program, source)
        os.truncate(source, max(FILE_BYTES, source.stat().st_size))
        super().__init__(HOSTILE / "fuse_stall", self.mount, source)
        self.wait_said("ready")

    def stall(self) -> None:
        self.tell("stall")
        self.wait_said("stalled")

    def go_on(self) -> None:
        self.tell("go")
        self.wait_said("gone on")

    def holding(self) -> int:
        return sum(line.startswith("holding") for line in self.listen())

    def close(self) -> None:
        self.end()  # the kernel fails what waits for it
        subprocess.run(["umount", "-l", str(self.mount)], capture_output=True)


@pytest.fixture
def daemon(directory: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons; none outlives its test, nor does anybody who waits for one."""
    made: list[Daemon] = []

    def make(program: Path | None = None) -> Daemon:
        made.append(Daemon(directory / f"fuse{len(made)}", program or harness.program("split")))
        return made[-1]

    yield make
    for one in made:
        one.close()


@contextlib.contextmanager
def target(how: str, file: Path) -> Iterator[Lines]:
    one = Lines(HOSTILE / "fuse_target", how, file)
    try:
        one.wait_said("ready")
        yield one
    finally:
        one.end()


# Who hangs is noticed after two thirds of it, not by its lane, and who is only held up by the machine is not taken for one who hangs.
DEADLINE_S = 5
CONFIG: harness.Config = {
    "snapshot": {"interval": "2s", "deadline": f"{DEADLINE_S}s"},
    "worker native": {"lag": "30s"},
    "supervisor": {"pressure": "no"},  # or its full lane has the rate lowered, on a machine that is short of CPU
}


def start(service: Callable[..., Service]) -> Service:
    return service(CONFIG).start()


def check_hastened(one: Service, pid: int) -> None:
    """What is to die gets the CPU for it: seen here, where it lives on. A supervisor that is not urgent itself hurries nobody."""
    group = Path(f"/proc/{pid}/autogroup")
    nice = os.getpriority(os.PRIO_PROCESS, one.pid)
    if nice < 0 and group.exists() and group.read_text():
        assert group.read_text().endswith(f" nice {nice}\n"), group.read_text()


def quarantined(one: Service) -> list[dict[str, Any]]:
    return [row for row in one.status()["workers"] if row["state"] == "quarantined"]


def wait_quarantined(one: Service, count: int) -> list[dict[str, Any]]:
    end = time.monotonic() + PATIENCE
    while len(rows := quarantined(one)) < count:
        assert time.monotonic() < end, f"nobody was quarantined:\n{one.log()[-3000:]}"
        time.sleep(0.05)
    return rows


def wait_post_running(one: Service, name: str) -> int:
    def pid() -> int:
        row = post(one, name)
        return row["pid"] if row["state"] == "running" else 0

    return wait_for(pid, f"{name} to run:\n{one.log()[-2000:]}")


def threads_in_d(pid: int) -> list[str]:
    """Where in the kernel its uninterruptible threads are. Its main thread is a zombie by then."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            if (task / "stat").read_text().rpartition(")")[2].split()[0] == "D":
                found.append((task / "wchan").read_text())  # filemap_fault: in a page of a file
    return found


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def ledger(one: Service) -> list[dict[str, Any]]:
    import json

    done = subprocess.run(one.status_command("--ledger"), capture_output=True, text=True, timeout=PATIENCE)
    return json.loads(done.stdout)["rows"]


def human(one: Service) -> str:
    command = [part for part in one.status_command() if part != "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE).stdout


def fds_of(one: Service) -> int:
    """Of the supervisor, between two snapshots."""
    return min(one.status()["supervisor"]["fds"] for _ in range(40) if not time.sleep(0.05))


def wait_read(one: Service, racer: Lines) -> None:
    """Until its stack is known as anonymous memory: it is in a profile with what only a read of the stack can tell."""
    pid = racer.process.pid
    end = time.monotonic() + PATIENCE
    while not ((files := one.profiles()) and Pprof.read(files[-1]).of(pid).count("on_own_stack;spin_in_place")):
        chains = Pprof.read(files[-1]).of(pid).chains() if files else {}
        assert time.monotonic() < end, f"the target is not in the profile: {chains}\n{one.log()[-3000:]}"
        time.sleep(0.1)


def race(one: Service, racer: Lines, file_system: Daemon) -> int:
    """The native worker's process, once it hangs in the memory of the racer. The race can be lost: when the worker happens
    to look at the maps between the change and the next sample, the list is right again."""
    wait_post_running(one, "native")
    wait_read(one, racer)
    for attempt in range(ATTEMPTS):
        racer.tell("now")
        racer.wait_said("mapped", attempt + 1)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            pid = post(one, "native")["pid"]
            if pid and file_system.holding() and "filemap_fault" in threads_in_d(pid):
                return pid
            time.sleep(0.02)
        racer.tell("back")
        time.sleep(1.5)
        if sum(line == "back" for line in racer.listen()) <= attempt:
            pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
            others = [pid for pid in pids if "filemap_fault" in threads_in_d(pid) and pid != post(one, "native")["pid"]]
            assert others, one.log()[-2000:]
            pytest.skip(f"another profiler of this machine was first and hangs in the racer's memory: {others}")
        print(f"attempt {attempt + 1}: the list was right again in time")
    # Nobody was hung: then there is nothing to contain. That the race can be won is shown by the runs that do not end here.
    pytest.skip(f"the race was lost {ATTEMPTS} times")


def sum_of_profiles(one: Service) -> Counter[str]:
    total: Counter[str] = Counter()
    for path in one.profiles():
        total.update(check_profile_pair(path, alone=False).counters)
    return total


def test_honest_mapping_hangs_nobody(service: Callable[..., Service], daemon: Callable[..., Daemon]) -> None:
    """Pages of the file right above the stack, and nobody asks the daemon for one: they are not on the list."""
    file_system = daemon()
    with service().start() as one, target("honest", file_system.file) as honest:
        pid = one.wait_running("native")["native"]
        file_system.stall()
        begin = len(one.profiles())
        one.wait_profiles(4)
        row = post(one, "native")
        assert row["pid"] == pid and row["restarts"] == 0, one.log()[-2000:]
        assert not quarantined(one) and not one.status()["avoided"]
        assert not file_system.holding(), "a page of the file was read"
        profiles = [check_profile_pair(path).of(honest.process.pid) for path in one.profiles()[begin + 1 :]]
        assert one.stop() == 0
    stacks = harness.Folded(sum((each.stacks for each in profiles), Counter()))
    share(stacks.count("on_own_stack;spin_in_place") >= 0.9 * stacks.total > 0, stacks.chains())


@pytest.mark.parametrize("how", ["code", "executed"])
def test_program_on_such_a_file_system_is_not_opened(
    service: Callable[..., Service], daemon: Callable[..., Daemon], how: str
) -> None:
    """Mapped executable, or running from there: the opener refuses by the type of the file system, and never waits."""
    file_system = daemon()
    command = [HOSTILE / "fuse_target", "code", file_system.file] if how == "code" else [file_system.file, "60"]
    with service().start() as one, running(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        harness.wait_until_warm(process.pid)
        file_system.stall()
        before = one.wait_running("native", "opener")
        one.wait_profiles(3)
        assert one.wait_running("native", "opener") == before
        assert not file_system.holding(), "a page of the file was read"
        assert not one.status()["avoided"] and "an order hangs" not in one.log()
        stacks = check_profile_pair(one.profiles()[-1]).of(process.pid)
        share(stacks.total > 0, "it has no samples")  # how many there are is the machine's affair, here and below
        # a name of its own functions could only come from the file
        assert how == "code" or not stacks.count("spin"), stacks.chains()
        share(how != "code" or stacks.count("spin"), stacks.chains())
        assert one.stop() == 0


@pytest.mark.parametrize("release", ["answers", "dies"])
def test_racer_costs_one_worker(
    service: Callable[..., Service], daemon: Callable[..., Daemon], release: str
) -> None:
    file_system = daemon()
    with (
        start(service) as one,
        target("racer", file_system.file) as racer,
        running([harness.program("split"), "120"]) as bystander,
    ):
        one.wait_profiles(1)  # until each worker has its doorbell and its rings: it has not when the service is ready
        fds = fds_of(one)
        file_system.stall()
        old = race(one, racer, file_system)
        begin = time.monotonic()

        # It is noticed, and is really one that SIGKILL does not end.
        rows = wait_quarantined(one, 1)
        noticed = time.monotonic() - begin
        new = wait_post_running(one, "native")
        replaced = time.monotonic() - begin
        assert [row["pid"] for row in rows] == [old] and new != old
        places = threads_in_d(old)
        assert places, "it should hang in the kernel"
        check_hastened(one, old)
        assert replaced < 4 * DEADLINE_S, f"noticed after {noticed:.1f} s, replaced after {replaced:.1f} s"
        print(f"quarantined after {noticed:.1f} s, replaced after {replaced:.1f} s, in D at {places}")

        # It says so, in plain words.
        pid, began = racer.process.pid, start_time(racer.process.pid)
        assert rows[0]["hangs_in"] == [pid] and rows[0]["last_cause"] == "deadline", rows
        assert [(row["pid"], row["start_time"], row["hang_in_it"]) for row in one.status()["avoided"]] == [(pid, began, 1)]
        words = f"native: process {old} hangs in the kernel, in the memory of {pid}: quarantined, since it cannot be killed"
        assert words in one.status()["problems"] and words in human(one), human(one)
        assert f"process {pid} (started {began} ticks after boot): memory not read" in human(one)
        assert f"native: process {old} does not end: quarantined, a replacement starts" in one.log()
        assert f"native: process {old} hangs in the memory of process {pid}" in one.log()
        assert [row for row in ledger(one) if row["owner"] == "quarantine" and row["kind"] == "process"]

        # The replacement does not hang in the same memory, and everyone else is profiled on.
        held = file_system.holding()
        one.wait_profiles(4)
        row = post(one, "native")
        assert (row["pid"], row["restarts"], row["state"]) == (new, 1, "running"), one.log()[-3000:]
        assert file_system.holding() == held and len(quarantined(one)) == 1
        profile = check_profile_pair(one.profiles()[-1])
        stacks = profile.of(pid)
        assert stacks.total == stacks.count(NOT_READ), stacks.chains()
        assert profile.counters["unreadable"] >= stacks.total
        share(stacks.total > 0 and profile.of(bystander.pid).count("main;") > 0, (stacks.chains(), profile.of(bystander.pid).chains()))
        # Another process of the same program is not put off with it: its file is asked for anew.
        with target("honest", file_system.file) as other:
            wait_read(one, other)

        # The daemon lets go, or its death does: the process is reaped, the books balance.
        file_system.go_on() if release == "answers" else file_system.end()
        wait_for(lambda: not quarantined(one), "the quarantined process to be reaped")
        assert not Path(f"/proc/{old}").exists()
        assert not [row for row in ledger(one) if row["owner"] == "quarantine"]
        assert f"native: quarantined process {old} has ended at last" in one.log()
        status = one.status()
        assert status["ledger"]["quarantined_ever"] == 1 and status["healthy"], status["problems"]
        assert [(row["pid"], row["hang_in_it"]) for row in status["avoided"]] == [(pid, 0)]
        assert 0 < status["avoided"][0]["for_s"] <= 600
        wait_for(lambda: fds_of(one) <= fds, f"fds to be {fds} again, not {fds_of(one)}")
        assert one.stop() == 0
    total = sum_of_profiles(one)
    harness.check_conservation(total)
    share(total["taken"] > 300, total)


def test_locked_memory_does_not_kill_one_worker_after_the_other(
    service: Callable[..., Service], daemon: Callable[..., Daemon]
) -> None:
    """Somebody else hangs in a page of the target and has the lock on its memory: our readers wait for that, and SIGKILL
    ends them. Their successors must not wait for it again, until the post is in backoff for a minute."""
    file_system = daemon()
    with start(service) as one, target("locker", file_system.file) as locker:
        pid = locker.process.pid
        file_system.stall()
        wait_read(one, locker)
        old = wait_post_running(one, "native")
        locker.tell("now")
        locker.wait_said("mapped")
        wait_for(lambda: one.status()["avoided"], f"the target to be avoided\n{one.log()[-2000:]}")
        assert [(row["pid"], row["hang_in_it"]) for row in one.status()["avoided"]] == [(pid, 0)]
        assert f"native: a read of the memory of process {pid} hung" in one.log()
        new = wait_for(lambda: (now := wait_post_running(one, "native")) != old and now, "a replacement")
        one.wait_profiles(4)
        assert post(one, "native")["pid"] == new and not quarantined(one), one.log()[-3000:]
        stacks = Pprof.read(one.profiles()[-1]).of(pid)
        assert stacks.total == stacks.count(NOT_READ), stacks.chains()
        assert one.stop() == 0
    harness.check_conservation(sum_of_profiles(one))
    share(stacks.total > 0, "it has no samples")


def test_service_ends_without_waiting_for_the_quarantined(
    service: Callable[..., Service], daemon: Callable[..., Daemon]
) -> None:
    file_system = daemon()
    with start(service) as one, target("racer", file_system.file) as racer:
        file_system.stall()
        old = race(one, racer, file_system)
        wait_quarantined(one, 1)
        wait_post_running(one, "native")
        begin = time.monotonic()
        assert one.stop(signal.SIGTERM) == 0
        assert time.monotonic() - begin < 4 * DEADLINE_S  # the daemon would let it wait for ever
        assert threads_in_d(old)
        file_system.end()
        wait_for(lambda: not threads_in_d(old), "it to end with the daemon")


def test_no_more_than_eight_are_kept_beside(
    service: Callable[..., Service], daemon: Callable[..., Daemon], directory: Path
) -> None:
    """Nine workers hang one after the other: the ninth stays in its post, which is empty of work until the daemon answers."""
    file_system = daemon()
    libexec = directory / "libexec"
    libexec.mkdir()
    for program in harness.BIN.glob("bulkhead-*"):
        shutil.copy2(program, libexec)
    (libexec / "stalled").symlink_to(file_system.file)
    config = harness.merged(CONFIG, {"supervisor": {"backoff_max": "100ms"}})
    with service(config, libexec).start() as one:
        pids = one.status()["ledger"]["pids"]
        file_system.stall()
        real = libexec / "bulkhead-native"
        real.rename(libexec / "real")
        shutil.copy2(HOSTILE / "native.hang_in_file", real)
        one.kill_worker("native")

        # Each has 5 s to start, and 1 s to end.
        def hanging() -> bool:
            return len(quarantined(one)) == QUARANTINE_MAX + 1

        wait_for(hanging, f"nine to hang:\n{one.log()[-3000:]}", patience=(QUARANTINE_MAX + 1) * 15)
        row = post(one, "native")
        assert row["state"] == "quarantined" and row["pid"], row
        assert f"native: process {row['pid']} does not end, and {QUARANTINE_MAX} others before it did not" in one.log()
        words = f"native is not running: its process {row['pid']} cannot be killed, and {QUARANTINE_MAX} others could not before it"
        assert any(words in problem for problem in one.status()["problems"]), one.status()["problems"]
        processes = [row for row in ledger(one) if row["kind"] == "process"]
        assert len(processes) == pids + QUARANTINE_MAX, processes
        before = len(one.profiles())
        one.wait_profiles(2)  # the others work on
        assert post(one, "native")["pid"] == row["pid"] and len(one.profiles()) > before

        real.unlink()
        (libexec / "real").rename(real)
        file_system.go_on()
        wait_for(lambda: not quarantined(one), f"all of them to be reaped:\n{one.log()[-3000:]}")
        wait_post_running(one, "native")
        status = one.status()
        # the ninth moves to the first place that is free, if it has not ended by then
        assert status["ledger"]["pids"] == pids, status["ledger"]
        assert QUARANTINE_MAX <= status["ledger"]["quarantined_ever"] <= QUARANTINE_MAX + 1, status["ledger"]
        assert not [row for row in ledger(one) if row["owner"] == "quarantine"]
        one.wait_profiles(2)
        problems = one.status()["problems"]
        assert not [words for words in problems if "native" in words], problems
        assert one.stop() == 0
