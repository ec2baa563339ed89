"""A worker that misbehaves in the place of one of ours: what it tries fails, is logged with its cause, nobody notices.

hostile_worker.c is what they are made from. Each runs in a directory of workers in which all others are the real ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import BIN, Service, alive, check_profile_pair, descendants, running, wait_for

HOSTILE = Path(os.environ.get("BULKHEAD_HOSTILE", harness.WORKLOADS.parent / "hostile")).resolve()
WORKERS = ("opener", "sampler", "native", "merge", "python", "java")

SIGNAL, PROTOCOL, SANDBOX, EXIT = {"signal"}, {"protocol"}, {"sandbox"}, {"exit"}
REQUESTS = {"requests", "protocol"}
DEADLINE = {"deadline", "lag", "start"}
SOON: harness.Config = {"snapshot": {"interval": "1s", "deadline": "3s"}}


@dataclass(frozen=True)
class Case:
    action: str
    causes: set[str]
    """Any of these must become the worker's last_cause; empty: it need not end."""
    place: str = "native"
    log: str = ""
    """Must be in the supervisor's log."""

    def __str__(self) -> str:
        return f"{self.place}.{self.action}"

    @property
    def config(self) -> harness.Config:
        """The others must not notice, nor be killed because the machine stalled: nobody can be late where no snapshot ends before the last
        one. Where the end of a snapshot is a part of the attack, the deadline is longer than a stall."""
        at_mark = self.place != "native" and "mark" in self.action  # native reaches it with its first stream
        return SOON if at_mark or self.causes & DEADLINE else {"snapshot": {"interval": "60s", "deadline": "1s"}}


SYSTEM_CALLS = """
    open open_mem openat2 execve fork vfork socket unix_socket connect ptrace kill pidfd_open mount process_vm_readv
    unshare setuid chmod ioctl bpf perf_event_open io_uring memfd executable_memory mprotect dumpable foreign_abi
    open_when_started
""".split()
BAD_FRAMES = """
    ready_twice frame_of_another_worker frame_of_the_supervisor frame_of_a_client unknown_frame number_zero garbage
    garbage_after_ready one_byte map_instead_of_array oversize missing_field surplus_field wrong_type negative_number
    bytes_left_over huge_count huge_array deep_nesting fd_announced_only
    release_of_nothing closed_before_mark closed_with_too_much closed_without_counters
    unknown_kind kind_that_is_not_for_asking writes_before_ready
""".split()
FRAMES_WITH_FDS = "fd_with_log fd_unannounced many_fds own_channel_as_fd empty_packet".split()
BAD_SANDBOXES = [
    "no_lockdown",
    "only_uid",
    "no_seccomp",
    "lockdown_as_root",
    "keeps_a_file",
    "keeps_a_directory",
]

CASES = [
    *(Case(action, SIGNAL) for action in SYSTEM_CALLS),
    *(Case(action, PROTOCOL) for action in BAD_FRAMES),
    # Kernels from 6.16 on refuse the fds already at the sender, which then only misses its deadlines.
    *(Case(action, PROTOCOL | DEADLINE) for action in FRAMES_WITH_FDS),
    *(Case(action, SANDBOX) for action in BAD_SANDBOXES),
    # The supervisor's own filter, which its children inherit, knows no such socket.
    Case("keeps_a_socket", SANDBOX | EXIT),
    Case("wrong_version", {"protocol", "sandbox", "start"}),
    # The C library is to fall back to clone: refused, not killed.
    Case("clone3", set(), log=r"hostile: clone3: refused"),
    # Priorities are handed out before the filter; after it, nobody raises himself.
    Case("realtime_99", SIGNAL),
    Case("lease_of_our_own", set(), log=r"hostile: lease_of_our_own: of \d+ processes 0 GRANTED, [1-9]\d* refused"),
    Case("climbing_build_id", set(), log=""),
    Case("flood_of_requests", REQUESTS),
    Case("flood_of_log_lines", set(), log=r"flood"),
    Case("log_with_escapes", set(), log=r"hostile: log_with_escapes: sent|protocol"),
    Case("exit_before_ready", EXIT | {"start", "sandbox"}),
    Case("exit_after_ready", EXIT),
    Case("exit_when_started", EXIT),
    Case("exit_at_mark", EXIT),
    Case("abort", SIGNAL),
    Case("hang_before_ready", DEADLINE),
    Case("close_channel", {"protocol", "exit", "deadline", "signal"}),
    Case("eat_memory", {"memory", "exit", "signal", "deadline"}),
    Case("eat_fds", set(), log=r"hostile: eat_fds: refused"),
    Case("write_to_every_lease", set(), log=r"hostile: write_to_every_lease: refused"),
    *(
        Case(action, SIGNAL, place)
        for place in ("sampler", "merge")
        for action in ("open", "execve", "fork", "socket", "memfd", "abort")
    ),
    *(
        Case(action, PROTOCOL, place)
        for place in ("sampler", "merge")
        for action in ("frame_of_another_worker", "frame_of_the_supervisor", "garbage")
    ),
    *(Case("no_lockdown", SANDBOX, place) for place in ("sampler", "merge")),
    *(Case("exit_when_started", EXIT, place) for place in ("sampler", "merge")),
    *(Case("exit_at_mark", EXIT, place) for place in ("sampler", "merge")),
    *(Case("hang_at_mark", DEADLINE, place) for place in ("sampler", "merge")),
]


