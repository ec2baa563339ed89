"""How large a service is, once it has come to rest: what must not grow."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import control  # noqa: E402
import harness  # noqa: E402

WORKERS = tuple(re.findall(r"^WORKER\((\w+)", (harness.SOURCE / "supervisor" / "workers.def").read_text(), re.M))
ANON_GROWTH_MAX = 64 << 10  # bytes: pages that the C library's heap touches or not, by chance


def status(one: harness.Service) -> dict[str, Any]:
    """However full the socket is."""
    end = time.monotonic() + 30
    while True:
        try:
            return control.ask(one.runtime / "status.sock")
        except (OSError, ConnectionError):
            assert time.monotonic() < end, "the supervisor does not answer"
            time.sleep(0.01)


def anonymous(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise ValueError("no RssAnon")


def zombies(pid: int) -> int:
    found = 0
    for child in harness.children(pid):
        with contextlib.suppress(OSError):
            found += Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return found


def leaves() -> int:
    """Control groups with our prefix, anywhere."""
    return sum(1 for _ in Path("/sys/fs/cgroup").glob("**/worker-*.[0-9]*"))


def fewest_fds(pid: int) -> int:
    """Of a second and a half: a snapshot that is being closed has two more for a moment."""
    seen = []
    for _ in range(30):
        seen.append(len(os.listdir(f"/proc/{pid}/fd")))
        time.sleep(0.05)
    return min(seen)


def settled(one: harness.Service, first: dict[str, int] | None = None) -> dict[str, int]:
    """The supervisor's size, once all run and a snapshot has gone by. What is larger than at first has half a minute to go: a figure is
    of one instant, and a child that was not reaped yet, or a file that is being replaced, is no growth."""
    one.wait_running(*WORKERS)
    one.wait_profiles(3)
    end = time.monotonic() + 30
    while True:
        last = measured(one)
        if first is None or not grown(first, last) or time.monotonic() > end:
            return last


def measured(one: harness.Service) -> dict[str, int]:
    one.wait_running(*WORKERS)
    # orders come and go with the processes of the machine; one that stays is a leak
    harness.wait_for(lambda: not status(one)["ledger"]["orders"], "no order to be open")
    return {
        "anonymous KiB": anonymous(one.pid) >> 10,
        "fds": fewest_fds(one.pid),
        "children": len(harness.children(one.pid)),
        "zombies": zombies(one.pid),
        "pids in the ledger": status(one)["ledger"]["pids"],
        "control groups": leaves(),
        "files in the runtime directory": len(os.listdir(one.runtime)),
    }


def grown(first: dict[str, int], last: dict[str, int]) -> list[str]:
    names = [name for name in first if name != "anonymous KiB" and last[name] > first[name]]
    if last["anonymous KiB"] << 10 > (first["anonymous KiB"] << 10) + ANON_GROWTH_MAX:
        names.append("anonymous KiB")
    return names


def compare(first: dict[str, int], last: dict[str, int], when: str) -> list[str]:
    """Prints both; the names of what grew."""
    print(f"\n| {'':32} | {when:>12} | at the end |\n| {'-' * 32} | {'-' * 12} | {'-' * 10} |")
    for name in first:
        print(f"| {name:32} | {first[name]:12} | {last[name]:10} |")
    names = grown(first, last)
    if names:
        print(f"\ngrown: {', '.join(names)}")
    return names


def stalls(one: harness.Service) -> dict[str, int]:
    """Of the supervisor's loop, in microseconds; "cpu": what it did itself in such a turn, the rest of it others ran."""
    supervisor = status(one)["supervisor"]
    own = {f"cpu {name}": value for name, value in (supervisor["loop_cpu_us"] | {"max": supervisor["loop_cpu_us_max"]}).items()}
    return supervisor["loop_stall_us"] | {"max": supervisor["loop_stall_us_max"]} | own
