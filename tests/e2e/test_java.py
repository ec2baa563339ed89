"""Java, mixed with native, on the JVMs of several Debian releases: what the workloads' sources say is in the profile, and nothing else. Two
recordings for each JVM, of all CPUs saturated, are judged by the tests here, and one for each way of running one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache

import harness
import javaframes
import jvms
import pytest
from harness import Folded, Pprof, check_conservation, fresh, record, share
from javaframes import Frame, Sample
from jvms import Jvm

HZ = 999
SECONDS = 5
SHAPES_HZ = 299  # many JVMs at once, and deep stacks
SHAPES_SECONDS = 7
DEPTH = 200
RECURSION = 500
STEPS = 40
THREADS = 300
YIELD = 0.99
YIELD_OF_ONE = 0.96  # one shape alone: with a few hundred samples each miss is a third of a hundredth
MOST_LATE = 0.1  # on a shared machine
MOST_LATE_OF_ONE = 0.7  # a moment in which others have the CPUs makes half of its few samples late; see those of all programs together
# Methods that are new all the time have no name when garbage was collected before it could be read: on a busy machine, often.
MOST_LATE_OF_NEW_METHODS = 0.4
SPINNERS = 20  # keep all CPUs busy
MISSES = 2  # of so few samples that one is more than a hundredth
POINTS = 2.0
FEWEST = 100  # samples of one workload that are enough to judge its shares
FEW = 25  # ...and what must be true of each of them


@dataclass(frozen=True)
class Run:
    """One JVM of a recording."""

    script: str
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    since: int = 8
    """The first release of Java that can run it..."""
    until: int = 99
    """...and the last."""


Runs = dict[str, Run]  # the names are those of the processes, and so at most 15 characters long

# Four JVMs keep all CPUs busy; the second recording is of everything else.
TRUTH: Runs = {
    "split": Run("Split"),
    "lines": Run("Lines"),
    "alternating": Run("Alternating", (str(DEPTH),)),
    # every call is one, with its entry and its end
    "called": Run("Alternating", (str(DEPTH),), ("-XX:-Inline",)),
}
SHAPES: Runs = {
    "recursion": Run("Recursion", (str(RECURSION),)),
    "reflection": Run("Recursion", (str(STEPS), "reflection")),
    "interface": Run("Recursion", (str(STEPS), "interface")),
    # a loop that is inlined may seem to be its callers'; called, it has an exact place in each of them, which may be inlined themselves
    "lambdas": Run("Lambdas", (), ("-XX:CompileCommand=quiet", "-XX:CompileCommand=dontinline,work/Lambdas.burn")),
    "natives": Run("Natives"),
    "exceptions": Run("Exceptions"),
    "deopts": Run("Deopts"),
    # what is inlined into the innermost frame is not sure enough to tell one thread from another
    "threads": Run("Threads", (str(THREADS),), ("-XX:-Inline",)),
    "virtual": Run("Virtual", since=21),
    "unloading": Run("Unloading", options=("-XX:ReservedCodeCacheSize=6m",)),
}
# Ways of running one: each is the same programs, which say most.
WAYS: Runs = {
    "interpreted": Run("Alternating", (str(DEPTH),), ("-Xint",)),
    "c1": Run("Alternating", (str(DEPTH),), ("-XX:TieredStopAtLevel=1",)),
    "c2": Run("Alternating", (str(DEPTH),), ("-XX:-TieredCompilation",)),
    "frame_pointers": Run("Alternating", (str(DEPTH),), ("-XX:+PreserveFramePointer",)),
    "one_code_heap": Run("Alternating", (str(DEPTH),), ("-XX:-SegmentedCodeCache",), since=9),
    "s_interpreted": Run("Split", (), ("-Xint",)),
    "s_c1": Run("Split", (), ("-XX:TieredStopAtLevel=1",)),
}
COLLECTORS: Runs = {
    "serial": Run("Churn", (), ("-XX:+UseSerialGC",)),
    "parallel": Run("Churn", (), ("-XX:+UseParallelGC",)),
    "cms": Run("Churn", (), ("-XX:+UseConcMarkSweepGC",), until=13),
    "g1": Run("Churn", (), ("-XX:+UseG1GC",)),
    "z": Run("Churn", (), ("-XX:+UseZGC",), since=15),
    "shenandoah": Run("Churn", (), ("-XX:+UseShenandoahGC",), since=15),
}
# Two are enough: what differs from one release to the next is the same in all of the newer ones.
OF_WAYS = (jvms.own(), "8")


@dataclass
class Measured:
    jvm: Jvm
    runs: Runs
    pids: dict[str, int]
    profile: Pprof
    folded: dict[str, Folded]
    samples: dict[str, list[Sample]]

    def of(self, run: str, fewest: int = FEW) -> list[Sample]:
        """Of threads that run Java for the program, from main on; not those of the virtual machine."""
        found = [sample for sample in self.samples[run] if is_of_program(run, sample)]
        share(javaframes.total(found) >= fewest, f"{javaframes.total(found)} samples of {run} are too few to judge it")
        return found

    def all(self, fewest: int = FEW) -> list[Sample]:
        return [sample for run in self.runs for sample in self.of(run, fewest)]


def is_of_program(run: str, sample: Sample) -> bool:
    """The main thread has the name of the process, each other one that of the source, or of the pool of virtual threads."""
    return sample.thread == run or re.match(r"thread_\d|churn|ForkJoinPool", sample.thread) is not None


def measure(name: str, runs: Runs, hz: int, seconds: float, warm: float = 0.8) -> Measured:
    jvm = jvms.find(name)
    runs = {key: run for key, run in runs.items() if run.since <= jvm.release <= run.until}
    with jvm.place() as place, harness.short_directory() as directory:
        for key, run in runs.items():
            place.start(run.script, *run.arguments, name=key, options=run.options)
        place.wait_until_warm(warm)
        pids = ",".join(map(str, place.pids.values()))
        recording = record(directory, "-d", seconds, "-F", hz, "-p", pids).check()
        text, profile = recording.folded, recording.pprof
        folded = {key: text.of(key) for key in runs}
        samples = {key: javaframes.samples_of(profile.profile, place.pids[key]) for key in runs}
        return Measured(jvm, runs, place.pids, profile, folded, samples)


@lru_cache
def truth_of(name: str) -> Measured:
    return measure(name, TRUTH, HZ, SECONDS)


@lru_cache
def shapes_of(name: str) -> Measured:
    return measure(name, SHAPES, SHAPES_HZ, SHAPES_SECONDS)


@lru_cache
def ways_of(name: str) -> Measured:
    return measure(name, WAYS, SHAPES_HZ, SHAPES_SECONDS)


@lru_cache
def collectors_of(name: str) -> Measured:
    return measure(name, COLLECTORS, SHAPES_HZ, SHAPES_SECONDS)


@pytest.fixture(params=jvms.all_names())
def truth(request: pytest.FixtureRequest) -> Measured:
    return fresh(request, truth_of)(request.param)


@pytest.fixture(params=jvms.all_names())
def shapes(request: pytest.FixtureRequest) -> Measured:
    return fresh(request, shapes_of)(request.param)


def some(lines: Iterable[str]) -> str:
    return "\n".join(list(lines)[:8])


def check_edges(samples: Iterable[Sample]) -> None:
    wrong = javaframes.impossible_stacks(samples)
    assert not wrong, f"{len(wrong)} stacks:\n{some(wrong)}"


def check_shape(samples: list[Sample], shape: re.Pattern[str]) -> None:
    share(not javaframes.count(samples, "main;begin$"), "the program had only begun when it was recorded")
    other = javaframes.of_another_shape(samples, shape)
    assert not other, f"{len(other)} stacks of {javaframes.total(samples)} samples:\n{some(other)}"


def entry(run: str, measured: Measured) -> str:
    return f"{javaframes.PACKAGE}{measured.runs[run].script}.main"


def reaches_entry(run: str, measured: Measured, sample: Sample) -> bool:
    """From the start of the thread to the Java method that it begins with, and all that lies between."""
    if not sample.whole or not sample.frames:
        return False
    first = sample.frames[0].name
    # a new thread has the name of its process until it gives itself its own
    threads = ("java.lang.Thread.run", "java.util.concurrent.ForkJoinWorkerThread.run", "jdk.internal.misc.CarrierThread.run")
    return first in threads or (sample.thread == run and first == entry(run, measured))


def check_yield(measured: Measured, runs: Iterable[str], most_late: float = MOST_LATE, least: float = YIELD) -> None:
    """All of these are inside Java whenever they run."""
    samples = [(run, sample) for run in runs for sample in measured.of(run)]
    total = sum(sample.n for _, sample in samples)
    late = sum(sample.n for _, sample in samples if sample.late)
    share(late <= most_late * total, f"{late} of {total} samples were read late")
    missing = [sample for run, sample in samples if not sample.late and not reaches_entry(run, measured, sample)]
    misses = javaframes.total(missing)
    text = some(sample.text() for sample in sorted(missing, key=lambda sample: -sample.n))
    share(misses <= max(MISSES, (1 - least) * total), f"{misses} of {total} samples do not reach the entry of their thread:\n{text}")


def check_yield_of_one(measured: Measured, run: str, least: float = YIELD_OF_ONE) -> None:
    in_time = javaframes.total(sample for sample in measured.of(run) if not sample.late)
    share(in_time >= FEW, f"{in_time} samples in time are too few to judge it")
    check_yield(measured, [run], MOST_LATE_OF_ONE, least)


def check_split(samples: list[Sample]) -> None:
    found = {name: javaframes.count(samples, f"^main;{name}") for name in ("seventy", "twenty", "ten")}
    total = sum(found.values())
    share(total >= FEWEST, f"{total} samples are too few to judge it: {javaframes.chains(samples).most_common(5)}")
    shares = {name: 100 * n / total for name, n in found.items()}
    for name, expected in (("seventy", 70), ("twenty", 20), ("ten", 10)):
        share(abs(shares[name] - expected) <= POINTS + allowance(expected, total), f"{shares} of {total}")


def allowance(percent: float, total: int) -> float:
    """Two standard deviations of the share of so many samples, in points: what chance alone does."""
    part = percent / 100
    return 200 * (part * (1 - part) / max(total, 1)) ** 0.5


def test_jvm_is_of_its_release(truth: Measured) -> None:
    """Else the tests below would be about something else."""
    if not truth.jvm.name.startswith("/"):
        assert truth.jvm.release == int(truth.jvm.name)


# -- truth


def test_no_impossible_edge(truth: Measured) -> None:
    check_edges(truth.all())


def test_callers_alternate_under_two_hundred_frames(truth: Measured) -> None:
    for run in ("alternating", "called"):
        samples = truth.of(run)
        check_shape(samples, javaframes.alternating(DEPTH, inlines=run != "called"))
        for part in ("both;callerA;leafA$", "both;callerB;leafB$", "(;sideA)+", "(;sideB)+"):
            share(javaframes.count(samples, part) > 0, f"{part} was never seen: {javaframes.chains(samples).most_common(5)}")


def test_split_among_methods(truth: Measured) -> None:
    check_split(truth.of("split"))


def test_split_between_two_loops_of_one_method(truth: Measured) -> None:
    source = javaframes.script("Lines.java")
    assert source
    loops = {name: source.lines_of(f"// loop {name}") for name in ("one", "two")}
    found = {"one": 0, "two": 0, "else": 0}
    for sample in truth.of("lines"):
        lines = [frame.line for frame in sample.ours if frame.bare == "twoLoops"]
        if lines:
            found[next((name for name, own in loops.items() if lines[0] in own), "else")] += sample.n
    total = sum(found.values())
    share(total >= FEWEST and found["else"] <= 0.02 * total, f"{found}")
    percent = 100 * found["one"] / (found["one"] + found["two"])
    share(abs(percent - 50) <= POINTS + allowance(50, total), f"{found}")


def test_yield(truth: Measured) -> None:
    check_yield(truth, TRUTH)


def test_stacks_are_mixed(truth: Measured) -> None:
    """From the thread's start, through the launcher and the virtual machine, to Java's frames; and out of Java into the C library."""
    for run in TRUTH:
        clocks = 0
        for sample in truth.of(run):
            if sample.whole and sample.frames:
                at = next(i for i, frame in enumerate(sample.stack) if isinstance(frame, Frame))
                assert at >= 3, sample.text()
                assert all(isinstance(frame, Frame) or frame not in ("", "[unknown]") for frame in sample.stack[:at]), sample.text()
            clocks += sample.n if sample.frames and sample.kernel else 0
        if run in ("split", "lines"):
            share(clocks > 0, f"no sample of {run} has the kernel's clock under Java")


def test_pprof_carries_file_and_line(truth: Measured) -> None:
    source = javaframes.script("Split.java")
    assert source
    seen = set()
    for sample in truth.of("split"):
        for frame in sample.ours:
            if frame.owner == "Split":
                assert frame.file == "Split.java" and frame.bare in source.around(frame.line), frame
                seen.add(frame.bare)
    assert seen >= {"seventy", "twenty", "ten", "main"}


def test_folded_and_pprof_say_the_same(truth: Measured) -> None:
    for run in TRUTH:
        folded: Counter[tuple[tuple[str, int], ...]] = Counter()
        for stack, n in truth.folded[run].stacks.items():
            folded[tuple((frame.name, frame.line) for frame in javaframes.folded_frames(stack) if frame.ours)] += n
        encoded: Counter[tuple[tuple[str, int], ...]] = Counter()
        for sample in truth.samples[run]:
            encoded[tuple((frame.name, frame.line) for frame in sample.ours)] += sample.n
        assert folded == encoded


def test_kinds_of_frames(truth: Measured) -> None:
    """What is entered once is interpreted, what is hot is compiled; what is inlined has its caller, compiled, outside of it."""
    kinds = {run: javaframes.kinds(truth.folded[run]) for run in TRUTH}
    assert kinds["split"]["0"] and kinds["alternating"]["i"] and kinds["alternating"]["j"], kinds
    assert not kinds["called"]["i"], kinds
    for run in TRUTH:
        for stack in truth.folded[run].stacks:
            before: Frame | None = None
            for text in stack:
                frame = javaframes.parse(text)
                if frame and frame.kind == "i":
                    assert before and before.kind in "ij1", stack
                before = frame


@pytest.mark.parametrize("name", jvms.all_names())
def test_conservation(name: str) -> None:
    for measured in (truth_of(name), shapes_of(name)):
        check_conservation(measured.profile.counters)
        assert measured.profile.total == harness.outcomes(measured.profile.counters)


# -- shapes


def test_no_impossible_edge_in_any_shape(shapes: Measured) -> None:
    check_edges(sample for run in shapes.runs for sample in shapes.of(run))


RUNNING = [run for run in SHAPES if run not in ("threads", "virtual")]  # threads that wait most of the time have tests of their own


def test_yield_of_the_shapes(shapes: Measured) -> None:
    check_yield(shapes, RUNNING, MOST_LATE_OF_NEW_METHODS)


@pytest.mark.parametrize("run", RUNNING)
def test_yield_in_any_shape(shapes: Measured, run: str) -> None:
    check_yield_of_one(shapes, run)


@pytest.mark.parametrize("name", jvms.all_names())
def test_unloaded_classes_lend_no_names_on_a_busy_machine(name: str) -> None:
    """Names are looked up behind the sample; by then, another class may be where the sample's was. Whoever has to wait for a CPU finds that."""
    with ExitStack() as stack:
        for _ in range(SPINNERS):
            stack.enter_context(harness.running(["sh", "-c", "while :; do :; done"]))
        measured = measure(name, {"unloading": SHAPES["unloading"]}, SHAPES_HZ, SHAPES_SECONDS)
    check_edges(measured.of("unloading"))


