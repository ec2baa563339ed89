"""Budgets: workers that go over one of them, each by each, beside real ones that must not notice."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import BIN, Service, check_conservation, running, wait_for, wait_until_warm
from test_hostile import HOSTILE, WORKERS, answers, hostile_programs, others_of, show_log  # noqa: F401

Keys = dict[str, str | int]


@dataclass
class Breach:
    """What a worker does, the budget that it meets, and what has to become of it."""

    action: str
    budget: Keys
    causes: set[str]
    log: str = ""
    recycles: bool = False  # by a successor, and not by a kill
    place: str = "native"
    more: harness.Config = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.place}.{self.action}"


# What has to grow, or to get its share of a busy CPU, before it is over its budget.
SLOW: harness.Config = {"snapshot": {"deadline": "40s"}}
# Each end by the leash counts as the first: real time is not taken from it.
FORGIVEN: harness.Config = {"supervisor": {"backoff_forget": "0"}}
SMALL: Keys = {"memory": "48M", "memory_recycle": "32M", "memory_shed": "16M", "memory_per_cpu": 0}
BREACHES = [
    # A leak that is faster than any polling meets RLIMIT_DATA, a slower one the polling. On a busy machine none is that fast.
    Breach("eat_memory", SMALL | {"memory_recycle": "48M", "memory_shed": "48M"}, {"memory"}, more=SLOW),
    Breach("leak_to_recycle", SMALL | {"memory": "1G", "memory_recycle": "24M"}, {"memory"}, recycles=True, more=SLOW),
    Breach("leak_to_recycle", SMALL | {"memory_recycle": "48M", "memory_shed": "48M"}, {"memory"}, log="KiB of memory, its budget",
           more=SLOW),
    Breach("leak_slowly", {"memory": "64M", "memory_recycle": "64M", "memory_shed": "64M", "creep_window": "6s"}, {"creep"},
           recycles=True, more=SLOW),
    Breach("spin", {"cpu_percent": 20, "cpu_percent_per_cpu": 0}, {"cpu"}, more=SLOW),
    Breach("spin_realtime", {}, {"leash"}, more=FORGIVEN),
    Breach("many_threads", {"processes": 4}, {"processes"}, log="threads, its budget"),
    Breach("eat_fds", {"fds": 600}, set(), log="hostile: eat_fds: refused"),
    Breach("hold_leases", {"fds": 600}, set(), log=r"hostile: hold_leases: refused after \d+ leases: Too many open files"),
    Breach("fill_stream", {"output": "4M"}, {"output"}),
    Breach("flood_of_requests", {"requests_per_s": 2000}, {"requests"}, more=SLOW),
    Breach("answer_twice", {}, set(), log="answered twice"),
    Breach("hang_when_started", {"lag": "500ms"}, {"lag", "deadline"}, more={"snapshot": {"frequency": 999}}),
    Breach("exit_when_started", {"lifetime": "1s"}, {"exit"}),
]  # fmt: skip


def place_of(directory: Path, breach: Breach) -> Path:
    libexec = directory / "libexec"
    libexec.mkdir()
    for name in WORKERS:
        shutil.copy2(BIN / f"bulkhead-{name}", libexec / f"bulkhead-{name}")
    shutil.copy2(HOSTILE / str(breach), libexec / f"bulkhead-{breach.place}")
    return libexec


def config_of(breach: Breach) -> harness.Config:
    base: harness.Config = {
        "snapshot": {"interval": "1s", "deadline": "9s"},  # neither the deadline nor a lane that is full is to end it
        "output": {"formats": "pprof folded"},
        "supervisor": {"backoff_max": "500ms"},
        f"worker {breach.place}": {"lag": "0", **breach.budget},
    }
    return harness.merged(base, breach.more)


def replace_with_the_real_one(libexec: Path, name: str) -> None:
    shutil.copy2(BIN / f"bulkhead-{name}", libexec / "fresh")
    (libexec / "fresh").rename(libexec / f"bulkhead-{name}")


def ended(one: Service, breach: Breach) -> dict[str, Any] | None:
    row = one.worker(breach.place)
    count = row["recycles"] if breach.recycles else row["restarts"]
    return row if count >= 1 and row["last_cause"] in breach.causes else None


@pytest.mark.parametrize("breach", BREACHES, ids=str)
def test_breach(breach: Breach, directory: Path, service: Callable[..., Service]) -> None:
    """The right cause; the others do not notice; and with the real worker back nothing of it stays."""
    libexec = place_of(directory, breach)
    one = service(config_of(breach), libexec)
    with running([harness.program("split"), "120"]) as split:
        wait_until_warm(split.pid)
        with show_log(one), one.start(ready=False):
            wait_for(lambda: (one.runtime / "status.sock").exists() and answers(one), "an answer on the status socket")
            bystanders = wait_for(lambda: len(pids := others_of(one, breach.place)) == len(WORKERS) - 1 and pids, "the others to start")
            if breach.causes:
                row = wait_for(lambda: ended(one, breach), f"{breach} to be ended")
                assert breach.recycles or row["recycles"] == 0, row
            if breach.log:
                wait_for(lambda: re.search(breach.log, one.log()), f"{breach.log!r} in the log")
            replace_with_the_real_one(libexec, breach.place)
            if not breach.causes:
                one.kill_worker(breach.place)
            wait_for(lambda: is_real(one, breach.place), "the real one to run")
            assert others_of(one, breach.place) == bystanders, f"others were restarted:\n{one.log()[-3000:]}"
            before = len(one.profiles())
            wait_for(lambda: len(one.profiles()) >= before + 4, "profiles with the real one", 60)
            # its lifetime may be the real one's, too, whose successor is there beside it for a moment
            wait_for(lambda: one.status()["ledger"]["pids"] == len(WORKERS), f"no process too many: {one.status()['ledger']}")
            assert one.stop() == 0, one.log()[-2000:]
    profiles = [harness.check_profile_pair(path, alone=False) for path in one.profiles()]
    total: dict[str, int] = {}
    for profile in profiles:
        for name, n in profile.counters.items():
            total[name] = total.get(name, 0) + n
    check_conservation(total)
    # These are all the real worker's. How many samples there are of a program is the machine's affair.
    counts = [(one.of(split.pid).count("main;(seventy|twenty|ten)"), one.of(split.pid).total) for one in profiles[before + 1 : -1]]
    harness.share(sum(right for right, _ in counts) > max(3, 0.8 * sum(total for _, total in counts)), counts)


def is_real(one: Service, name: str) -> bool:
    """The executable is unlinked when it is exchanged: the hostile one's link ends in "(deleted)"."""
    row = one.worker(name)
    try:
        image = str(Path(f"/proc/{row['pid']}/exe").readlink())
    except OSError:
        return False
    return row["state"] == "running" and row["uptime_s"] > 0.5 and not image.endswith("(deleted)")


