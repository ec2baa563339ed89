"""Python, mixed with native, on the interpreters of several Debian releases: what the workloads' sources say is in the profile, and nothing
else. Two recordings for each interpreter, of all CPUs saturated, are judged by all the tests here."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import harness
import interpreters
import pyframes
import pytest
from harness import Folded, Pprof, check_conservation, fresh, record, share
from interpreters import Interpreter

HZ = 999
SECONDS = 6
SHAPES_HZ = 299  # deep stacks on busy CPUs: at 999 Hz their reader does not keep up
SHAPES_SECONDS = 10
DEPTH = 200
RECURSION = 500
THROUGH_C = 40
THREADS = 50
YIELD = 0.999
MOST_LATE = 0.1  # on a shared machine; bench/python says how many on this one
MISSES = 2  # of so few samples that one is more than a thousandth
POINTS = 2.0
SHORT_RECORDINGS = 6
FEWEST = 100  # samples of one workload that are enough to judge it

# Four interpreters keep all CPUs busy; the second recording is of everything else.
TRUTH = {"split": (), "lines": (), "alternating": (str(DEPTH),), "alternating2": (str(DEPTH),)}
SHAPES = {
    "recursion": (str(RECURSION),),
    "through_c": (str(THROUGH_C), "c"),
    "names": (),
    "generators": (),
    "extension": (),
    "executed": (),
    "executed2": ("template",),
    "threads": (str(THREADS),),
    "subinterpreters": (),
}
SCRIPTS = {"alternating2": "alternating", "through_c": "recursion", "executed2": "executed"}
COMM_MAX = 15  # characters of a process's name in the kernel


@dataclass
class Measured:
    interpreter: Interpreter
    pids: dict[str, int]
    profile: Pprof
    folded: dict[str, Folded]

    def of(self, workload: str) -> Folded:
        folded = self.folded[workload]
        share(folded.total >= FEWEST, f"{folded.total} samples of {workload} are too few to judge it")
        return folded


def measure(interpreter: Interpreter, workloads: dict[str, tuple[str, ...]], hz: int, seconds: int) -> Measured:
    """Each workload is run by a link of its name, which is the process's name then: a folded stack begins with it."""
    with interpreter.place() as place, harness.short_directory() as directory:
        for name, arguments in workloads.items():
            place.start(SCRIPTS.get(name, name), *arguments, name=name)
        place.wait_until_warm(0.25)
        pids = ",".join(map(str, place.pids.values()))
        recording = record(directory, "-d", seconds, "-F", hz, "-p", pids).check()
        text = recording.folded
        folded = {name: text.of(name[:COMM_MAX]) for name in workloads}
        return Measured(interpreter, place.pids, recording.pprof, folded)


@lru_cache
def truth_of(name: str) -> Measured:
    return measure(interpreters.find(name), TRUTH, HZ, SECONDS)


@lru_cache
def shapes_of(name: str) -> Measured:
    return measure(interpreters.find(name), SHAPES, SHAPES_HZ, SHAPES_SECONDS)


@pytest.fixture(params=interpreters.all_names())
def truth(request: pytest.FixtureRequest) -> Measured:
    return fresh(request, truth_of)(request.param)


@pytest.fixture(params=interpreters.all_names())
def shapes(request: pytest.FixtureRequest) -> Measured:
    return fresh(request, shapes_of)(request.param)


def check_shape(folded: Folded, shape: re.Pattern[str]) -> None:
    other = pyframes.of_another_shape(folded, shape)
    assert not other, f"{len(other)} stacks of {folded.total} samples:\n" + "\n".join(text[:2000] for text in other[:8])


def test_interpreter_is_of_its_release(truth: Measured) -> None:
    """Else the tests below would be about something else."""
    expected = interpreters.SUITES.get(truth.interpreter.name, truth.interpreter.version)
    assert truth.interpreter.version == expected


# -- truth


def test_no_impossible_edge(truth: Measured) -> None:
    wrong = [line for name in TRUTH for line in pyframes.impossible_stacks(truth.of(name))]
    assert not wrong, "\n".join(wrong[:8])


