"""Handover: a worker killed at any moment costs nothing that had been taken, and nobody outlives the supervisor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from harness import (
    Config,
    Pprof,
    Service,
    alive,
    check_conservation,
    check_profile_pair,
    descendants,
    running,
    share,
    wait_for,
)

# The rate is not to follow what else the machine does: the tests below count samples.
STEADY: Config = {"supervisor": {"pressure": "no"}}
WORKERS = ("opener", "sampler", "native", "merge")


@pytest.fixture
def busy(workload: Callable[..., object]) -> Iterator[None]:
    with ExitStack() as stack:
        for name in ("split", "threads", "syscalls"):
            stack.enter_context(running([str(workload(name)), "120"]))
        yield


def check_snapshots(one: Service, frequency: int, alone: bool = True) -> list[dict[str, int]]:
    """All files so far; the last ones are like the ones before the killing."""
    counters = [check_profile_pair(path, alone).counters for path in one.profiles()]
    total: dict[str, int] = {}
    for row in counters:
        for name, n in row.items():
            total[name] = total.get(name, 0) + n
    check_conservation(total)
    # The very last one was cut short by the end.
    for row in counters[-3:-1]:
        share(row["taken"] > frequency, row)
    for path in one.profiles()[-3:-1]:
        ours = [sample for sample in Pprof.read(path).profile.samples if sample.labels.get("comm") in ("split", "threads", "syscalls")]
        total = sum(sample.values["samples"] for sample in ours)
        whole = sum(sample.values["samples"] for sample in ours if "stack" not in sample.labels)
        share(whole > 0.8 * total > 0, f"{whole} of {total} samples of our own programs are whole")
    return counters


def test_native_killed_in_mid_snapshot(service: Callable[..., Service], busy: None) -> None:
    """Every sample that waited in its lane is in the profile, again and again."""
    with service({"snapshot": {"interval": "3s", "frequency": 199}, **STEADY}).start() as one:
        one.wait_profiles(1)
        bystanders = one.wait_running("opener", "sampler", "merge")
        for _ in range(3):
            time.sleep(0.7)  # somewhere in a snapshot: the point is that it does not matter where
            one.wait_restarted("native", one.kill_worker("native"))
        one.wait_profiles(3)
        assert one.wait_running("opener", "sampler", "merge") == bystanders, "others restarted too"
        row = one.worker("native")
        assert row["restarts"] >= 3 and row["last_cause"] == "signal", row
        assert one.stop() == 0
    # The samples that waited are there: unwound from what they carry.
    assert all(Pprof.read(path).counters.get("lane_full", 0) == 0 for path in one.profiles())
    counters = check_snapshots(one, 199)
    share(sum(row["taken"] for row in counters) >= 0.5 * 199 * 3 * len(counters), counters)


@pytest.mark.parametrize("name", ["sampler", "merge", "opener"])
def test_other_worker_killed(name: str, service: Callable[..., Service], busy: None) -> None:
    with service({"snapshot": {"interval": "2s", "frequency": 199}, **STEADY}).start() as one:
        one.wait_profiles(1)
        bystanders = one.wait_running(*(other for other in WORKERS if other != name))
        for _ in range(2):
            time.sleep(0.5)  # as above
            one.wait_restarted(name, one.kill_worker(name))
        one.wait_profiles(3)
        assert one.wait_running(*bystanders) == bystanders, "others restarted too"
        row = one.worker(name)
        assert row["restarts"] >= 2 and row["last_cause"] == "signal", row
        assert one.stop() == 0
    check_snapshots(one, 199)


def test_a_sampler_that_waits_for_its_start_costs_the_others_nothing(service: Callable[..., Service], busy: None) -> None:
    """It was killed so often that its next start is seconds away, and a snapshot ends: nobody else is killed for a mark that nobody made."""
    with service({"snapshot": {"interval": "60s", "deadline": "3s"}, **STEADY}).start() as one:
        bystanders = one.wait_running("opener", "native", "merge")
        for _ in range(7):
            one.wait_restarted("sampler", one.kill_worker("sampler"))
        one.kill_worker("sampler")
        wait_for(lambda: one.worker("sampler")["state"] == "backoff", "the sampler to wait")
        assert one.order("snapshot").returncode == 0
        (path,) = wait_for(one.profiles, "its profile")
        assert one.wait_running(*bystanders) == bystanders, "others restarted too"
        assert one.stop() == 0
    profile = check_profile_pair(path)
    assert not profile.profile.missing(), profile.profile.missing()


def test_merge_killed_while_it_writes(service: Callable[..., Service], busy: None) -> None:
    """Killed whenever it is seen to work: each snapshot's files are complete or not there."""
    with service({"snapshot": {"interval": "1s", "frequency": 199}, **STEADY}).start() as one:
        one.wait_profiles(1)
        for _ in range(4):
            time.sleep(0.4)  # as above
            one.wait_restarted("merge", one.kill_worker("merge"))
        one.wait_profiles(3)
        assert one.stop() == 0
    assert not list(one.output.glob(".*")), "something half-written stayed"
    check_snapshots(one, 199)


