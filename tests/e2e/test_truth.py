"""Truth: what a profile says is what the workload's source does. expect.py has the chains."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import expect
import harness
import perf
import pytest
from harness import check_truth, judge, record, record_workload, running, share, wait_until_warm

STEADY = """
    split_nopie split_stripped split_static split_staticpie split_nobuildid split_musl split_musl_static deep
    deep_frame_pointers threads threads_static threads_musl signals dlopen plt plt_ibt syscalls shapes rusty gopher
    gopher_stripped
""".split()


@pytest.mark.parametrize("name", STEADY)
def test_chains(name: str, directory: Path, workload: Callable[[str], Path]) -> None:
    """At least 99.5 % of the samples carry the right chain to _start or the thread's start."""
    workload(name)
    recording = record_workload(directory, name)
    check_truth(recording.folded, expect.WORKLOADS[name])


def test_chains_of_a_program_bound_by_io(directory: Path, workload: Callable[[str], Path]) -> None:
    """It is on a CPU for little of the time, so a lower number of samples is enough, and each wrong one weighs more."""
    with running([workload("io"), "60", str(directory)]) as process:
        wait_until_warm(process.pid)
        folded = record(directory, "-d", 6, "-F", 999, "-p", process.pid).check().folded
    check_truth(folded, expect.WORKLOADS["io"], least=50)


def test_known_split_of_cpu_time(directory: Path, workload: Callable[[str], Path]) -> None:
    """70, 20 and 10 % of the CPU come out within 1.5 points."""
    workload("split")
    folded = record_workload(directory, "split", seconds=4).folded
    check_truth(folded, expect.WORKLOADS["split"])
    inside = {name: folded.count(rf";main;{name}\b") for name in ("seventy", "twenty", "ten")}
    total = sum(inside.values())
    shares = {name: 100 * n / total for name, n in inside.items()}
    for name, due in (("seventy", 70), ("twenty", 20), ("ten", 10)):
        share(abs(shares[name] - due) <= 1.5, f"{shares} of {total} samples")


def test_sampling_rate(directory: Path, workload: Callable[[str], Path]) -> None:
    """A program that is always on a CPU is sampled as often as was asked, as far as it got its CPU."""
    with running([workload("split"), "60"]) as process:
        wait_until_warm(process.pid)
        before = harness.cpu_seconds(process.pid)
        recording = record(directory, "-d", 3, "-F", 199, "-p", process.pid).check()
        # The CPU time also covers the start and the end of the recording, however long they took: an upper bound.
        most = (harness.cpu_seconds(process.pid) - before) * 199
    total, due = recording.folded.total, most * min(1, 3 / recording.seconds)
    assert total <= 1.05 * most + 2, f"{total} samples, at most {most:.0f} were due"
    share(total >= 0.5 * due, f"{total} samples, about {due:.0f} were due")


def test_from_the_first_instruction(directory: Path, workload: Callable[[str], Path]) -> None:
    """With a command its loader and its start are in the profile too; each stack is complete or marked as not."""
    workload("split")
    recording = record(directory, "-d", 10, "-F", 499, "--", workload("split"), "2").check()
    folded = recording.folded.of("split")
    verdict = judge(folded, expect.WORKLOADS["split"])
    share(verdict.total > 300 and not verdict.unseen, verdict)
    share(folded.share_complete() >= 0.98, verdict)


@pytest.mark.skipif(not perf.available(), reason="perf is not installed")
@pytest.mark.parametrize(
    "name", ["split", "deep", "signals", "threads", "dlopen", "plt", "syscalls", "shapes", "rusty", "gopher"]
)
def test_as_complete_as_perf(name: str, directory: Path, workload: Callable[[str], Path]) -> None:
    """The same process at the same time, by perf with its DWARF unwinding and by us: our share of complete stacks is at
    least perf's."""
    with running([workload(name), "60", *expect.WORKLOADS[name].arguments]) as process:
        wait_until_warm(process.pid)
        data = directory / "perf.data"
        with running(perf.command(2, 199, data, ["-p", str(process.pid)]), stderr=subprocess.DEVNULL) as other:
            ours = record(directory, "-d", 2, "-F", 199, "-p", process.pid, formats=("folded",)).check().folded
            assert other.wait(timeout=harness.PATIENCE) == 0
    theirs = harness.Folded(perf.script(data))
    share(ours.total >= 50 and theirs.total >= 50, f"{ours.total} samples of ours, {theirs.total} of perf's")
    # The two sample different instants: one rare instruction more or less is chance.
    chance = max(0.005, 1.5 / ours.total)
    missing = [f"{n} {chain[:400]}" for chain, n in ours.chains().most_common() if not expect.is_complete(chain)]
    both = f"{ours.share_complete():.4f} of our {ours.total} are complete, {theirs.share_complete():.4f} of perf's {theirs.total}"
    share(ours.share_complete() >= theirs.share_complete() - chance, "\n".join([both, *missing]))


def test_pprof_and_folded_tell_the_same(directory: Path, workload: Callable[[str], Path]) -> None:
    """The same stacks in both formats, kernel frames too."""
    workload("syscalls")
    recording = record_workload(directory, "syscalls", seconds=2, hz=199)
    theirs: dict[tuple[str, ...], int] = {}
    for sample in recording.pprof.profile.samples:
        frames = tuple(re.sub(r"_\[k\]$", "", name) for name in sample.stack)
        theirs[frames] = theirs.get(frames, 0) + sample.values["samples"]
    ours: dict[tuple[str, ...], int] = {}
    for stack, n in recording.folded.stacks.items():
        frames = tuple(re.sub(r"_\[k\]$", "", name) for name in stack[1:])
        ours[frames] = ours.get(frames, 0) + n
    assert ours == theirs


def test_kernel_frames(directory: Path, workload: Callable[[str], Path]) -> None:
    """A system call's kernel part hangs below the user part, by name."""
    workload("syscalls")
    folded = record_workload(directory, "syscalls", seconds=2, hz=199).folded
    joined = {";".join(stack): n for stack, n in folded.stacks.items()}
    inside = sum(
        n for stack, n in joined.items() if re.search(r"main;call_.*read.*;\w*do_syscall_64_\[k\];.*_\[k\]$", stack)
    )
    assert not any(re.search(r"_\[k\];[^;]*(?<!_\[k\])(;|$)", stack) for stack in joined), (
        "a user frame below a kernel frame"
    )
    common = sorted(joined.items(), key=lambda item: -item[1])[:5]
    share(inside > 0.2 * folded.total, f"{inside} of {folded.total} are inside: {common}")