def test_callers_alternate_under_two_hundred_frames(truth: Measured) -> None:
    for name in ("alternating", "alternating2"):
        folded = truth.of(name)
        check_shape(folded, pyframes.alternating(DEPTH))
        for part in ("both;caller_a;leaf_a$", "both;caller_b;leaf_b$", "(;side_a)+$", "(;side_b)+$"):
            share(pyframes.count(folded, part), f"{part} was never seen in {folded.total} samples")


def test_split_among_functions(truth: Measured) -> None:
    folded = truth.of("split")
    found = {name: pyframes.count(folded, f"main;{name}") for name in ("seventy", "twenty", "ten")}
    total = sum(found.values())
    shares = {name: 100 * n / total for name, n in found.items()}
    for name, true in (("seventy", 70), ("twenty", 20), ("ten", 10)):
        share(abs(shares[name] - true) <= POINTS, (shares, total))


def test_split_between_two_loops_of_one_function(truth: Measured) -> None:
    source = pyframes.script("lines.py")
    found = {"one": 0, "two": 0, "else": 0}
    for stack, n in truth.of("lines").stacks.items():
        lines = [frame.line for frame in pyframes.frames(stack) if frame.bare == "two_loops"]
        if lines:
            found[next((name for name in ("one", "two") if lines[0] in source.line_of(f"# loop {name}")), "else")] += n
    share(found["else"] <= 0.02 * sum(found.values()), found)
    share(abs(100 * found["one"] / (found["one"] + found["two"]) - 50) <= POINTS, found)


def test_every_line_of_a_loop_is_seen(truth: Measured) -> None:
    source = pyframes.script("lines.py")
    lines = {frame.line for stack in truth.of("lines").stacks for frame in pyframes.frames(stack)}
    missing = [line for name in ("one", "two") for line in source.line_of(f"# loop {name}")[1:] if line not in lines]
    share(not missing, f"lines {missing} never seen, but {sorted(lines)}")


def check_yield(measured: Measured, workloads: dict[str, tuple[str, ...]]) -> None:
    """All of these are inside the interpreter whenever they run."""
    total = sum(measured.of(name).total for name in workloads)
    missing = [(n, ";".join(stack)) for name in workloads for stack, n in pyframes.missed(measured.of(name)).items()]
    late = sum(n for name in workloads for stack, n in measured.of(name).stacks.items() if pyframes.is_late(stack))
    share(late <= MOST_LATE * total, f"{late} of {total} samples were read late")
    misses = sum(n for n, _ in missing)
    text = "\n".join(f"{n:5} {stack[:900]}" for n, stack in sorted(missing, reverse=True)[:12])
    share(misses <= max(MISSES, (1 - YIELD) * total), f"{misses} of {total} samples without Python frames:\n{text}")


def test_yield(truth: Measured) -> None:
    check_yield(truth, TRUTH)


def test_stacks_are_mixed(truth: Measured) -> None:
    """From _start, through the interpreter's own frames, to Python's."""
    for name in TRUTH:
        for stack in truth.of(name).stacks:
            if frames := pyframes.frames(stack):
                if pyframes.is_whole(stack):
                    assert stack[1] == "_start" and re.search("libc_start", stack[2]), stack[:8]
                assert frames[0].bare == "<module>", stack[:20]


def test_pprof_carries_file_line_and_first_line(truth: Measured) -> None:
    source = pyframes.script("split.py")
    seen = set()
    for sample in truth.profile.profile.of(pid=truth.pids["split"]):
        for frame in sample.frames:
            bare = frame.name.rpartition(".")[2]
            if bare not in ("seventy", "twenty", "ten", "main") or not frame.file.endswith("split.py"):
                continue
            assert frame.file.startswith("/tmp/bh-py-"), frame
            assert frame.start_line == source.first_line(bare), frame
            assert bare in source.around(frame.line), frame
            seen.add(bare)
    share(seen == {"seventy", "twenty", "ten", "main"}, seen)


@pytest.mark.parametrize("name", interpreters.all_names())
def test_conservation(name: str) -> None:
    for measured in (truth_of(name), shapes_of(name)):
        check_conservation(measured.profile.counters)
        assert measured.profile.total == harness.outcomes(measured.profile.counters)


# -- shapes


def test_no_impossible_edge_in_any_shape(shapes: Measured) -> None:
    wrong = [line for name in SHAPES if name != "names" for line in pyframes.impossible_stacks(shapes.of(name))]
    assert not wrong, "\n".join(wrong[:8])


