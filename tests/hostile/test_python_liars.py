"""Interpreters that lie (liar.c), against the Python worker: it stays alive, spends no more time on them than on others, says by a counter
or in words what is wrong, and other Python processes keep their stacks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import interpreters
import pyframes
import pytest
from harness import Folded, Pprof, Service, check_conservation, check_profile_pair, running, share, wait_for
from liars import all_lies, liars, tells
from test_unkillable import HOSTILE, Daemon, Lines, daemon, post, quarantined  # noqa: F401

HZ = 499
VERSIONS = (9, 12, 13)
TOGETHER = 8  # liars at a time, so that each gets enough samples
MOST_LATE = 0.2  # of a program's samples: who else has the CPUs decides that
MOST_US = 400  # CPU time of the Python worker for one sample: some ten times what an honest one costs on a slow machine
FILES = ("file_under_frame", "file_comes_under_frame")
# What is right but for its size, or only sometimes wrong: these may have frames.
MAY_HAVE_FRAMES = {
    "honest", "rewriting", "turning_pages", "executing", "text_long", "text_wide_and_wild", "text_spoils_lines", "lines_huge", "lines_of_noise",
    "chunks_loop", "frames_far_apart", "frames_many", "owner_unknown", "offsets_random",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    names = [program(version) for version in VERSIONS]
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        names.append(HOSTILE / "fuse_stall")
    harness.build(harness.SOURCE / "tests" / "hostile", HOSTILE, *map(str, names))


def program(version: int) -> Path:
    return HOSTILE / f"liar_{version}"


@pytest.fixture
def victim() -> Iterator[int]:
    """An honest interpreter beside them."""
    with interpreters.find(interpreters.own_suite() or "bookworm").place() as place:
        pid = place.start("split")
        place.wait_until_warm()
        yield pid


def own_frames(profile: Pprof, pid: int) -> Counter[str]:
    """Chains of the liar's Python frames."""
    found: Counter[str] = Counter()
    for sample in profile.profile.of(pid=pid):
        if names := [frame.name for frame in sample.frames if frame.file and frame.line]:
            found[";".join(names)] += sample.values["samples"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_honest_one_is_believed(version: int, directory: Path) -> None:
    """Else the lies would never be read."""
    with liars(program(version), ["honest"]) as pids:
        harness.wait_until_warm(pids["honest"])
        recording = harness.record(directory, "-d", 1, "-F", HZ, "-p", pids["honest"]).check()
    found = own_frames(recording.pprof, pids["honest"])
    chain = "fake_leaf" if version == 9 else "fake_outer;fake_leaf"
    share(found[chain] >= 0.8 * recording.folded.total > 0, (found, recording.folded.stacks.most_common(3)))


PATIENT: harness.Config = {
    # Neither a deadline nor a lane that is full for long is to end a worker here, on a machine that is busy with other things too.
    "snapshot": {"interval": "1s", "frequency": HZ},
    "worker python": {"lag": "12s"},
    "worker native": {"lag": "12s"},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_lies(version: int, service: Callable[..., Service], victim: int) -> None:
    """Groups of them, one after the other, under one Python worker."""
    lies = all_lies("liar.c", *FILES)
    with service(PATIENT).start() as one:
        pid = one.wait_running("python")["python"]
        wait_for(lambda: one.profiles() and Pprof.read(one.profiles()[-1]).of(victim).count("main;seventy"), "the victim's frames")
        begin, before = time.monotonic(), harness.cpu_seconds(pid)
        seen: dict[str, int] = {}
        for at in range(0, len(lies), TOGETHER):
            with liars(program(version), lies[at : at + TOGETHER]) as pids:
                files = one.wait_profiles(3)
                wait_for(lambda: one.targets().keys() >= set(pids.values()), "all of them to be listed")
                for lie, liar in pids.items():
                    seen[lie] = sum(Pprof.read(path).of(liar).total for path in files)
                    frames = sum((own_frames(Pprof.read(path), liar) for path in files), Counter())
                    if lie in MAY_HAVE_FRAMES or (version < 13 and lie.startswith("offsets_")):
                        continue
                    wait_for(
                        lambda: tells(one.targets().get(liar, {})),
                        f"{lie}: a reason or a counter: {one.targets().get(liar)}; frames: {frames.most_common(3)}",
                    )  # fmt: skip
                for path in files:
                    for name in Folded.parse(path.with_name(path.name.replace("pb.gz", "folded")).read_text()).stacks:
                        assert all(len(frame) < 4096 and harness.is_clean(frame) for frame in name), name
        row = one.worker("python")
        assert row["pid"] == pid and row["restarts"] == 0, f"{row}\n{one.log()[-2000:]}"
        spent, length = harness.cpu_seconds(pid) - before, time.monotonic() - begin
        last = [Pprof.read(path).of(victim) for path in one.wait_profiles(3)]
        samples = sum(check_profile_pair(path).counters["taken"] for path in one.profiles())
        assert one.stop() == 0
    share(min(seen.values()) > 0, f"never sampled: {[lie for lie, n in seen.items() if not n]}")
    chains = Folded(sum((one.stacks for one in last[1:]), Counter()))
    late = sum(n for stack, n in chains.stacks.items() if pyframes.is_late(stack))
    share(late <= MOST_LATE * chains.total, f"{late} of {chains.total} samples were read late")
    named, common = chains.count("main;(seventy|twenty|ten)"), chains.stacks.most_common(3)
    share(named >= 0.95 * (chains.total - late) > 20, f"{named} of {chains.total}, {late} late, have names: {common}")
    limit = MOST_US * 1e-6 * samples + 0.05 * length
    print(f"{spent:.2f} s of CPU for {samples} samples in {length:.0f} s")
    share(spent <= limit, f"{spent:.2f} s of CPU for {samples} samples in {length:.0f} s: more than {limit:.2f}")


@pytest.fixture
def file_system(daemon: Callable[..., Daemon]) -> Daemon:  # noqa: F811
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/fuse here")
    return daemon()


@pytest.mark.parametrize("version", VERSIONS)
def test_honest_page_of_a_silent_file_system_under_a_frame(
    version: int, service: Callable[..., Service], victim: int, file_system: Daemon
) -> None:
    """It is not on the list of what may be read: nobody asks the daemon for it."""
    with service(PATIENT).start() as one:
        pid = one.wait_running("python")["python"]
        file_system.stall()
        command = [HOSTILE / f"liar_{version}", "file_under_frame", file_system.file]
        with running(command, stdout=subprocess.DEVNULL) as liar:
            files = one.wait_profiles(5)
            wait_for(
                lambda: (row := one.targets().get(liar.pid, {})) and (row["why"] or row["unreadable"] + row["torn"] + row["skewed"]),
                "a reason or a counter",
            )
            assert not file_system.holding(), "a page of the file was read"
        assert post(one, "python")["pid"] == pid and not quarantined(one), one.log()[-2000:]
        assert one.stop() == 0
    chains = Pprof.read(files[-1]).of(victim)
    share(chains.count("main;seventy") > 20, chains.stacks.most_common(3))


@contextlib.contextmanager
def racing(version: int, file_system: Daemon) -> Iterator[Lines]:
    one = Lines(HOSTILE / f"liar_{version}", "file_comes_under_frame", file_system.file)
    try:
        one.wait_said("ready")
        yield one
    finally:
        one.end()


def test_page_that_comes_under_a_frame_costs_one_worker(
    service: Callable[..., Service], victim: int, file_system: Daemon
) -> None:
    """Anonymous memory when the list was made, the file's when it is read: at worst a worker is quarantined, a new one goes on without
    this target, and when the file system answers all is as before. The race can be lost; then there is nothing to contain."""
    with service({"snapshot": {"interval": "2s", "deadline": "2s", "frequency": HZ}}).start() as one, racing(13, file_system) as liar:
        old = one.wait_running("python")["python"]
        wait_for(lambda: one.targets().get(liar.process.pid, {}).get("samples"), "the liar to be read")
        file_system.stall()
        for attempt in range(8):
            liar.tell("now")
            time.sleep(1)
            if file_system.holding():
                break
            liar.tell("back")
            time.sleep(1)
        if not file_system.holding():
            pytest.skip("the race was lost 8 times")
        wait_for(lambda: (row := post(one, "python"))["pid"] not in (0, old) and row["state"] == "running", "a replacement")
        wait_for(
            lambda: Pprof.read(one.profiles()[-1]).of(victim).count("main;seventy") > 20, "the victim's frames from the new one"
        )
        assert len(quarantined(one)) <= 1 and file_system.holding() <= 2
        file_system.go_on()
        wait_for(lambda: not quarantined(one), "the quarantined process to be reaped")
        assert one.stop() == 0
    total: Counter[str] = Counter()
    for path in one.profiles():
        total.update(check_profile_pair(path, alone=False).counters)
    check_conservation(total)