def test_recursion(shapes: Measured) -> None:
    """Most are at its end: with all steps, not one more or less."""
    for run, depth, steps in (("recursion", RECURSION, ""), ("reflection", STEPS, ""), ("interface", STEPS, "(;go)?")):
        samples = shapes.of(run)
        check_shape(samples, javaframes.recursion(depth))
        end = javaframes.count(samples, f"^main(;even;odd{steps}){{{depth // 2}}};end")
        share(end >= 0.8 * javaframes.total(sample for sample in samples if not sample.late), f"{end}: {javaframes.chains(samples).most_common(3)}")


def test_reflection_is_between_the_steps(shapes: Measured) -> None:
    """With all of its steps. What is inlined into the innermost frame is that of the next place for which the virtual machine keeps it: a step
    on its way down may seem to have come to the end."""
    at_the_end = [sample for sample in shapes.of("reflection") if ";end" in sample.chain and sample.whole]
    early = []
    for sample in at_the_end:
        calls = sum(frame.name == "java.lang.reflect.Method.invoke" for frame in sample.frames)
        assert calls <= STEPS // 2 - 1, sample.text()
        if calls < STEPS // 2 - 1:
            early.append(sample)
    found, total = javaframes.total(early), javaframes.total(at_the_end)
    share(found <= max(MISSES, 0.01 * total), f"{found} of {total}:\n{some(sample.text() for sample in early)}")


