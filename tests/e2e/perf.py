"""perf as a second opinion: records with DWARF call graphs and reads what perf script prints."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

HEADER = re.compile(r"^(?P<comm>.*?)\s+(?P<pid>\d+)(?:/(?P<tid>\d+))?\s")
FRAME = re.compile(r"^\s+[0-9a-f]+ (?P<symbol>.*) \((?P<object>[^()]*(?:\([^()]*\))?)\)$")
KERNEL = ("[kernel.kallsyms]", "[guest.kernel.kallsyms]")

Stack = tuple[str, ...]


def available() -> bool:
    return shutil.which("perf") is not None


def command(seconds: float, hz: int, output: Path, target: list[str], dump: int = 8192) -> list[str]:
    """`target`: -a, or -p PID."""
    return [
        "perf", "record", "-q", "-e", "cpu-clock", "-F", str(hz), "--call-graph", f"dwarf,{dump}", "-o", str(output),
        *target, "--", "sleep", str(seconds),
    ]  # fmt: skip


def parse(text: str) -> Counter[Stack]:
    """Stacks by count, as in a folded file: comm first, then the frames from the outermost, kernel frames marked."""
    stacks: Counter[Stack] = Counter()
    comm: str | None = None
    frames: list[str] = []
    for line in [*text.splitlines(), ""]:
        if not line:
            if comm is not None:
                stacks[(comm, *reversed(frames))] += 1
            comm, frames = None, []
        elif comm is None:
            header = HEADER.match(line)
            comm = header["comm"].strip() if header else "?"
        elif frame := FRAME.match(line):
            name = re.sub(r"@@?GLIBC_[0-9.]+$", "", frame["symbol"])
            kernel = frame["object"] in KERNEL or frame["object"].endswith(".ko")
            frames.append(name + ("_[k]" if kernel else ""))
    return stacks


def script(data: Path) -> Counter[Stack]:
    fields = "comm,pid,tid,ip,sym,dso"
    done = subprocess.run(
        ["perf", "script", "-i", str(data), "--no-inline", "--max-stack", "1024", "-F", fields],
        capture_output=True,
        check=True,
        errors="replace",
    )
    return parse(done.stdout)