RATES = (24, 49, 99, 198)  # whole numbers, no less than an eighth


def test_rate_follows_a_lane_that_lags(directory: Path, service: Callable[..., Service]) -> None:
    """CPUs that are short and a reader that does not read: the next snapshot has half the rate, really, and says so."""
    breach = Breach("hang_when_started", {"lag": "0"}, set(), more={"snapshot": {"frequency": 198, "deadline": "2s"}})
    libexec = place_of(directory, breach)
    one = service(config_of(breach), libexec)
    with contextlib.ExitStack() as stack:
        for _ in range(3 * (os.cpu_count() or 1)):
            stack.enter_context(running([harness.program("split"), "120"]))
        wait_for(lambda: float(re.findall(r"some avg10=([0-9.]+)", Path("/proc/pressure/cpu").read_text())[0]) > 25, "pressure")
        stack.enter_context(show_log(one))
        stack.enter_context(one.start(ready=False))
        wait_for(lambda: "sampling at 99 Hz from now on" in one.log(), "a lower rate")
        # after some calm snapshots the rate is back: while nobody reads there are none
        wait_for(lambda: any("short of CPU" in text for text in one.status()["problems"]), "it to say so")
        replace_with_the_real_one(libexec, "native")
        wait_for(lambda: is_real(one, "native"), "the real one to run")
        profiles = [harness.check_profile_pair(path, alone=False) for path in one.wait_profiles(3)]
        assert one.stop() == 0
    rates = [1e9 / profile.profile.period for profile in profiles]
    assert all(any(rate == pytest.approx(known, rel=0.02) for known in RATES) for rate in rates), rates
    harness.share(min(rates) < 150, f"rates {rates}: none is lower than that asked for")
    # A host that takes CPUs away takes samples, too; nothing gives more than the rate.
    profile = max(profiles, key=lambda each: each.profile.period)
    rate, taken = min(rates), profile.counters["taken"]
    hz = taken / (os.cpu_count() or 1) / (profile.profile.duration_nanos / 1e9)
    harness.share(0 < hz < 1.2 * rate, f"{taken} samples are {hz:.1f} Hz, and it says {rate:.1f}")


