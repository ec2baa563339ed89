"""What is checked inside the booted machine, where Bulkhead is a service of systemd. Runs there as root, once;
test_boot.py reads the names of the checks from here, and their results from the serial port. There is nothing but
Python's own library and pprof.py.

A new check is one function with @check: its name is the test's, what it raises is why it failed. They run in this
order. One that needs a configuration of its own, or a running service after one that stopped it, begins with serve().
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNIT = "bulkhead.service"
CONFIG = Path("/etc/bulkhead/bulkhead.conf")
OUTPUT = Path("/var/lib/bulkhead")
CGROUPS = Path("/sys/fs/cgroup")
WORKLOADS = Path("/opt/bulkhead-tests")
RESULTS = "/dev/ttyS1"

WORKERS = ("sampler", "native", "python", "java", "merge")
READERS = ("sampler", "native")
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
CONTROLLERS = ("cpu", "memory", "pids")

# The machine is emulated: about ten times slower than a real one, and a busy host makes it slower still.
PATIENCE = 40.0
DEADLINE = "20s"
CHECK_SECONDS = 90
LEASH = "".join(f"[worker {name}]\nrealtime_leash = 200ms\n" for name in WORKERS if name != "merge")  # an emulator is slow

Check = Callable[[], None]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


# -- helpers


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first true value of the condition."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {patience:g} s in vain for {what}"
        time.sleep(0.1)


def unit(name: str) -> str:
    """A property of the service, as systemd has it."""
    return run("systemctl", "show", "--value", "-p", name, UNIT).strip()


def serve(interval: str = "3s", more: str = "") -> None:
    """The service, freshly started, with snapshots of this length, and more lines of configuration."""
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(
        f"[snapshot]\ninterval = {interval}\nfrequency = 99\ndeadline = {DEADLINE}\n[output]\nformats = pprof folded\n{LEASH}{more}"
    )
    CONFIG.chmod(0o600)
    run("systemctl", "reset-failed", UNIT)
    run("systemctl", "restart", UNIT)
    assert unit("ActiveState") == "active"


def ask_status() -> dict[str, Any]:
    done = subprocess.run(["bulkhead", "status", "--json"], capture_output=True, text=True, timeout=PATIENCE)
    # 1: not all is healthy; the answer is there all the same
    assert done.returncode in (0, 1) and done.stdout, f"bulkhead status: {done.returncode}: {done.stderr}"
    return json.loads(done.stdout)


def healthy() -> dict[str, Any]:
    """The status once everything runs; says what is wrong otherwise."""
    last: dict[str, Any] = {}

    def good() -> bool:
        last.update(ask_status())
        return last["healthy"]

    with contextlib.suppress(AssertionError):
        wait_for(good, "health")
    assert last.get("healthy"), f"not healthy: {last.get('problems', 'no answer')}"
    return last


@dataclass
class Worker:
    """A worker process as status and the kernel see it."""

    name: str
    pid: int
    row: dict[str, Any]

    @property
    def proc(self) -> Path:
        return Path(f"/proc/{self.pid}")

    def status(self) -> dict[str, str]:
        return proc_status(self.pid)

    def threads(self) -> list[int]:
        return [int(task.name) for task in (self.proc / "task").iterdir()]


def workers(*names: str) -> list[Worker]:
    """These workers, all running."""
    rows = {row["name"]: row for row in healthy()["workers"]}
    return [Worker(name, rows[name]["pid"], rows[name]) for name in names or WORKERS]


def proc_status(pid: int) -> dict[str, str]:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (row.partition(":") for row in rows)}


def our_processes() -> set[tuple[int, int]]:
    """(pid, start time) of every process whose executable is one of ours."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(link)).name.removesuffix(" (deleted)").startswith("bulkhead"):
                stat = (link.parent / "stat").read_text().rpartition(")")[2].split()
                found.add((int(link.parent.name), int(stat[19])))
    return found


def cgroup() -> Path:
    """The service's own control group. Every path of it is v2's: there is one hierarchy."""
    return CGROUPS / unit("ControlGroup").lstrip("/")


def cgroup_of(pid: int) -> Path:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    assert len(lines) == 1 and lines[0].startswith("0::/"), f"not of cgroup v2 alone: {lines}"
    return CGROUPS / lines[0].removeprefix("0::/")


