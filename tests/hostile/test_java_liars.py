"""Java virtual machines that lie (liar_java.c), against the Java worker: it stays alive, spends no more time on them than on others, says by a
counter or in words what is wrong, and other JVMs keep their stacks. And true ones that end while they are read."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import javaframes
import jvms
import pytest
from harness import PATIENCE, Folded, Pprof, Service, check_conservation, check_profile_pair, running, wait_for
from jvms import Place
from liars import all_lies, liars, tells
from test_unkillable import HOSTILE

HZ = 499
VERSIONS = (17, 25)
TOGETHER = 12  # liars at a time, so that each gets enough samples
MOST_US = 400  # CPU time of the Java worker for one sample: some ten times what an honest one costs on a slow machine
CHAIN = "fake.Outer.outer;fake.Leaf.leaf"
# What is right but for its size, or only sometimes wrong: these may have frames, and need not say why there are none.
MAY_HAVE_FRAMES = {
    "honest", "stride_odd", "constants_wild", "table_up_to_a_closed_page", "version_spoils_lines", "heaps_many", "heap_is_everything", "segmap_short", "offsets_random",
    "blob_name_spoils_lines", "level_unknown", "code_size_huge", "name_index_outside", "pool_huge", "symbol_long", "symbol_spoils_lines",
    "symbol_empty", "pcs_of_noise", "lines_without_end", "lines_of_noise", "deoptimised_for_ever", "interpreter_of_one_method", "rewriting", "turning_pages",
    "compiled_anew", "executing", "exiting",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    names = [str(program(version)) for version in VERSIONS]
    harness.build(harness.SOURCE / "tests" / "hostile", HOSTILE, *names)


def program(version: int) -> Path:
    return HOSTILE / f"liar_java_{version}"


@pytest.fixture
def place() -> Iterator[Place]:
    with jvms.find(jvms.own()).place() as one:
        yield one


@pytest.fixture
def victim(place: Place) -> int:
    """An honest JVM beside them."""
    pid = place.start("Split", name="victim")
    place.wait_until_warm()
    return pid


def frames_of(profile: Pprof, pid: int) -> Counter[str]:
    """Chains of the Java frames of a process."""
    found: Counter[str] = Counter()
    for sample in javaframes.samples_of(profile.profile, pid):
        if sample.frames:
            found[";".join(frame.name for frame in sample.frames)] += sample.n
    return found


def victims_share(profile: Pprof, pid: int) -> tuple[int, int]:
    """Samples with the frames that its source says, and all that were read in time."""
    samples = [sample for sample in javaframes.samples_of(profile.profile, pid) if sample.thread == "victim" and not sample.late]
    return javaframes.count(samples, "^main;(seventy|twenty|ten)"), javaframes.total(samples)


def wait_victim(one: Service, pid: int) -> None:
    def there() -> bool:
        files = one.profiles()
        return bool(files) and victims_share(Pprof.read(files[-1]), pid)[0] > 20

    wait_for(there, f"the victim's frames:\n{one.log()[-1500:]}", PATIENCE * 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_honest_one_is_believed(version: int, directory: Path) -> None:
    """Else the lies would never be read."""
    with liars(program(version), ["honest"]) as pids:
        harness.wait_until_warm(pids["honest"])
        recording = harness.record(directory, "-d", 1.5, "-F", HZ, "-p", pids["honest"]).check()
    found = frames_of(recording.pprof, pids["honest"])
    assert found[CHAIN] >= 0.7 * recording.folded.total > 0, (found, recording.folded.stacks.most_common(3))


@pytest.mark.parametrize("version", VERSIONS)
def test_lies(version: int, service: Callable[..., Service], victim: int) -> None:
    """Groups of them, one after the other, under one Java worker."""
    lies = all_lies("liar_java.c")
    with service({"snapshot": {"interval": "1s", "frequency": HZ}}).start() as one:
        pid = one.wait_running("java")["java"]
        wait_victim(one, victim)
        begin, before = time.monotonic(), harness.cpu_seconds(pid)
        seen: dict[str, int] = {}
        silent: list[str] = []
        for at in range(0, len(lies), TOGETHER):
            with liars(program(version), lies[at : at + TOGETHER]) as pids:
                files = one.wait_profiles(2)
                wait_for(lambda: one.targets().keys() >= set(pids.values()), "all of them to be listed")
                for lie, liar in pids.items():
                    seen[lie] = sum(Pprof.read(path).of(liar).total for path in files)
                honest = {lie for lie in pids if lie in MAY_HAVE_FRAMES}
                with contextlib.suppress(AssertionError):
                    wait_for(lambda: all(tells(one.targets().get(pids[lie], {})) for lie in pids.keys() - honest), "reasons or counters", 3)
                # a worker that answers late, on a busy machine, is left out
                rows = wait_for(lambda: (rows := one.targets()).keys() >= set(pids.values()) and rows, "the answers of all workers")
                for lie in pids.keys() - honest:
                    if not tells(rows.get(pids[lie], {})):
                        frames = sum((frames_of(Pprof.read(path), pids[lie]) for path in files), Counter())
                        silent.append(f"{lie}: {rows.get(pids[lie])}; frames: {frames.most_common(3)}")
                for path in files:
                    for stack in Folded.parse(path.with_name(path.name.replace("pb.gz", "folded")).read_text()).stacks:
                        assert all(len(frame) < 4096 and harness.is_clean(frame) for frame in stack), stack
        row = one.worker("java")
        assert row["pid"] == pid and row["restarts"] == 0, f"{row}\n{one.log()[-2000:]}"
        spent, length = harness.cpu_seconds(pid) - before, time.monotonic() - begin
        last = Pprof.read(one.wait_profiles(2)[-1])
        samples = sum(check_profile_pair(path).counters["taken"] for path in one.profiles())
        assert one.stop() == 0
    assert not silent, "neither a reason nor a counter:\n" + "\n".join(silent)
    never = [lie for lie, n in seen.items() if not n and lie != "exiting"]  # its children are sampled, it sleeps
    assert not never, f"never sampled: {never}"
    right, total = victims_share(last, victim)
    harness.share(right >= 0.95 * total > 20, f"{right} of {total} samples of the victim have its frames")
    limit = MOST_US * 1e-6 * samples + 0.05 * length
    print(f"{spent:.2f} s of CPU for {samples} samples in {length:.0f} s")
    harness.share(spent <= limit, f"{spent:.2f} s of CPU for {samples} samples in {length:.0f} s: more than {limit:.2f}")


def test_jvms_that_are_killed_while_they_are_read(service: Callable[..., Service], place: Place, victim: int) -> None:
    """Again and again, of one that has deep stacks: the worker goes on, nothing is lost, nobody else notices."""
    with service({"snapshot": {"interval": "1s", "frequency": HZ}}).start() as one:
        wait_victim(one, victim)
        before = one.wait_running("opener", "sampler", "native", "merge", "java")
        killed: list[int] = []
        for i in range(6):
            command = place.command("Alternating", "400", name="prey", options=("-Xint",))
            with running(command) as prey:
                harness.wait_until_warm(prey.pid, 0.3 + 0.1 * i)
                os.kill(prey.pid, signal.SIGKILL)
                killed.append(prey.pid)
        one.wait_profiles(2)
        row = one.worker("java")
        if row["restarts"]:  # then with a name
            assert row["last_cause"], row
        after = one.wait_running(*before)
        assert {name: pid for name, pid in after.items() if name != "java"} == {name: pid for name, pid in before.items() if name != "java"}
        assert row["restarts"] == 0, f"{row}\n{one.log()[-2000:]}"
        wait_for(lambda: not set(killed) & one.targets().keys(), "the dead to be forgotten")
        last = Pprof.read(one.wait_profiles(1)[-1])
        assert one.stop() == 0
    total: Counter[str] = Counter()
    for path in one.profiles():
        profile = check_profile_pair(path, alone=False)
        total.update(profile.counters)
        for pid in killed:
            wrong = javaframes.impossible_stacks(javaframes.samples_of(profile.profile, pid))
            assert not wrong, wrong[:3]
    check_conservation(total)
    right, of = victims_share(last, victim)
    harness.share(right >= 0.95 * of > 20, f"{right} of {of} samples of the victim have its frames")
