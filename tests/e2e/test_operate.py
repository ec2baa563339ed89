"""Orders to the running service, and planned recycles: nothing of a profile is lost by either."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from harness import BULKHEAD, PATIENCE, Pprof, Service, check_conservation, check_profile_pair, descendants, running, share, wait_for

WORKERS = ("opener", "sampler", "native", "merge")


@pytest.fixture
def busy(workload: Callable[[str], Path]) -> Iterator[int]:
    """The pid of a program that never sleeps, beside others."""
    with ExitStack() as stack:
        stack.enter_context(running([workload("threads"), "120"]))
        yield stack.enter_context(running([workload("split"), "120"])).pid


def now_ns() -> int:
    """By the clock of the file of waits."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def total_of(one: Service) -> dict[str, int]:
    total: dict[str, int] = {}
    for path in one.profiles():
        for name, n in check_profile_pair(path).counters.items():
            total[name] = total.get(name, 0) + n
    check_conservation(total)
    return total


def test_recycling_loses_no_sample(service: Callable[..., Service], busy: int) -> None:
    """Every worker replaced again and again by a successor that stood by."""
    short = {f"worker {name}": {"lifetime": "2s"} for name in WORKERS}
    with service({"snapshot": {"interval": "2s", "frequency": 199}, "supervisor": {"pressure": "no"}, **short}).start() as one:
        wait_for(lambda: all(one.worker(name)["recycles"] >= 3 for name in WORKERS), "three successors of each", 60)
        # Each with a successor, and the Python worker, which has none.
        most = 2 * len(WORKERS) + 1
        wait_for(lambda: len(descendants(one.pid)) <= most, f"no more than {most} processes")
        wait_for(lambda: one.status()["ledger"]["pids"] <= most, f"no more than {most} pids in the ledger")
        status = one.status()
        for name in WORKERS:
            row = one.worker(name, status)
            assert row["restarts"] == row["recycles"] and row["last_cause"] == "lifetime", f"{row}\n{one.log()}"
        one.wait_profiles(2)
        assert one.stop() == 0
        ours = [Pprof.read(path).of(busy) for path in one.profiles()]
    total = total_of(one)
    assert not any(total.get(name) for name in ("lane_full", "kernel_lost", "missed", "lane_damaged", "malformed")), total
    # What fell into the moment of a hand-over is not as still as the rest; it is a few samples for each.
    # Of a program of ours: what else this machine runs, and how much of that can be walked, is its own affair.
    right, taken = sum(part.count("main;(seventy|twenty|ten)") for part in ours), sum(part.total for part in ours)
    assert not re.search(r"\berror\b", one.log()), one.log()[-3000:]
    share(right > 0.95 * taken > 0, f"{right} of {taken} samples of our program are complete: {total}")


def test_restart(service: Callable[..., Service], busy: int) -> None:
    with service({"snapshot": {"interval": "1s"}}).start() as one:
        one.wait_profiles(1)
        for name in WORKERS:
            before = one.worker(name)["pid"]
            done = one.order("restart", name)
            assert done.returncode == 0 and name in done.stdout, done
            wait_for(lambda: (row := one.worker(name))["pid"] not in (0, before) and row["state"] == "running", name)
            assert one.worker(name)["last_cause"] == "operator"
        assert re.search(r"operator \(uid 0, process \d+\): restart native", one.log())
        one.wait_profiles(2)
        assert one.stop() == 0
    assert not total_of(one).get("missed")


def test_successor_that_stands_by_for_long_takes_over(service: Callable[..., Service]) -> None:
    """Its predecessor does not end when asked; native told its statistics meanwhile, which only one that works may."""
    with service({"snapshot": {"interval": "1s", "deadline": "10s"}}).start() as one:
        one.wait_profiles(1)
        before = one.worker("native")["pid"]
        os.kill(before, signal.SIGSTOP)
        assert one.order("restart", "native").returncode == 0
        wait_for(lambda: (row := one.worker("native"))["pid"] not in (0, before) and row["state"] == "running", "native")
        row = one.worker("native")
        assert (row["restarts"], row["recycles"]) == (1, 1), f"{row}\n{one.log()}"
        assert one.stop() == 0