@contextlib.contextmanager
def busy(name: str = "split", seconds: int = 300) -> Iterator[int]:
    """The pid of a workload that keeps a CPU busy."""
    with subprocess.Popen([str(WORKLOADS / name), str(seconds)], stdin=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def profiles() -> set[Path]:
    return set(OUTPUT.glob("profile_*.pb.gz"))


def read_profile(path: Path) -> Any:
    import pprof  # laid beside this file in the machine

    return pprof.read(path)


# -- the service as it came up with the machine


@check
def starts_with_the_machine() -> None:
    run("systemctl", "is-enabled", UNIT)
    wait_for(lambda: unit("ActiveState") == "active", "READY=1")
    said = {name: unit(name) for name in ("Type", "SubState", "NRestarts", "Delegate")}
    assert said == {"Type": "notify", "SubState": "running", "NRestarts": "0", "Delegate": "yes"}, said


@check
def is_healthy_with_pinned_readers_at_real_time_priority() -> None:
    status = healthy()
    assert status["realtime"] is True and status["pinned"] is True, status
    assert status["supervisor"]["pid"] == int(unit("MainPID"))


@check
def readers_are_what_status_says() -> None:
    cpus = os.cpu_count() or 1
    with busy():
        for worker in workers(*READERS):

            def pinned(worker: Worker = worker) -> list[int]:
                return [
                    cpu
                    for thread in worker.threads()
                    if os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO
                    and len(os.sched_getaffinity(thread)) == 1
                    for cpu in os.sched_getaffinity(thread)
                ]

            # a reader comes into being with the first sample on its CPU
            wait_for(pinned, f"a pinned reader of {worker.name} at SCHED_FIFO")
            found = pinned()
            assert len(found) == len(set(found)) <= cpus, f"{worker.name}: readers on CPUs {found}"


@check
def workers_hold_no_capability() -> None:
    for worker in workers():
        for thread in worker.threads():
            rows = proc_status(thread)
            for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(rows[kind], 16) == 0, f"{worker.name}: {kind} {rows[kind]}"
            assert rows["NoNewPrivs"] == "1" and rows["Seccomp"] == "2", f"{worker.name}: {rows}"
            assert "0" not in rows["Uid"].split() + rows["Gid"].split() and not rows["Groups"], f"{worker.name}: {rows}"


@check
def workers_have_every_namespace() -> None:
    for worker in workers():
        own = {kind: os.readlink(worker.proc / "ns" / kind) for kind in NAMESPACES}
        shared = [kind for kind in NAMESPACES if own[kind] == os.readlink(f"/proc/self/ns/{kind}")]
        assert not shared, f"{worker.name} shares {shared}"
        assert sorted(worker.row["sandbox"]["namespaces"]) == list(NAMESPACES), worker.row["sandbox"]
        assert not worker.row["sandbox"]["refused"], worker.row["sandbox"]


@check
def workers_have_an_empty_root() -> None:
    for worker in workers():
        assert worker.row["sandbox"]["root"] == "empty", worker.row["sandbox"]
        assert os.listdir(worker.proc / "root") == [], f"{worker.name}: its root is not empty"
        mounts = (worker.proc / "mountinfo").read_text().splitlines()
        assert len(mounts) == 1 and re.search(r" ro[, ]", mounts[0]), f"{worker.name}: {mounts}"


@check
def workers_are_under_landlock() -> None:
    for worker in workers():
        assert worker.row["sandbox"]["landlock_abi"] > 0, worker.row["sandbox"]


@check
def supervisor_keeps_what_the_unit_grants() -> None:
    rows = proc_status(int(unit("MainPID")))
    granted = run("systemctl", "show", "--value", "-p", "CapabilityBoundingSet", UNIT).split()
    assert int(rows["CapEff"], 16).bit_count() <= len(granted) and rows["CapEff"] == rows["CapPrm"], rows
    assert rows["Seccomp"] == "2" and rows["NoNewPrivs"] == "1", rows


@check
def control_group_is_delegated() -> None:
    own = cgroup()
    assert cgroup_of(int(unit("MainPID"))).is_relative_to(own)
    there = (own / "cgroup.controllers").read_text().split()
    missing = [name for name in CONTROLLERS if name not in there]
    assert not missing, f"no {missing} in {there}"
    # what a leaf of each worker needs the supervisor to write
    assert (own / "cgroup.subtree_control").exists() and (own / "cgroup.kill").exists()


@check
def workers_are_in_the_control_group() -> None:
    for worker in workers("opener", *WORKERS):
        assert cgroup_of(worker.pid).is_relative_to(cgroup()), f"{worker.name} is in {cgroup_of(worker.pid)}"


# -- what the kernel enforces in each worker's own leaf


def leaf_of(worker: Worker) -> Path:
    leaf = cgroup_of(worker.pid)
    assert leaf.parent == cgroup() and leaf.name.startswith(f"worker-{worker.name}."), leaf
    return leaf


@contextlib.contextmanager
def in_the_place_of(name: str, action: str) -> Iterator[None]:
    """A worker that misbehaves is installed where the real one was."""
    real = Path(os.readlink(f"/proc/{row_of('merge')['pid']}/exe")).with_name(f"bulkhead-{name}")
    aside = real.with_name("aside")
    real.rename(aside)
    try:
        real.write_bytes((WORKLOADS / f"{name}.{action}").read_bytes())
        real.chmod(0o755)
        yield
    finally:
        aside.rename(real)


def row_of(name: str) -> dict[str, Any]:
    return next(row for row in ask_status()["workers"] if row["name"] == name)


@check
def every_worker_has_a_leaf_with_its_budget() -> None:
    serve()
    for worker in workers("opener", *WORKERS):
        leaf, budget = leaf_of(worker), worker.row["budget"]
        assert (leaf / "cgroup.procs").read_text().split() == [str(worker.pid)]
        assert int((leaf / "memory.max").read_text()) == budget["memory"]["limit"], budget["memory"]
        assert (leaf / "memory.oom.group").read_text().strip() == "1"
        assert int((leaf / "pids.max").read_text()) == budget["processes"]["limit"], budget["processes"]
        assert re.fullmatch(r"\d+ 100000", (leaf / "cpu.max").read_text().strip())
        assert budget["memory"]["by"] == "cgroup" and "cgroup" in budget["cpu_percent"]["by"], budget
        assert budget["kill_by"].startswith("cgroup.kill"), budget
    supervisor = cgroup_of(int(unit("MainPID")))
    assert supervisor == cgroup() / "supervisor", supervisor


@check
def kernel_kills_a_worker_at_its_memory_limit() -> None:
    """The leaf's memory.max: the cause is known, nobody else is hit, and its leaf goes with it."""
    with in_the_place_of("native", "eat_memory"):
        serve(more="[worker native]\nmemory = 24M\nmemory_recycle = 24M\nmemory_shed = 24M\nmemory_per_cpu = 0\n")
        row = wait_for(lambda: (row := row_of("native"))["last_cause"] == "memory" and row, "an end for memory")
        assert row["restarts"] >= 1, row
        others = [row_of(name)["restarts"] for name in ("opener", "sampler", "merge")]
        assert others == [0, 0, 0], others
    serve()
    healthy()
    live = {leaf_of(worker).name for worker in workers("opener", *WORKERS)}
    there = {path.name for path in cgroup().glob("worker-*")}
    assert there == live, f"leaves {there}, workers in {live}"


@check
def kernel_refuses_threads_over_the_budget() -> None:
    with in_the_place_of("native", "many_threads"):
        serve(more="[worker native]\nprocesses = 4\n")
        wait_for(lambda: row_of("native")["state"] == "running", "the hostile worker to run")
        leaf = cgroup_of(row_of("native")["pid"])
        limit = int((leaf / "pids.max").read_text())

        def refused() -> bool:
            return "max 0" not in (leaf / "pids.events").read_text()

        wait_for(refused, "a thread to be refused", 30)
        assert int((leaf / "pids.current").read_text()) <= limit


@check
def a_successor_has_a_leaf_of_its_own() -> None:
    serve(more="".join(f"[worker {name}]\nlifetime = 4s\n" for name in WORKERS))
    before = {worker.name: leaf_of(worker).name for worker in workers(*WORKERS)}
    wait_for(lambda: all(row_of(name)["recycles"] >= 1 for name in WORKERS), "successors", 60)
    successors = workers(*WORKERS)
    after = {worker.name: leaf_of(worker).name for worker in successors}
    assert all(after[name] != before[name] for name in WORKERS), (before, after)
    unplanned = {w.name: (w.row["restarts"], w.row["recycles"], w.row["last_cause"]) for w in successors}
    assert all(restarts == recycles for restarts, recycles, _ in unplanned.values()), unplanned


# -- profiles


@check
def busy_process_is_in_the_profile() -> None:
    serve()
    with busy() as pid:
        healthy()
        before = profiles()
        # the first of them began before the process was known
        new = wait_for(lambda: len(profiles() - before) >= 2 and profiles() - before, "two more profiles")
    samples = read_profile(max(new)).of(pid=pid)
    total = sum(sample.values["samples"] for sample in samples)
    ours = [sample for sample in samples if "main" in sample.stack and {"seventy", "twenty", "ten"} & set(sample.stack)]
    known = sum(sample.values["samples"] for sample in ours)
    assert total >= 50, f"{total} samples of a process that kept a CPU busy for 3 s at 99 Hz"
    assert known >= 0.9 * total, f"{known} of {total} samples are in the process's own functions"


@check
def kernel_frames_have_names() -> None:
    with busy("syscalls") as pid:
        healthy()
        before = profiles()
        new = wait_for(lambda: len(profiles() - before) >= 2 and profiles() - before, "two more profiles")
    frames = [frame for sample in read_profile(max(new)).of(pid=pid) for frame in sample.frames if frame.kernel]
    named = [frame for frame in frames if re.fullmatch(r"[A-Za-z_][\w.]*", frame.name)]
    assert frames and len(named) >= 0.95 * len(frames), f"{len(named)} of {len(frames)} kernel frames have a name"


@check
def every_sample_is_accounted_for() -> None:
    snapshot = healthy()["snapshot"]
    assert snapshot["last"]["taken"] > 0 and snapshot["unaccounted"] == 0, snapshot


# -- its end


@check
def stop_finishes_the_running_snapshot() -> None:
    """A profile of what was sampled so far; no process is left, and no file under a name that is not final."""
    serve("60s")
    before = profiles()
    with busy() as pid:
        wait_for(lambda: ask_status()["snapshot"]["so_far"].get("taken", 0) > 150, "samples")
        group = cgroup()
        run("systemctl", "stop", UNIT)
    assert unit("Result") == "success" and unit("ActiveState") == "inactive"
    assert not our_processes(), our_processes()
    assert not group.exists(), f"{group} is still there"
    new = profiles() - before
    assert len(new) == 1, f"{len(new)} profiles of the running snapshot"
    assert read_profile(new.pop()).of(pid=pid), "the busy process is not in the last profile"
    odd = [name for name in os.listdir(OUTPUT) if not name.startswith(("profile_", "last_profile.")) or ".tmp" in name]
    assert not odd, f"half-written: {odd}"


@check
def killed_supervisor_is_replaced_and_no_worker_is_left() -> None:
    serve()
    healthy()
    old, restarts = our_processes(), int(unit("NRestarts"))
    # the supervisor, opener, sampler, native and merge
    assert len(old) >= 2 + len(WORKERS), old
    left = OUTPUT / ".profile_1.pb.gz.tmp"
    left.write_bytes(b"half")
    os.kill(int(unit("MainPID")), signal.SIGKILL)
    wait_for(lambda: int(unit("NRestarts")) == restarts + 1, "systemd to restart it")
    wait_for(lambda: unit("ActiveState") == "active", "READY=1 once more")
    healthy()
    assert not old & our_processes(), f"left over: {old & our_processes()}"
    assert not left.exists(), f"{left.name} of the one that was killed is still there"


@check
def killed_worker_is_replaced() -> None:
    serve()
    for name in WORKERS:
        (worker,) = workers(name)
        os.kill(worker.pid, signal.SIGKILL)
        wait_for(lambda: not worker.proc.exists(), f"{name} to be gone")
        (successor,) = workers(name)
        assert successor.pid != worker.pid and successor.row["last_cause"] == "signal", successor.row
    assert unit("NRestarts") == "0" and unit("ActiveState") == "active"


@check
def wrong_configuration_is_not_tried_again() -> None:
    CONFIG.write_text("[snapshot]\nfrequency = 0\n")
    done = subprocess.run(["systemctl", "restart", UNIT], capture_output=True, timeout=PATIENCE)
    assert done.returncode != 0
    # restarting after a failure is "activating" until the time has come
    assert unit("ActiveState") == "failed" and unit("NRestarts") == "0", f"{unit('ActiveState')}, {unit('NRestarts')}"


# -- running them


def one_line(error: BaseException) -> str:
    text = f"{error}" if isinstance(error, AssertionError) and str(error) else f"{type(error).__name__}: {error}"
    return text.replace("\n", " | ")[:2000]


def on_alarm(*_: object) -> None:
    raise TimeoutError(f"this check did not end within {CHECK_SECONDS} s")


def main() -> None:
    signal.signal(signal.SIGALRM, on_alarm)
    with open(RESULTS, "w", buffering=1) as results:
        print(f"# {os.uname().release}, {os.cpu_count()} CPUs, {time.monotonic():.1f} s after the kernel", file=results)
        for function in CHECKS:
            begin = time.monotonic()
            signal.alarm(CHECK_SECONDS)
            try:
                function()
                print(f"ok {function.__name__}", file=results)
            except Exception as error:  # noqa: BLE001: whatever it is, the next check is to run
                print(f"not ok {function.__name__}: {one_line(error)}", file=results)
                # for the tail of the console that the test shows
                journal = ["journalctl", "--no-pager", "-n", "30", "-o", "short-monotonic", "-u", UNIT]
                subprocess.run(journal, stdout=sys.stderr, check=False, timeout=PATIENCE)
            finally:
                signal.alarm(0)
            print(f"# {function.__name__} took {time.monotonic() - begin:.1f} s", file=results)
        print("done", file=results)
        for line in run("journalctl", "--no-pager", "-n", "300", "-o", "short-monotonic", "-u", UNIT).splitlines():
            print(f"# {line}", file=results)


if __name__ == "__main__":
    main()