def test_lambdas_and_hidden_classes(shapes: Measured) -> None:
    samples = shapes.of("lambdas")
    for part in (
        r"^main;byLambda;lambda\$byLambda\$\d+;burn",
        r"^main;byCapture;lambda\$byCapture\$\d+;burn",
        "^main;byReference;burn",
        "^main;byHandle;burn",
        r"^main;byStream;lambda\$byStream\$\d+;burn",
        "^main;byAnonymous;applyAsInt;burn",
        r"^main;byDefault;twice;lambda\$byDefault\$\d+;burn",
        r"^main;bySort;lambda\$bySort\$\d+;order;burn",
        "^main;byConcat",
    ):
        share(javaframes.count(samples, part) > 0, f"{part} was never seen: {javaframes.chains(samples).most_common(12)}")
    hidden = [frame for sample in samples for frame in sample.frames if frame.hidden]
    assert hidden, "no frame of a lambda's class"


def innermost(samples: list[Sample], method: str) -> Counter[str]:
    """What stands under a method of the workload: the native frames after the last one of Java."""
    found: Counter[str] = Counter()
    for sample in samples:
        if sample.ours and sample.ours[-1].bare == method and sample.whole:
            rest: list[str] = []
            for frame in reversed(sample.stack):
                if isinstance(frame, Frame):
                    break
                rest.insert(0, frame)
            found["kernel" if sample.kernel else ";".join(rest)] += sample.n
    return found