@pytest.fixture(scope="session", autouse=True)
def hostile_programs() -> None:
    harness.build(harness.SOURCE / "tests" / "hostile", HOSTILE)


@pytest.fixture
def place_of(directory: Path) -> Callable[[str, str], Path]:
    """A directory of workers with one exchanged."""

    def make(place: str, action: str) -> Path:
        libexec = directory / "libexec"
        libexec.mkdir()
        for name in WORKERS:
            shutil.copy2(BIN / f"bulkhead-{name}", libexec / f"bulkhead-{name}")
        shutil.copy2(HOSTILE / f"{place}.{action}", libexec / f"bulkhead-{place}")
        return libexec

    return make


def start(service: Callable[..., Service], libexec: Path, config: harness.Config = SOON) -> Service:
    one = service(config, libexec)
    # READY=1 may never come with such a worker; an answer on the status socket must.
    one.start(ready=False)
    wait_for(lambda: (one.runtime / "status.sock").exists(), "the status socket")
    return one


def put_in_place(libexec: Path, place: str, program: Path) -> None:
    """The next one that is started there."""
    shutil.copy2(program, libexec / "fresh")
    (libexec / "fresh").rename(libexec / f"bulkhead-{place}")


BRISK: harness.Config = {
    "snapshot": {"interval": "1s", "deadline": "1s"},
    "supervisor": {"backoff_max": "100ms", "spawn_rate": 1000},
}


def check_sum(one: Service) -> None:
    """All profiles together are conserved: what one snapshot's worker left in its lane is in another."""
    total: Counter[str] = Counter()
    for path in one.profiles():
        total.update(check_profile_pair(path, alone=False).counters)
    harness.check_conservation(total)


def counted(path: Path, name: str) -> int:
    return harness.Pprof.read(path).counters.get(name, 0)


@contextlib.contextmanager
def show_log(one: Service) -> Iterator[None]:
    """What the supervisor said, when a test fails."""
    try:
        yield
    except AssertionError:
        print(one.log()[-4000:])
        raise


def answers(one: Service) -> bool:
    try:
        one.status()
        return True
    except AssertionError:
        return False


def post(one: Service, name: str) -> dict[str, Any]:
    """The row of the post, not those of processes that were moved off it."""
    rows = [row for row in one.status()["workers"] if row["name"] == name and "restarts" in row]
    assert len(rows) == 1, rows
    return rows[0]


def others_of(one: Service, place: str) -> dict[str, int]:
    return {row["name"]: row["pid"] for row in one.status()["workers"] if row["name"] != place and row["pid"]}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_attack(case: Case, service: Callable[..., Service], place_of: Callable[[str, str], Path]) -> None:
    libexec = place_of(case.place, case.action)
    with start(service, libexec, case.config) as one, show_log(one):
        wait_for(lambda: answers(one), "an answer on the status socket")
        bystanders = wait_for(
            lambda: len(pids := others_of(one, case.place)) == len(WORKERS) - 1 and pids, "the others to start"
        )
        if case.causes:
            # on a machine that stalls its first end may be another one, before it could do what it is there for
            wait_for(
                lambda: (row := post(one, case.place))["restarts"] >= 1 and row["last_cause"] in case.causes,
                f"{case} to be ended by one of {case.causes}",
            )
            said = [line for line in one.log().splitlines() if case.place in line]
            assert any(cause in line or "signal" in line for line in said for cause in case.causes), one.log()[-3000:]
        if case.log:
            wait_for(lambda: re.search(case.log, one.log()), f"{case.log!r} in the log")
        check_unharmed(one, case, bystanders)
        pids = descendants(one.pid)
        assert one.stop() == 0, one.log()[-2000:]
    wait_for(lambda: not any(alive(pid) for pid in pids), "the workers to end after their supervisor", patience=10)
    log = one.log()
    assert "ALLOWED" not in log and not re.search(r"[1-9]\d* GRANTED|: GRANTED", log), log[-3000:]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", log), "control bytes in the log"
    assert len(log) < 4 << 20, "the log was flooded"


def check_unharmed(one: Service, case: Case, bystanders: dict[str, int]) -> None:
    status = one.status()
    rows = {row["name"]: row for row in status["workers"]}
    for name, pid in bystanders.items():
        assert rows[name]["pid"] == pid and rows[name]["restarts"] == 0, f"{name} noticed:\n{one.log()[-3000:]}"
    assert status["supervisor"]["fds"] < 300 and status["supervisor"]["rss_bytes"] < 64 << 20, status["supervisor"]