def test_leases_of_the_dead_are_gone(service: Callable[..., Service], busy: None) -> None:
    """A worker's rows in the ledger end with it: killing does not make the supervisor's fds grow."""
    with service({"snapshot": {"interval": "1s"}, **STEADY}).start() as one:
        one.wait_profiles(2)
        before = one.status()
        for _ in range(5):
            one.wait_restarted("native", one.kill_worker("native"))
        one.wait_profiles(3)

        def as_before() -> bool:
            """At one instant a snapshot may be closing, and other programs of this machine come and go; a leak stays."""
            after = one.status()
            return (
                after["supervisor"]["fds"] <= before["supervisor"]["fds"] + 8
                and after["ledger"]["fds"] <= before["ledger"]["fds"] + 40
            )

        wait_for(as_before, f"the fds to become as few as before: {before['supervisor']} {before['ledger']}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT])
def test_nobody_outlives_the_supervisor(how: signal.Signals, service: Callable[..., Service]) -> None:
    with service().start() as one:
        one.wait_profiles(1)
        workers = descendants(one.pid)
        assert len(workers) >= len(WORKERS), workers
        os.kill(one.pid, how)
        # At once, but a core file may be written first, and rings of memory are taken apart.
        wait_for(
            lambda: not any(alive(pid) for pid in workers), "the workers to end after their supervisor", patience=10
        )


def test_stopped_worker_keeps_nobody_waiting(service: Callable[..., Service], busy: None) -> None:
    """The native worker stands still: snapshots go on without it; then it is replaced, or goes on."""
    with service({"snapshot": {"interval": "1s", "deadline": "3s"}, **STEADY}).start() as one:
        one.wait_profiles(1)
        pid = one.wait_running("native")["native"]
        os.kill(pid, signal.SIGSTOP)
        try:
            files = one.wait_profiles(2)
        finally:
            if alive(pid):
                os.kill(pid, signal.SIGCONT)
        told = [line for path in files for line in Pprof.read(path).profile.missing()]
        assert any("native" in comment for comment in told), f"no profile says that native was missing: {told}"
        one.wait_running("native")
        one.wait_profiles(3)  # the first of them may have begun while it stood still
        assert one.stop() == 0
    check_snapshots(one, 99, alone=False)


def test_stopped_merge_costs_no_snapshot(service: Callable[..., Service], busy: None) -> None:
    """It stands still when it is to write: it is replaced at its deadline, and the successor writes the same files."""
    with service({"snapshot": {"interval": "1s", "deadline": "5s"}, **STEADY}).start() as one:
        one.wait_profiles(1)
        pid = one.wait_running("merge")["merge"]
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: one.worker("merge")["last_cause"] == "deadline", "the merge worker to be replaced")
        one.wait_profiles(2)
        assert one.status()["snapshot"]["failed"] == 0
        assert one.stop() == 0
    check_snapshots(one, 50, alone=False)