def test_native_methods_go_down_into_libraries_and_the_kernel(shapes: Measured) -> None:
    samples = shapes.of("natives")
    deflating, reading = innermost(samples, "deflating"), innermost(samples, "reading")
    under = sum(n for text, n in deflating.items() if re.search(r"deflate|libz", text))
    share(under >= 0.8 * deflating.total() > 0, f"{deflating.most_common(5)}")
    share(reading["kernel"] >= 0.4 * reading.total() > 0, f"{reading.most_common(5)}")
    for part in ("summing", "copying", "sines"):
        share(javaframes.count(samples, f"^main;{part}") > 0, f"{part} was never seen")
    names = {frame.name for sample in samples for frame in sample.frames}
    wanted = {"java.util.zip.Deflater.deflate", "java.io.RandomAccessFile.read"}
    share(wanted <= names, f"{wanted - names} were never seen in {len(samples)} stacks")


def test_exceptions(shapes: Measured) -> None:
    samples = shapes.of("exceptions")
    shape = re.compile(r"main(;going|;round(;looked|;descend)?|;round(;descend){1,30}(;fresh|;old)?)?")
    check_shape(samples, shape)
    share(javaframes.count(samples, "^main;round(;descend){30};fresh") > 0, f"{javaframes.chains(samples).most_common(5)}")
    filled = sum(sample.n for sample in samples if any(frame.bare == "fillInStackTrace" for frame in sample.frames))
    share(filled > 0, "no sample of an exception that looks at its stack")


