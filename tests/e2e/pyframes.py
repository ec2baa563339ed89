"""Python's frames in a folded stack, and what the source says of them: which edges of a stack are possible."""

from __future__ import annotations

import ast
import itertools
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness import SOURCE, Folded, Stack

WORKLOADS = SOURCE / "tests" / "workloads" / "python"
FRAME = re.compile(r"(?P<name>.*) \((?P<file>.*?)(?::(?P<line>\d+))?\)_\[p\]", re.DOTALL)
EVAL = "_PyEval_EvalFrameDefault"


@dataclass(frozen=True)
class Frame:
    name: str
    file: str
    line: int
    """0: it has none."""

    @property
    def bare(self) -> str:
        """The name as up to Python 3.10, without that of what it is defined in."""
        return self.name.rpartition(".")[2]

    @property
    def script(self) -> str:
        return Path(self.file).name


@lru_cache(maxsize=1 << 16)
@lru_cache(maxsize=1 << 16)
def parse(frame: str) -> Frame | None:
    if not frame.endswith("_[p]"):
        return None
    found = FRAME.fullmatch(frame)
    assert found, f"not the form of a Python frame: {frame!r}"
    return Frame(found["name"], found["file"], int(found["line"] or 0))


@lru_cache(maxsize=1 << 16)
def frames(stack: Stack) -> tuple[Frame, ...]:
    """Python's, from the outermost to the innermost."""
    return tuple(frame for text in stack if (frame := parse(text)))


def names(stack: Stack) -> str:
    return ";".join(frame.bare for frame in frames(stack))


def chains(folded: Folded) -> Counter[str]:
    """Python's names of each stack that has any."""
    found: Counter[str] = Counter()
    for stack, n in folded.stacks.items():
        if chain := names(stack):
            found[chain] += n
    return found


def count(folded: Folded, pattern: str) -> int:
    return sum(n for chain, n in chains(folded).items() if re.search(pattern, chain))


def without(folded: Folded) -> Counter[Stack]:
    """Stacks without a frame of Python, of a program that is inside the interpreter whenever it runs."""
    return Counter({stack: n for stack, n in folded.stacks.items() if not frames(stack)})


def is_whole(stack: Stack) -> bool:
    """No frame of ours stands in it, which would say what is missing, and why."""
    return not any(frame.startswith("[") for frame in stack[1:])


def is_late(stack: Stack) -> bool:
    """Who else was busy on the CPU decides that, not the reader: on a machine that others use too it happens."""
    return stack[1:2] in (("[read too late]",), ("[moved on before it was read]",))


def missed(folded: Folded) -> Counter[Stack]:
    """Without frames of Python though their thread stood still."""
    return Counter({stack: n for stack, n in without(folded).items() if not is_late(stack)})


def share_with(folded: Folded) -> float:
    return 1 - sum(without(folded).values()) / max(folded.total, 1)


class Script:
    """One of the workloads: what its source makes possible."""

    def __init__(self, name: str) -> None:
        self.text = (WORKLOADS / name).read_text().splitlines()
        self.defined: list[tuple[int, int, str]] = []
        for node in ast.walk(ast.parse("\n".join(self.text))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.defined.append((node.lineno, node.end_lineno or node.lineno, node.name))

    def around(self, line: int) -> set[str]:
        """The functions whose text holds this line."""
        return {name for first, last, name in self.defined if first <= line <= last}

    def first_line(self, name: str) -> int:
        """Of a function that has this name alone."""
        (line,) = [first for first, _, defined in self.defined if defined == name]
        return line

    def line_of(self, mark: str) -> list[int]:
        return [number for number, text in enumerate(self.text, 1) if text.endswith(mark)]

    def has(self, frame: Frame) -> bool:
        """Whether the frame's line is one of its function's."""
        if frame.bare.startswith("<"):  # <module>, <lambda>, <genexpr>: no text of their own
            return 0 < frame.line <= len(self.text)
        return frame.bare in self.around(frame.line)

    def calls(self, frame: Frame, callee: Frame) -> bool:
        text = self.text[frame.line - 1] if 0 < frame.line <= len(self.text) else ""
        kinds = {
            "<module>": "exec(",
            "<lambda>": "",
            "<genexpr>": " for ",
            "<listcomp>": " for ",
            "<dictcomp>": " for ",
        }
        if callee.bare in kinds:
            return kinds[callee.bare] in text
        if callee.bare in ("__init__", "__new__"):
            return re.search(r"\b[A-Z]\w*\(", text) is not None
        if callee.script == "_weakrefset.py":
            return True  # called back whenever something is freed
        if callee.file.startswith("<frozen"):
            return "import " in text
        if re.search(r"\basync (for|with)\b", text) and not (WORKLOADS / callee.script).exists():
            return True  # hooks of the event loop
        return re.sub(r"\d+$", "N", callee.bare) + "(" in text


@lru_cache
def script(name: str) -> Script:
    return Script(name)


@lru_cache(maxsize=1 << 16)
def wrong_edge(frame: Frame, called: Frame | None) -> str:
    """Why the source has no such frame, or none that calls that one; empty: it may have."""
    if not (WORKLOADS / frame.script).exists() or frame.file.startswith("<"):
        return ""
    source = script(frame.script)
    if not called and not frame.line:
        return ""  # what a function begins and ends with, of the compiler's own (a generator's, a closure's), is in no line
    if not source.has(frame):
        return f"{frame.name} has no line {frame.line} in {frame.script}"
    if called and not source.calls(frame, called):
        return f"{frame.name} does not call {called.name} in line {frame.line} of {frame.script}"
    return ""


def impossible(stack: Stack) -> str:
    """The first thing in a stack that no run of the source can bring about; empty: there is none."""
    chain = frames(stack)
    for frame, called in itertools.zip_longest(chain, chain[1:]):
        if why := wrong_edge(frame, called):
            return why
    # only of the innermost one may there be nothing yet, or nothing any more
    if chain and any(text == EVAL for text in stack[: max(i for i, text in enumerate(stack) if parse(text))]):
        return f"{EVAL} is there beside what it executed"
    return ""


def impossible_stacks(folded: Folded) -> list[str]:
    """One line for each, with why."""
    found = []
    for stack, n in folded.stacks.items():
        if why := impossible(stack):
            text = ";".join(stack)
            found.append(f"{n:5} {why}: {text if len(text) < 700 else text[:300] + ' ... ' + text[-400:]}")
    return found


# Of workloads with a shape: their whole chain of Python names.
def alternating(depth: int) -> re.Pattern[str]:
    parts = ["going", rf"swap(;common){{0,{depth}}}"]
    for x in "ab":
        parts.append(rf"swap(;common){{{depth}}};both(;caller_{x}(;leaf_{x})?)?")
        parts.append(rf"rewind(;side_{x}){{0,{depth}}}")
        parts.append(rf"rewind(;side_{x}){{{depth}}};caller_{x}(;leaf_{x})?")
    return re.compile(f"<module>;main(;({'|'.join(parts)}))?")


def recursion(depth: int) -> re.Pattern[str]:
    return re.compile(rf"<module>;main(;even;odd){{{depth // 2}}}(;bottom|;going)?")


def of_another_shape(folded: Folded, shape: re.Pattern[str]) -> list[str]:
    return [f"{n:5} {chain}" for chain, n in chains(folded).items() if not shape.fullmatch(chain)]
