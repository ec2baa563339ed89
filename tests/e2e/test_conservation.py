"""Conservation: every sample that the kernel took is in one stack or counter, in every format and snapshot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import (
    OUTCOMES,
    Recording,
    Service,
    check_conservation,
    check_profile_pair,
    cpu_seconds,
    outcomes,
    record,
    running,
    share,
    wait_until_warm,
)


def check_recording(recording: Recording) -> dict[str, int]:
    recording.check()
    folded, profile = recording.folded, recording.pprof
    check_conservation(profile.counters)
    assert profile.total == outcomes(profile.counters), profile.counters
    assert folded.total == profile.total
    return profile.counters


@pytest.mark.parametrize("hz", [19, 99, 999])
def test_whole_machine(hz: int, directory: Path, workload: Callable[[str], Path]) -> None:
    """All CPUs busy with different things."""
    with ExitStack() as stack:
        for name in ("split", "syscalls", "threads", "shapes"):
            stack.enter_context(running([workload(name), "60"]))
        counters = check_recording(record(directory, "-d", 3, "-F", hz))
    share(counters["taken"] > hz, counters)
    share(counters.get("complete", 0) > 0.5 * counters["taken"], counters)


def test_whole_machine_when_it_is_idle(directory: Path) -> None:
    check_recording(record(directory, "-d", 2, "-F", 99))


def test_one_process_among_others(directory: Path, workload: Callable[[str], Path]) -> None:
    """What was not asked for is filtered, not lost."""
    with running([workload("split"), "60"]) as wanted, running([workload("syscalls"), "60"]):
        wait_until_warm(wanted.pid)
        recording = record(directory, "-d", 2, "-F", 199, "-p", wanted.pid)
    counters = check_recording(recording)
    assert {stack[0] for stack in recording.folded.stacks} == {"split"}
    assert recording.pprof.labels("pid") == {wanted.pid}
    assert counters["taken"] > 0


def test_forkstorm(directory: Path, workload: Callable[[str], Path]) -> None:
    """10,000 short-lived processes a minute."""
    with running([workload("forkstorm"), "60"]) as storm, running([workload("split"), "60"]):
        wait_until_warm(storm.pid)
        counters = check_recording(record(directory, "-d", 4, "-F", 499))
    share(counters["taken"] > 499, counters)


def test_forkstorm_of_the_command(directory: Path, workload: Callable[[str], Path]) -> None:
    """The children of the command, each of them, and nothing else."""
    recording = record(directory, "-d", 20, "-F", 999, "--", workload("forkstorm"), "4", "167", workload("split"))
    check_recording(recording)
    folded = recording.folded
    comms = {stack[0] for stack in folded.stacks}
    # A child that is sampled on a CPU before the other CPU's ring has told of its birth has no name, rather than a guessed one.
    assert "split" in comms and comms <= {"forkstorm", "split", "bulkhead", "[unknown]"}, comms
    nameless = folded.of("[unknown]")
    share(nameless.total <= max(2, 0.01 * folded.total), f"{nameless.total} of {folded.total} have no name: {nameless}")


def test_every_snapshot_of_the_service(service: Callable[..., Service], workload: Callable[[str], Path]) -> None:
    """Snapshot after snapshot under a storm at 999 Hz; what status says of the last one holds too."""
    with running([workload("forkstorm"), "90"]), running([workload("threads"), "90"]):
        one = service({"snapshot": {"interval": "2s", "frequency": 999}})
        with one.start():
            last = set()
            for path in one.wait_profiles(4):
                profile = check_profile_pair(path)
                share(profile.counters["taken"] > 500, profile.counters)
                counters = one.status()["snapshot"]["last"]
                check_conservation({name: n for name, n in counters.items() if isinstance(n, int)})
                last.add(one.status()["snapshot"]["id"])
            assert one.stop() == 0
    for path in one.profiles():
        check_profile_pair(path)


def test_nothing_between_snapshots_is_lost(service: Callable[..., Service], workload: Callable[[str], Path]) -> None:
    """One program that never sleeps, over several snapshots: as many samples in all as its CPU time is worth."""
    with running([workload("split"), "90"]) as process:
        wait_until_warm(process.pid)
        with service({"snapshot": {"interval": "1s", "frequency": 199}}).start() as one:
            one.wait_profiles(2)
            files = one.wait_profiles(5)
            assert one.stop() == 0
        for path in files:
            check_profile_pair(path)
        times = [(p.profile.time_nanos, p.profile.duration_nanos) for p in map(check_profile_pair, files)]
    for (begin, length), (following, _) in zip(times, times[1:]):
        gap = (following - begin - length) / 1e9
        # The beginnings are by the clock on the wall, which somebody may set meanwhile.
        share(abs(gap) < 0.1, f"{gap:.3f} s between two snapshots")


def test_cpu_that_goes_and_comes_back(directory: Path, workload: Callable[[str], Path]) -> None:
    """Its samples until then stay, and it is sampled again."""
    switch = Path("/sys/devices/system/cpu/cpu1/online")
    try:
        switch.write_text("1")
    except OSError as error:
        pytest.skip(f"CPU 1 can not be switched here: {error}")
    with (
        running([workload("threads"), "60"]) as threads,
        running(["/bin/sh", "-c", f"sleep 1; echo 0 > {switch}; sleep 1; echo 1 > {switch}"], stderr=-3) as switcher,
    ):
        try:
            before = cpu_seconds(threads.pid)
            recording = record(directory, "-d", 4, "-F", 199)
            assert switcher.wait() == 0
            most = (cpu_seconds(threads.pid) - before) * 199
        finally:
            switch.write_text("1")
    counters = check_recording(recording)
    # As much as it ran, wherever that was. The CPU time is also that of the start and the end of the recording.
    busy = recording.pprof.of(threads.pid).total
    due = most * min(1, 4 / recording.seconds)
    assert busy <= 1.05 * most + 2, (busy, most, counters)
    share(busy >= 0.5 * due, f"{busy} samples, about {due:.0f} were due: {counters}")


def test_the_sum_has_parts() -> None:
    """The sums above are over this list: a change of the file's form must not empty it."""
    assert {"complete", "kernel_thread", "moved", "unreadable", "truncated"} <= set(OUTCOMES)