def test_code_that_is_taken_back(shapes: Measured) -> None:
    samples = shapes.of("deopts")
    check_shape(samples, re.compile(r"main(;going|;phase(;add(;area(;leaf(Square|Circle|Star))?)?)?)?"))
    for shape in ("Square", "Circle", "Star"):
        share(javaframes.count(samples, f"area;leaf{shape}$") > 0, f"{shape} was never seen: {javaframes.chains(samples)}")


def test_classes_that_come_and_go(shapes: Measured) -> None:
    """Class, method and file are of the same class, whatever had its place in memory before."""
    samples = shapes.of("unloading")
    numbers = set()
    for sample in samples:
        for frame in sample.ours:
            found = set(re.findall(r"(?:Guest|work|leaf)(\d{4})", f"{frame.name} {frame.file}"))
            assert len(found) <= 1, sample.text()
            numbers |= found
    share(len(numbers) >= 20, f"only {sorted(numbers)}")
    leaves = javaframes.count(samples, r"^main;use;applyAsInt;work\d{4}(;leaf\d{4})?$")
    share(leaves >= 0.3 * javaframes.total(samples), f"{leaves} of {javaframes.total(samples)}: {javaframes.chains(samples).most_common(5)}")


def number_of(sample: Sample) -> str:
    """What the stack of a thread says of its number: bits, the lowest first."""
    return "".join({"one": "1", "zero": "0"}[frame.bare] for frame in sample.ours if frame.bare in ("one", "zero"))