def test_a_leash_too_short_to_start_in_ends_in_a_plain_priority(directory: Path, service: Callable[..., Service]) -> None:
    """On a machine that is so slow a worker is not started over and over for ever; the operator may have it tried again."""
    breach = Breach("slow_to_start", {}, set())
    libexec = place_of(directory, breach)
    one = service(config_of(breach), libexec)
    with show_log(one), one.start(ready=False):
        row = wait_for(lambda: answers(one) and (row := one.worker("native"))["state"] == "running" and row, "it to run")
        assert not row["realtime"] and row["restarts"] == 3 and row["last_cause"] == "leash", (row, one.log()[-2000:])
        status = wait_for(lambda: (status := one.status()) and not status["realtime"] and status, "it to be said")
        assert any("native has no real-time priority" in text for text in status["problems"]), status["problems"]
        assert one.worker("sampler")["realtime"]
        assert one.log().count("raise realtime_leash in [worker native]") == 1, one.log()[-2000:]
        replace_with_the_real_one(libexec, "native")
        assert one.order("restart", "native").returncode == 0
        wait_for(lambda: (row := one.worker("native"))["state"] == "running" and row["realtime"], "the real one to run, and in real time")
        assert one.stop() == 0


def test_a_worker_on_its_leash_again_and_again_loses_its_priority(directory: Path, service: Callable[..., Service]) -> None:
    """Also one that ran before: the machine is not held up for ever, however often it is started."""
    breach = Breach("spin_realtime", {}, {"leash"})
    libexec = place_of(directory, breach)
    one = service(config_of(breach), libexec)
    with show_log(one), one.start(ready=False):
        wait_for(lambda: one.log().count("raise realtime_leash in [worker native]") == 1, "a plain priority")
        replace_with_the_real_one(libexec, "native")
        wait_for(lambda: answers(one) and is_real(one, "native"), "the real one to run")
        status = one.status()
        assert not one.worker("native", status)["realtime"], status
        assert any("native has no real-time priority" in text for text in status["problems"]), status["problems"]
        assert one.stop() == 0


def test_a_worker_without_its_priority_is_still_recycled(directory: Path, service: Callable[..., Service]) -> None:
    """Its first successor is tried in real time; where the leash ends that, too, the next one has a plain priority as it has."""
    breach = Breach("slow_to_start", {"lifetime": "2s"}, set(), more={"snapshot": {"interval": "60s", "deadline": "60s"}})
    one = service(config_of(breach), place_of(directory, breach))
    with show_log(one), one.start(ready=False):
        row = wait_for(lambda: answers(one) and (row := one.worker("native"))["recycles"] >= 1 and row, "a successor", 60)
        assert row["state"] == "running" and not row["realtime"], (row, one.log()[-2000:])
        assert one.log().count("raise realtime_leash in [worker native]") >= 2, one.log()[-2000:]
        one.stop(signal.SIGKILL)  # asked to, it would wait for what the hostile one never says


def test_the_machine_stays_usable(directory: Path, service: Callable[..., Service]) -> None:
    """A worker that spins at real-time priority on every CPU holds everyone up for as long as its leash is, and no longer."""
    breach = Breach("spin_realtime", {}, {"leash"}, more=FORGIVEN)
    longest = 0.0
    with service(config_of(breach), place_of(directory, breach)).start(ready=False) as one:
        wait_for(lambda: "spinning at real-time priority" in one.log(), "its first end; more follow")
        end = time.monotonic() + 4
        while time.monotonic() < end:
            begin = time.monotonic()
            time.sleep(0.001)
            longest = max(longest, time.monotonic() - begin)
        assert one.stop() == 0
    print(f"longest hold-up: {1000 * longest:.0f} ms")
    harness.share(longest < 0.1, f"nothing else ran for {longest:.3f} s")


def test_a_worker_that_runs_raises_its_alarm(directory: Path, service: Callable[..., Service]) -> None:
    """Memory is looked at five times a second besides, so that only the supervisor's system calls tell whether alarms come."""
    breach = Breach("spin", {"cpu_percent": 10000}, set(), more=SLOW)
    calls = directory / "calls"
    with service(config_of(breach), place_of(directory, breach)).start(ready=False) as one:
        pid = wait_for(lambda: answers(one) and one.status()["supervisor"]["pid"], "the supervisor")
        with running(["strace", "-p", str(pid), "-e", "trace=read", "-o", calls], stderr=-3):
            alarm = rf'read\(\d+, "\\{signal.SIGALRM:o}\\0\\0\\0'  # of its signalfd: a number of 32 bits
            wait_for(lambda: calls.exists() and re.search(alarm, calls.read_text()), "an alarm")
        one.stop(signal.SIGKILL)  # asked to, it would wait for what the hostile one never says