def test_disabled_worker_is_named_in_the_profile(service: Callable[..., Service], busy: int) -> None:
    """Each sample of the time without the native worker is there, by process, under a frame that says why."""
    with service({"snapshot": {"interval": "1s"}}).start() as one:
        one.wait_profiles(1)
        done = one.order("disable", "native")
        assert done.returncode == 0, done
        wait_for(lambda: one.worker("native")["state"] == "disabled", "the native worker to be disabled")
        time.sleep(0.2)
        files = one.wait_profiles(3)
        assert any("disabled" in text for text in one.status()["problems"])
        assert one.order("disable", "native").returncode == 1
        assert one.order("restart", "native").returncode == 1
        profile = Pprof.read(files[-1])
        assert one.order("enable", "native").returncode == 0
        one.wait_running("native")
        after = one.wait_profiles(3)
        assert one.stop() == 0
    check_conservation(profile.counters)
    assert profile.counters["missed"] > 0.5 * profile.counters["taken"], profile.counters
    # How many samples it has is the machine's affair; what they are is not.
    stacks = profile.of(busy)
    assert stacks.count(r"^\[native: stopped by the operator\]$") >= 0.9 * stacks.total > 0, stacks.stacks
    assert "native: stopped by the operator" in profile.profile.missing()[0]
    last = Pprof.read(after[-1])
    assert not last.counters.get("missed"), last.counters
    total_of(one)
    stacks = last.of(busy)
    right = stacks.count("main;(seventy|twenty|ten)")
    share(right >= 0.8 * stacks.total > 0, f"{right} of {stacks.total}: {last.counters}")


def test_snapshot_now(service: Callable[..., Service], busy: int) -> None:
    with service({"snapshot": {"interval": "60s"}}).start() as one:
        wait_for(lambda: one.status()["snapshot"]["so_far"].get("taken", 0) > 40, "the first samples")
        assert one.order("snapshot").returncode == 0
        files = wait_for(one.profiles, "the file")
        assert check_profile_pair(files[0]).counters["taken"] > 30
        assert one.status()["snapshot"]["id"] == 2
        assert one.stop() == 0


def test_loglevel(service: Callable[..., Service]) -> None:
    with service({"snapshot": {"interval": "1s"}, "supervisor": {"log_level": "warning"}}).start() as one:
        one.wait_profiles(1)
        assert "snapshot 1:" not in one.log()
        assert one.order("loglevel", "info").returncode == 0
        one.wait_profiles(2)
        assert re.search(r"snapshot \d+: \d+ samples", one.log())
        done = one.order("loglevel", "loud")
        assert done.returncode == 1 and "debug" in done.stderr, done
        assert one.stop() == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["restart"], 2, "WORKER"),
        (["restart", "native", "merge"], 2, "one argument"),
        (["restart", "nobody"], 1, "opener, sampler, native, merge"),
        (["snapshot", "now"], 2, "now"),
        (["enable", "native"], 1, "not disabled"),
        (["restart", "x" * 200], 3, "not permitted"),  # the service hangs up on what no command of ours says
    ],
)
def test_orders_that_make_no_sense(words: list[str], code: int, said: str, service: Callable[..., Service]) -> None:
    with service({"snapshot": {"interval": "1s"}}).start() as one:
        done = one.order(*words)
        assert done.returncode == code and said in done.stderr, done
        assert all(one.worker(name)["restarts"] == 0 for name in WORKERS)
        assert one.stop() == 0


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_orders_are_for_root_alone(service: Callable[..., Service], directory: Path) -> None:
    """Who may ask for the status may not give orders."""
    directory.chmod(0o755)
    with service({"supervisor": {"status_group": "adm"}}).start() as one:
        one.directory.chmod(0o755)
        command = [str(BULKHEAD), "disable", "--socket", str(one.runtime / "status.sock"), "native"]
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--groups=adm", "--inh-caps=-all", *command],
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 1 and "only root" in done.stderr, done
        assert one.worker("native")["state"] == "running"
        assert re.search(r"operator \(uid 65534, process \d+\): refused", one.log())
        assert one.stop() == 0


def test_failures_are_remembered_over_a_restart_of_the_supervisor(service: Callable[..., Service]) -> None:
    with service({"snapshot": {"interval": "1s"}}).start() as one:
        one.wait_profiles(1)

        def due_ns() -> int:
            """Killed whenever it runs, until it has to wait for so long that no start of a service on a busy machine takes it up."""
            row = one.worker("native")
            if row["state"] == "running":
                with suppress(ProcessLookupError):
                    os.kill(row["pid"], signal.SIGKILL)
            path = one.runtime / "backoff"
            found = re.search(r"^native until (\d+)$", path.read_text() if path.exists() else "", re.MULTILINE)
            return int(found[1]) if found and int(found[1]) > now_ns() + 1_000_000_000 else 0

        due = wait_for(due_ns, "a long wait")
        one.stop(signal.SIGKILL)
        assert re.search(r"native signal \d", (one.runtime / "backoff").read_text())
        one.start(ready=False)
        wait_for(lambda: one.order("status").stdout, "an answer")  # the socket of the first one is still there
        one.wait_running("native")
        assert now_ns() >= due, "it was started at once"
        assert one.stop() == 0
