"""Java's frames in a stack, and what the source says of them: which edges of a stack are possible."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import pprof
from harness import SOURCE, Folded, Stack

WORKLOADS = SOURCE / "tests" / "workloads" / "java"
PACKAGE = "work."
# compiled, inlined into the frame outside of it, interpreted, compiled by C1: as users of gProfiler know them
KINDS = ("j", "i", "0", "1")
FRAME = re.compile(r"(?P<name>.*?)(?: \((?P<file>[^()]*?)(?::(?P<line>\d+))?\))?_\[(?P<kind>[ji01])\]", re.DOTALL)
SUFFIX = re.compile(r"_\[([ji01])\]$")
# In a root there are no debug symbols, and the C library's own names are its file's.
THREAD_START = re.compile(r"(?:__GI_+|__)?clone3?$|_start$|start_thread$|libc[-.][\w.-]*\+0x")
# What stands in a stack in place of all that is missing.
GAPS = (
    "[read too late]", "[moved on before it was read]", "[sampled before its memory was lent]", "[stack not readable]", "[deeper than was read]",
    "[no way to the caller]", "[sampled before its runtime was known]", "[nothing known]",
)  # fmt: skip
# Frames of a virtual thread that were not yet copied back from the heap to the stack of its carrier, since it went on.
IN_HEAP = "[java: callers of a virtual thread that are in the heap]"
# Stands for one method, of which the name is not known: it may have called anything.
NAMELESS = "[java: a method"
LATE = ("late", "moved", "early", "missed")
"""What pprof says of samples whose reading was late: who else was busy decides that, not the reader."""


@dataclass(frozen=True)
class Frame:
    name: str
    """package.Class.method"""
    file: str
    line: int
    """0: it has none."""
    kind: str
    """Of KINDS; empty in pprof, where the name has no suffix."""

    @property
    def bare(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def owner(self) -> str:
        """The class, without its package."""
        before = self.name.rpartition(".")[0]
        return before.removeprefix(PACKAGE) if before.startswith(PACKAGE) else before

    @property
    def hidden(self) -> bool:
        """Of a class that the virtual machine made for a lambda."""
        return "$$Lambda" in self.owner

    @property
    def ours(self) -> bool:
        return self.name.startswith(PACKAGE) and not self.hidden


@lru_cache(maxsize=1 << 16)
def parse(text: str) -> Frame | None:
    """Of a folded stack; None is a frame that is not Java's."""
    if not SUFFIX.search(text):
        return None
    found = FRAME.fullmatch(text)
    assert found and "." in found["name"], f"not the form of a Java frame: {text!r}"
    return Frame(found["name"], found["file"] or "", int(found["line"] or 0), found["kind"])


@lru_cache(maxsize=1 << 16)
def of_pprof(frame: pprof.Frame) -> Frame | None:
    kind = SUFFIX.search(frame.name)
    # classes that the virtual machine makes have no file; nor have its stubs, but those have no class either
    made = not frame.mapping and "." in frame.name and not frame.name.startswith("[")
    if not kind and not made and not frame.file.endswith(".java"):
        return None
    name = SUFFIX.sub("", frame.name)
    return Frame(name, frame.file, frame.line, kind[1] if kind else "")


@dataclass(frozen=True)
class Sample:
    """One stack of a thread, from the outermost frame to the innermost: a text for a native one."""

    thread: str
    ending: str
    """Empty: all of it was read."""
    stack: tuple[Frame | str, ...]
    kernel: bool
    """The innermost frame is one of the kernel's."""
    n: int

    @property
    def frames(self) -> tuple[Frame, ...]:
        return tuple(frame for frame in self.stack if isinstance(frame, Frame))

    @property
    def ours(self) -> tuple[Frame, ...]:
        return tuple(frame for frame in self.frames if frame.ours)

    @property
    def chain(self) -> str:
        """The methods of the workload."""
        return ";".join(frame.bare for frame in self.ours)

    @property
    def late(self) -> bool:
        return self.ending in LATE

    @property
    def whole(self) -> bool:
        """From the first function of its thread on, without a gap."""
        first = self.stack[0] if self.stack else ""
        gaps = any(isinstance(frame, str) and (frame in GAPS or frame.startswith("[java:") and frame != IN_HEAP) for frame in self.stack)
        return not self.ending and not gaps and isinstance(first, str) and THREAD_START.search(first) is not None

    def text(self) -> str:
        """The same frame many times over is said once."""
        parts = [frame if isinstance(frame, str) else f"{frame.name}({frame.file}:{frame.line}){frame.kind}" for frame in self.stack]
        runs = [(part, len(list(same))) for part, same in itertools.groupby(parts)]
        text = ";".join(part if n == 1 else f"{part} * {n}" for part, n in runs)
        return f"{self.n:5} {self.thread} {self.ending}: {text if len(text) < 1500 else text[:500] + ' ... ' + text[-900:]}"