def test_hanging_worker_does_not_stop_the_clock(
    service: Callable[..., Service], place_of: Callable[[str, str], Path]
) -> None:
    """Snapshots go on without the native worker, and say who was missing."""
    with start(service, place_of("native", "hang_when_started")) as one:
        files = one.wait_profiles(2)
        missing = [line for path in files for line in harness.Pprof.read(path).profile.missing()]
        assert any("native" in line for line in missing), missing
        harness.share(all("native" in line for line in missing), missing)
        silent = {row["worker"]: row["why"] for row in one.ask("--targets")["silent"]}
        assert silent["native"], silent
        harness.share(len(silent) == 1, silent)
        assert one.stop() == 0


def test_damaged_lane_does_not_hurt_the_sampler(
    service: Callable[..., Service], place_of: Callable[[str, str], Path]
) -> None:
    """The reader's end writes noise over all shared pages while the sampler writes."""
    with start(service, place_of("native", "vandalize_lane")) as one, running([harness.program("split"), "60"]):
        wait_for(lambda: answers(one), "an answer on the status socket")
        pid = one.wait_running("sampler")["sampler"]
        wait_for(
            lambda: "vandalize_lane: done" in one.log() or one.worker("native")["restarts"] > 0,
            "the noise to be written",
        )
        row = one.worker("sampler")
        assert row["pid"] == pid and row["restarts"] == 0, one.log()[-3000:]
        assert one.stop() == 0


def test_a_part_that_was_closed_unread_is_not_counted_twice(
    service: Callable[..., Service], place_of: Callable[[str, str], Path]
) -> None:
    """It says that its part is closed and leaves all of it in the lane, mark and all; the one after it hangs. What merge then
    counts in the lane is of more than one snapshot, and so is what was taken."""
    libexec = place_of("native", "closed_without_counters")
    with service(BRISK, libexec).start(ready=False) as one, running([harness.program("split"), "60"]):
        wait_for(lambda: answers(one), "an answer on the status socket")
        one.wait_profiles(3)
        put_in_place(libexec, "native", HOSTILE / "native.hang_when_started")
        wait_for(lambda: any(counted(path, "missed") for path in one.profiles()), "its part to be given up")
        put_in_place(libexec, "native", BIN / "bulkhead-native")
        one.wait_running("native")
        one.wait_profiles(3)
        assert one.stop() == 0, one.log()[-3000:]
    check_sum(one)


def test_a_lost_snapshot_takes_its_samples_with_it(
    service: Callable[..., Service], place_of: Callable[[str, str], Path]
) -> None:
    """Merge dies of it twice. The reader of the lane hangs, and what it had not read is not in the next one either."""
    libexec = place_of("native", "hang_when_started")
    shutil.copy2(HOSTILE / "merge.exit_at_mark", libexec / "bulkhead-merge")
    with service(BRISK, libexec).start(ready=False) as one, running([harness.program("split"), "60"]):
        wait_for(lambda: answers(one), "an answer on the status socket")
        wait_for(lambda: one.log().count("is lost: merge died of it twice") >= 2, "two snapshots to be lost")
        put_in_place(libexec, "merge", BIN / "bulkhead-merge")
        wait_for(lambda: any(counted(path, "missed") for path in one.profiles()), "its part to be given up")
        put_in_place(libexec, "native", BIN / "bulkhead-native")
        one.wait_running("native")
        one.wait_profiles(3)
        assert one.stop() == 0, one.log()[-3000:]
    check_sum(one)
    for path in one.profiles():
        profile = check_profile_pair(path, alone=False)
        possible = 99 * len(os.sched_getaffinity(0)) * profile.profile.duration_nanos / 1e9
        taken = profile.counters.get("taken", 0)  # a stop that comes right after a snapshot ends one of no samples
        assert taken <= 1.2 * possible + 10, (path.name, possible, profile.counters)


def test_garbage_in_a_stream_is_counted(service: Callable[..., Service], place_of: Callable[[str, str], Path]) -> None:
    """Merge stops at the first bad record and says so; it does not crash."""
    with start(service, place_of("native", "garbage_in_stream")) as one:
        wait_for(lambda: "garbage_in_stream: done" in one.log(), "the stream to be written")
        pid = one.wait_running("merge")["merge"]
        # maybe of the snapshot after the one that is being closed
        wait_for(lambda: any(counted(path, "bad_stream") for path in one.profiles()), "a bad stream in a profile's counters")
        row = one.worker("merge")
        assert row["pid"] == pid and row["restarts"] == 0, one.log()[-3000:]
        assert one.stop() == 0


def test_recovers_when_the_real_one_is_back(
    service: Callable[..., Service], place_of: Callable[[str, str], Path]
) -> None:
    """Once the executable is good again, the next start makes the service whole: nothing of the bad time sticks."""
    libexec = place_of("native", "exit_when_started")
    with start(service, libexec) as one, running([harness.program("split"), "60"]):
        wait_for(lambda: answers(one) and one.worker("native")["restarts"] >= 2, "some restarts")
        put_in_place(libexec, "native", BIN / "bulkhead-native")
        one.wait_running("native")
        one.wait_profiles(3)
        assert one.stop() == 0
    profile = check_profile_pair(one.profiles()[-2])  # the last one was cut short
    harness.share(profile.counters.get("complete", 0) > 20, profile.counters)