def test_each_thread_has_its_own_stack(shapes: Measured) -> None:
    """By the names of the threads in the kernel, whether they run Java, an intrinsic, or native code."""
    kinds = {"spinning": 0, "summing": 0, "deflating": 0}
    seen, missed, total = set(), [], 0
    for sample in shapes.of("threads"):
        if not sample.thread.startswith("thread_"):
            continue
        total += sample.n
        number = int(sample.thread.removeprefix("thread_"))
        bits = "" if sample.ending else number_of(sample)  # else only the innermost are there
        assert f"{number:010b}"[::-1].startswith(bits), f"{sample.thread} has the stack of {bits[::-1]}: {sample.text()}"
        work = [kind for kind in kinds if kind in sample.chain.split(";")]
        if work and not sample.ending:
            assert len(bits) == 10 and work == [list(kinds)[number % 3]], sample.text()
            kinds[work[0]] += sample.n
            seen.add(number)
        if not sample.late and not reaches_entry("threads", shapes, sample):
            missed.append(sample)
    share(total >= FEWEST and all(kinds.values()), f"{total} {kinds}")
    share(len(seen) >= 0.5 * THREADS, f"only {len(seen)} threads seen in {total} samples")
    # on its way into and out of a wait a thread is in Java too; that it blocks while it is read happens
    misses = javaframes.total(missed)
    share(misses <= max(MISSES, 0.01 * total), f"{misses} of {total}:\n{some(sample.text() for sample in missed)}")


def test_virtual_threads_are_on_their_carriers(shapes: Measured) -> None:
    """From the start of the carrier on. When it has just gone on, its outer frames are still in the heap, and read there; until the first of
    these was seen, and where a heap cannot be read (ZGC's is memory that could be shared), the stack says so."""
    if "virtual" not in shapes.runs:
        pytest.skip("virtual threads came with Java 21")
    samples = [sample for sample in shapes.of("virtual") if sample.thread.startswith("ForkJoinPool")]
    going = (
        "going|outer(;inner(;burnA)?)?|inner(;burnA)?|burnA|other(;deeper)*(;burnB)?|deeper(;deeper)*(;burnB)?|burnB|another(;<init>)?"
        "|far(;farther)*(;burnC)?|farther(;farther)*(;burnC)?|burnC"
    )
    complete = f"run(;(once(;burnB)?|work(;({going}))?))?"
    resumed = f"((run;)?work;)?({going})|(run;)?work|run"
    for sample in samples:
        if sample.chain and not sample.ending:
            shape = resumed if javaframes.IN_HEAP in sample.stack else complete
            assert re.fullmatch(shape, sample.chain) and sample.chain.count("deeper") <= 22, sample.text()
            assert sample.chain.count("farther") <= 201, sample.text()
    working = [sample for sample in samples if sample.chain and not sample.late]
    total = javaframes.total(working)
    share(total >= FEW, f"{total} samples of virtual threads")
    lost = [sample for sample in working if not reaches_entry("virtual", shapes, sample)]
    share(javaframes.total(lost) <= max(MISSES, (1 - YIELD) * total), f"{javaframes.total(lost)} of {total}:\n{some(sample.text() for sample in lost)}")
    whole = [sample for sample in working if any(frame.name == "java.lang.VirtualThread.run" for frame in sample.frames)]
    brief = javaframes.count(working, ";once")
    share(javaframes.count(whole, ";once") >= 0.95 * brief > 0, f"{javaframes.count(whole, ';once')} of {brief} that never waited have their own entry")
    fetched = [sample for sample in working if not sample.ending and javaframes.IN_HEAP not in sample.stack and sample.chain.endswith("farther;burnC")]
    known = javaframes.total([sample for sample in working if sample.chain.endswith("burnC") and not sample.ending])
    share(javaframes.total(fetched) >= 0.9 * known > 0, f"{javaframes.total(fetched)} of {known} have the callers that are in the heap")
    for sample in fetched:
        assert sample.chain.count("farther") == 201 and sample.chain.startswith("run;work;far;"), sample.text()
    for part in ("inner;burnA$", "deeper;burnB$", "farther;burnC$"):
        share(javaframes.count(samples, part) > 0, f"{part} was never seen: {javaframes.chains(samples).most_common(5)}")