def samples_of(profile: pprof.Profile, pid: int) -> list[Sample]:
    found = []
    for sample in profile.of(pid=pid):
        stack = tuple(of_pprof(frame) or frame.name for frame in sample.frames)
        kernel = bool(sample.frames) and sample.frames[-1].kernel
        labels = sample.labels
        found.append(
            Sample(str(labels.get("thread", "")), str(labels.get("stack", "")), stack, kernel, sample.values["samples"])
        )
    return found


def total(samples: Iterable[Sample]) -> int:
    return sum(sample.n for sample in samples)


def count(samples: Iterable[Sample], pattern: str) -> int:
    """Samples whose chain contains the expression."""
    return sum(sample.n for sample in samples if re.search(pattern, sample.chain))


def chains(samples: Iterable[Sample]) -> Counter[str]:
    found: Counter[str] = Counter()
    for sample in samples:
        if sample.chain:
            found[sample.chain] += sample.n
    return found


def kinds(folded: Folded) -> Counter[str]:
    """How many frames of each kind there are of the workload's own methods, each times its samples."""
    found: Counter[str] = Counter()
    for stack, n in folded.stacks.items():
        for text in stack:
            if (frame := parse(text)) and frame.ours:
                found[frame.kind] += n
    return found


def folded_frames(stack: Stack) -> tuple[Frame, ...]:
    return tuple(frame for text in stack if (frame := parse(text)))


# -- what the sources make possible

CONTROL = ("if", "for", "while", "switch", "catch", "try", "synchronized", "do", "else", "return", "new")
DECLARED = re.compile(r"^(?P<indent> +)(?:[\w.<>\[\]?,@]+ +)*?(?P<name>\w+)\([^()]*\)(?: throws [\w, .]+)? \{$")


class Script:
    def __init__(self, name: str) -> None:
        self.text = (WORKLOADS / name).read_text().splitlines()
        self.defined: list[tuple[int, int, str]] = []
        for first, text in enumerate(self.text, 1):
            if (found := DECLARED.match(text)) and found["name"] not in CONTROL:
                end = next(n for n in range(first, len(self.text)) if self.text[n] == found["indent"] + "}")
                self.defined.append((first, end + 1, found["name"]))

    def around(self, line: int) -> set[str]:
        """The methods whose text holds this line."""
        return {name for first, last, name in self.defined if first <= line <= last}

    def lines_of(self, mark: str) -> list[int]:
        return [number for number, text in enumerate(self.text, 1) if text.endswith(mark)]

    def has(self, frame: Frame) -> bool:
        """Whether the frame's line is one of its method's."""
        if not 0 < frame.line <= len(self.text):
            return False
        bare = numberless(frame.bare)
        if bare.startswith("lambda$"):
            return bare.split("$")[1] in self.around(frame.line)
        if bare == "<init>":
            simple = numberless(frame.owner).rpartition("$")[2]
            # an anonymous class, or one that has no constructor of its own, has the line of its declaration; a field the line of its own
            return bool({simple} & self.around(frame.line)) or not self.around(frame.line) or simple.isdigit()
        if bare == "<clinit>":
            return True
        return bare in self.around(frame.line)

    def calls(self, frame: Frame, callee: Frame) -> bool:
        text = self.text[frame.line - 1] if 0 < frame.line <= len(self.text) else ""
        if callee.name.startswith("java.lang.StringBuilder.") and '" + ' in text:
            return True  # up to 8
        if callee.bare == "<init>":
            return "new " in text or frame.bare == "<init>"
        if callee.hidden:
            return f"{callee.bare}(" in text or "->" in text or "::" in text
        if callee.name.startswith("java.lang.invoke."):
            return re.search(r'invokeExact\(|->|::|" \+ ', text) is not None
        if "switch (" in text and callee.name.startswith("java.lang.String."):
            return True
        if callee.name in ("java.lang.Integer.valueOf", "java.lang.Integer.intValue"):
            return True  # boxing
        return f"{numberless(callee.bare)}(" in text