def test_yield_in_any_shape(shapes: Measured) -> None:
    """Code that comes and goes within microseconds has a test of its own; threads begin and wait outside of the interpreter."""
    check_yield(shapes, {name: () for name in SHAPES if name not in ("executed", "executed2", "threads", "subinterpreters")})


def test_recursion(shapes: Measured) -> None:
    check_shape(shapes.of("recursion"), pyframes.recursion(RECURSION))
    check_shape(shapes.of("through_c"), pyframes.recursion(THROUGH_C))


def test_recursion_through_c_is_mixed_at_each_step(shapes: Measured) -> None:
    """Between two frames of Python stand those of map() and list(), as often as it calls back."""
    for stack in shapes.of("through_c").stacks:
        kinds = "".join("p" if pyframes.parse(frame) else "n" for frame in stack[1:])
        if "p" in kinds and pyframes.is_whole(stack):
            assert len(re.findall("n+p", kinds)) >= THROUGH_C, kinds


def escaped(text: str) -> str:
    """As common/escape.h says, of a name that was read as worker/python/code.h says."""
    out = []
    for c in text:
        if c == ";":
            out.append(":")
        elif ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u2029" or "\u202a" <= c <= "\u202e" and c:
            out += [f"\\x{byte:02x}" for byte in c.encode()]
        else:
            out.append(c)
    return "".join(out)


def test_names(shapes: Measured) -> None:
    """Each case is there, as name and as file, escaped."""
    tree = ast.parse((pyframes.WORKLOADS / "names.py").read_text())
    (cases,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "CASES"]
    samples = shapes.profile.profile.of(pid=shapes.pids["names"])
    found = {(frame.name, frame.file) for sample in samples for frame in sample.frames if frame.line}
    for key, value in zip(cases.keys, cases.values):
        name = eval(compile(ast.Expression(value), "", "eval"), {})
        shown = escaped("".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in name))
        if len(shown) > 500:
            whole = [(a, b) for a, b in found if a.startswith(shown[:300]) and b.startswith(f"/tmp/{shown[:300]}")]
            share(whole, f"{key.value}: not in the profile")
            assert all(len(a.encode()) <= 1030 for pair in whole for a in pair), whole
        else:
            share((shown, f"/tmp/{shown}") in found, f"{key.value}: {shown!r} is not among {sorted(found)}")
    qualified = {"Shelf.method", "Shelf.closure.<locals>.inner", "main.<locals>.<lambda>"}
    wanted = qualified if shapes.interpreter.version >= (3, 11) else {name.rpartition(".")[2] for name in qualified}
    names = {name for name, _ in found}
    share(wanted <= names, f"{wanted - names} missing in {sorted(name[:80] for name in names)}")


def test_generators_and_coroutines(shapes: Measured) -> None:
    folded = shapes.of("generators")
    for part in (
        "main;by_generator;outer_generator;inner_generator;burn",
        "main;run_until_complete;run_forever;.*;coroutine;awaited;burn",
        "main;run_until_complete;run_forever;.*;consume;async_generator;burn",
    ):
        share(pyframes.count(folded, part), f"{part} was never seen: {pyframes.chains(folded).most_common(8)}")


def between(folded: Folded, outer: str, inner: str) -> list[tuple[str, ...]]:
    """The native frames between two of Python."""
    found = []
    for stack in filter(pyframes.is_whole, folded.stacks):
        frames = [pyframes.parse(text) for text in stack]
        at = [i for i, frame in enumerate(frames) if frame and frame.bare == outer]
        to = [i for i, frame in enumerate(frames) if frame and frame.bare == inner]
        if at and to:
            found.append(stack[at[0] + 1 : to[0]])
    return found


def test_c_that_calls_back(shapes: Measured) -> None:
    """Native frames stand where they belong: between the frame that called C, and the one that C called."""
    folded = shapes.of("extension")
    patterns = {"reduce": ".", "sorted": ".", "qsort": r"qsort|ffi|msort|ctypes", "sub": "."}
    for how, pattern in patterns.items():
        native = between(folded, f"by_{how}", f"back_from_{how}")
        share(native, f"by_{how} was never seen above back_from_{how}")
        assert all(native), f"nothing between by_{how} and back_from_{how}"
        share(any(re.search(pattern, frame) for frames in native for frame in frames), native[0])


