"""What the measurements share; the harness of the end-to-end tests does the rest."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
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


def pss(pid: int) -> int:
    """Bytes; 0 when the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
