"""What the measurements share; the harness of the end-to-end tests does the rest."""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import harness  # noqa: E402


def arguments(text: str, seconds: float, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--seconds", type=float, default=seconds, help="length of one recording (default %(default)g)")
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each is measured (default %(default)d)")
    return parser


def prepare() -> None:
    if os.geteuid() != 0:
        sys.exit("profiling the machine needs root")
    if not harness.BULKHEAD.exists():
        sys.exit(f"{harness.BULKHEAD} is missing: build first, or set BULKHEAD_BIN")
    harness.build(harness.SOURCE / "tests" / "workloads", harness.WORKLOADS)


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A Markdown table, so that it can go into a README as it is."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(head, *texts)]
    print(f"\n{title}\n")
    for row in [list(head), ["-" * width for width in widths], *texts]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
    sys.stdout.flush()


def rate(counter: Path, seconds: float) -> float:
    """What a program gets done in a second, by the number of 64 bits that it counts up in a file."""

    def done() -> int:
        return struct.unpack("<Q", counter.read_bytes())[0]

    before, begin = done(), time.monotonic()
    time.sleep(seconds)
    return (done() - before) / (time.monotonic() - begin)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of the interval in which it is with 95 %."""
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return statistics.mean(values), half


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def cpus() -> int:
    return len(os.sched_getaffinity(0))


def saturate(stack: ExitStack) -> None:
    """One busy program for each CPU."""
    for _ in range(cpus()):
        stack.enter_context(harness.running([harness.program("split"), "100000"]))


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def family(pid: int) -> list[int]:
    return [pid, *harness.descendants(pid)]


# Files looked at from Python and from a native program: both workers know the kernel's symbols then, which each reads once in its life.
IN_THE_KERNEL = (
    [sys.executable, "-c", "import os, time\nend = time.time() + 1.5\nwhile time.time() < end: os.listdir('/proc')"],
    ["find", "/usr/share", "-name", "nothing"],
)


def warm_up(service: harness.Service) -> None:
    """What a service does once in its life is done."""
    for command in IN_THE_KERNEL:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    service.wait_profiles(1)


def cpu_ns(pid: int) -> int:
    """Of all threads that there are now."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(task.read_text().split()[0])
    return total


def spent(pids: Callable[[], list[int]], seconds: float) -> float:
    """CPU seconds in a time of so many, of those who live at both ends."""
    before = {pid: cpu_ns(pid) for pid in pids()}
    time.sleep(seconds)
    return sum(cpu_ns(pid) - ns for pid, ns in before.items()) / 1e9


def pss(pid: int) -> int:
    """Bytes; 0 when the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