def test_threads_of_the_virtual_machine_are_native(shapes: Measured) -> None:
    """Compilers and collectors have the stacks of C++ programs, to the start of their threads."""
    own = re.compile(r"C1 Comp|C2 Comp|G1 |GC Thread|VM Thread|VM Periodic|Sweeper")
    samples = [sample for run in shapes.runs for sample in shapes.samples[run] if own.match(sample.thread) and not sample.late]
    total = javaframes.total(samples)
    share(total >= FEW, f"{total} samples of the virtual machine's threads")
    wrong = [sample for sample in samples if sample.frames]
    assert not wrong, some(sample.text() for sample in wrong)
    whole = javaframes.total(sample for sample in samples if sample.whole)
    # C2's stacks may be deeper than is read, and its stubs have no unwind tables
    share(whole >= 0.9 * total, f"{whole} of {total}:\n{some(sample.text() for sample in samples if not sample.whole)}")


# -- ways of running one


def taken(measured: Measured, run: str) -> Measured:
    if run not in measured.runs:
        pytest.skip(f"Java {measured.jvm.release} has no {run}")
    return measured


@pytest.mark.parametrize("way", [way for way, run in WAYS.items() if run.script == "Alternating"])
@pytest.mark.parametrize("name", OF_WAYS)
def test_way_of_running(name: str, way: str, request: pytest.FixtureRequest) -> None:
    measured = taken(fresh(request, ways_of)(name), way)
    samples = measured.of(way)
    check_edges(samples)
    check_shape(samples, javaframes.alternating(DEPTH, inlines=way != "interpreted"))
    check_yield_of_one(measured, way, YIELD)
    kinds = javaframes.kinds(measured.folded[way])
    if way == "interpreted":
        assert set(kinds) == {"0"}, kinds
    elif way == "c1":
        assert kinds["1"] and not kinds["j"], kinds
    elif way == "c2":
        assert kinds["j"] and not kinds["1"], kinds
    else:
        assert kinds["j"] and kinds["i"], kinds


@pytest.mark.parametrize("way", [way for way, run in WAYS.items() if run.script == "Split"])
@pytest.mark.parametrize("name", OF_WAYS)
def test_split_by_way_of_running(name: str, way: str, request: pytest.FixtureRequest) -> None:
    check_split(fresh(request, ways_of)(name).of(way))


@pytest.mark.parametrize("collector", COLLECTORS)
@pytest.mark.parametrize("name", OF_WAYS)
def test_collector(name: str, collector: str, request: pytest.FixtureRequest) -> None:
    """Memory moves under the reader; what it reads does not depend on that."""
    measured = taken(fresh(request, collectors_of)(name), collector)
    samples = measured.of(collector)
    check_edges(samples)
    # of the recursion one or two more may be inlined into the innermost one
    check_shape(samples, re.compile(r"(main;)?run(;going|;round((;plant){0,15}|(;plant){1,15};<init>|(;count){0,15}))?|main"))
    check_yield_of_one(measured, collector, YIELD)
    for part in ("round(;plant)+", "round(;count)+"):
        share(javaframes.count(samples, part) > 0, f"{part} was never seen: {javaframes.chains(samples).most_common(5)}")


@pytest.mark.parametrize("take", [ways_of, collectors_of], ids=["ways", "collectors"])
@pytest.mark.parametrize("name", OF_WAYS)
def test_yield_of_the_ways(name: str, take: Callable[[str], Measured], request: pytest.FixtureRequest) -> None:
    measured = fresh(request, take)(name)
    check_yield(measured, measured.runs, MOST_LATE_OF_NEW_METHODS)


@pytest.mark.parametrize("name", OF_WAYS)
def test_ways_are_conserved(name: str) -> None:
    for measured in (ways_of(name), collectors_of(name)):
        check_conservation(measured.profile.counters)
        assert measured.profile.total == harness.outcomes(measured.profile.counters)