def numberless(name: str) -> str:
    """Guests are copies of one that has zeros in the place of the number."""
    return re.sub(r"(Guest|work|leaf)\d{4}", r"\g<1>0000", name)


@lru_cache
def script(name: str) -> Script | None:
    """None: not a source of the workloads."""
    return Script(name) if (WORKLOADS / name).exists() else None


def source_of(frame: Frame) -> Script | None:
    return script(re.sub(r"\$.*", "", numberless(frame.owner)) + ".java") if frame.ours else None


def impossible(sample: Sample) -> str:
    """The first thing in a stack that no run of the source can bring about; empty: there is none."""
    before: Frame | str = ""
    outer: Frame | None = None
    for frame in sample.stack:
        if isinstance(frame, Frame):
            if frame.ours:
                source = source_of(frame)
                if not source:
                    return f"{frame.name} is in no source"
                if numberless(frame.file) != re.sub(r"\$.*", "", numberless(frame.owner)) + ".java":
                    return f"{frame.name} is not in {frame.file}"
                if not source.has(frame):
                    return f"{frame.name} has no line {frame.line} in {frame.file}"
            if outer and outer.ours and (source := source_of(outer)) and not source.calls(outer, frame):
                # the virtual machine calls Java too: to load a class, to link a call; its native frames stand between
                if before is outer or frame.ours and frame.bare != "<clinit>":
                    return f"{outer.name} does not call {frame.name} in line {outer.line} of {outer.file}"
            if outer and outer.ours and frame.ours:
                numbers = [re.sub(r"\D", "", name) for name in (outer.bare, frame.bare) if re.match(r"(work|leaf)\d", name)]
                if len(set(numbers)) > 1:
                    return f"{outer.name} does not call {frame.name}"
            outer = frame
        elif frame.startswith(NAMELESS):
            outer = None
        before = frame
    return ""


def impossible_stacks(samples: Iterable[Sample]) -> list[str]:
    """One line for each, with why."""
    return [f"{why}: {sample.text()}" for sample in samples if (why := impossible(sample))]


# Of workloads with a shape: the whole chain of their own methods. Where the innermost compiled method was interrupted, the next place that
# it has told of stands for it: of what is inlined there, more or less may be named than was running.
def alternating(depth: int, inlines: bool) -> re.Pattern[str]:
    least = 0 if inlines else depth
    parts = ["going", rf"swap(;common){{0,{depth}}}"]
    for x in "AB":
        parts.append(rf"swap(;common){{{least},{depth}}};both(;caller{x}(;leaf{x})?)?")
        parts.append(rf"rewind(;side{x}){{0,{depth}}}")
        parts.append(rf"rewind(;side{x}){{{least},{depth}}};caller{x}(;leaf{x})?")
    return re.compile(f"main(;({'|'.join(parts)}))?")


def recursion(depth: int) -> re.Pattern[str]:
    """Of the steps through an interface each has a method more."""
    return re.compile(rf"main(;going|(;even;odd(;go)?){{0,{depth // 2}}}(;even)?(;end(;bottom)?)?)")


def of_another_shape(samples: Iterable[Sample], shape: re.Pattern[str]) -> list[str]:
    """Of stacks that were read to their end."""
    return [sample.text() for sample in samples if sample.chain and not sample.ending and not shape.fullmatch(sample.chain)]
