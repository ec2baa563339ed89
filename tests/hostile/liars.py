"""What the tests of processes that lie have in common: which lies a program knows, running them, and whether a lie was noticed."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness


def all_lies(source: str, *but: str) -> list[str]:
    """Those of the table in tests/hostile/SOURCE."""
    text = (harness.SOURCE / "tests" / "hostile" / source).read_text()
    return [name for name in re.findall(r"LIE\((\w+)\)", text) if name not in ("name", *but)]


@contextlib.contextmanager
def liars(program: Path, lies: list[str]) -> Iterator[dict[str, int]]:
    """The pid of a process for each lie."""
    with contextlib.ExitStack() as stack:
        yield {lie: stack.enter_context(harness.running([program, lie], stdout=subprocess.DEVNULL)).pid for lie in lies}


def tells(row: dict[str, Any]) -> bool:
    """A row of status --targets says why there are no frames."""
    names = ("torn", "skewed", "unreadable", "truncated", "late")
    return bool(row) and bool(row["why"] or sum(row[name] for name in names))