@pytest.mark.parametrize("workload, spread", [("executed", 100), ("executed2", 1)])
def test_code_that_comes_and_goes(workload: str, spread: int, shapes: Measured) -> None:
    """Name, file and line are of the same code object, whatever had its place in memory before; and most are seen."""
    folded = shapes.of(workload)
    seen = 0
    for stack, n in folded.stacks.items():
        for frame in pyframes.frames(stack):
            if not re.match(r"made_\d+$", frame.bare) and not frame.file.startswith("<made "):
                continue
            seen += n
            number = int(re.sub(r"\D", "", frame.file))
            first = 9 + number % spread
            if frame.bare == "<module>":
                assert frame.line in (0, 1, first), frame
            else:
                assert frame.bare == f"made_{number}" and frame.line in (0, first, first + 1), frame
    share(seen > 0.3 * folded.total, f"{seen} of {folded.total}")
    misses = pyframes.missed(folded)
    share(sum(misses.values()) < 0.05 * folded.total, "\n".join(map(str, misses.most_common(5))))


def test_each_thread_has_its_own_stack(shapes: Measured) -> None:
    """By the names of the threads in the kernel, whether they hold the GIL or run native code without it."""
    kinds = {"spinning": 0, "hashing": 0, "zipping": 0}
    native = {"spinning": 0, "hashing": 0, "zipping": 0}
    numbers = set()
    missed: Counter[str] = Counter()
    total = 0
    for sample in shapes.profile.profile.of(pid=shapes.pids["threads"]):
        n = sample.values["samples"]
        thread = str(sample.labels.get("thread", ""))
        if not thread.startswith("thread_"):
            continue
        names = [frame.name for frame in sample.frames]
        own = [name for name in names if re.fullmatch(r"thread_\d+", name)]
        total += n
        if not own:
            if sample.labels.get("stack") not in ("late", "moved"):
                missed[";".join(names)] += n
            continue
        assert own == [thread], f"{thread} has the stack of {own}: {names}"
        numbers.add(thread)
        for kind in kinds:
            if kind in names:
                kinds[kind] += n
                native[kind] += n if names[-1] != kind else 0
    share(total >= FEWEST and all(kinds.values()), (total, kinds))
    share(len(numbers) >= 0.8 * THREADS, f"only {sorted(numbers)} seen")
    share(native["hashing"] >= 0.9 * kinds["hashing"] and native["zipping"] >= 0.9 * kinds["zipping"], (native, kinds))
    # on its way into and out of a wait a thread is in the interpreter too, but a few of its samples are of its very start
    text = "\n".join(f"{n:5} {stack[:900]}" for stack, n in missed.most_common(8))
    share(missed.total() <= max(MISSES, 0.005 * total), f"{missed.total()} of {total} samples of threads without their function:\n{text}")


def test_subinterpreters(shapes: Measured) -> None:
    folded = shapes.of("subinterpreters")
    for part in ("main;main_work", "host;.*sub_main_0;sub_work_0", "host;.*sub_main_1;sub_work_1"):
        share(pyframes.count(folded, part), f"{part} was never seen: {pyframes.chains(folded).most_common(8)}")
    misses = pyframes.missed(folded)
    share(sum(misses.values()) <= max(MISSES, 0.01 * folded.total), "\n".join(map(str, misses.most_common(5))))


def test_first_samples_of_several_interpreters() -> None:
    """Before 3.11 only all states of a thread make up its stack; until the worker's first turn with such a sample it looked for one."""
    with interpreters.find("bullseye").place() as place:
        place.start("subinterpreters")
        place.wait_until_warm(0.3)
        pid, misses, total = place.pids["subinterpreters"], Counter[str](), 0
        for _ in range(SHORT_RECORDINGS):
            with harness.short_directory() as directory:
                folded = record(directory, "-d", 1, "-F", HZ, "-p", pid).check().folded.of("subinterpreters"[:COMM_MAX])
            total += folded.total
            misses.update({";".join(stack): n for stack, n in pyframes.missed(folded).items() if any("do not match" in frame for frame in stack)})
    share(total >= SHORT_RECORDINGS * FEWEST, f"{total} samples")
    share(not misses, f"{misses.total()} of {total}:\n" + "\n".join(map(str, misses.most_common(5))))
