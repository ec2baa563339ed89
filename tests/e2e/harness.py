"""Runs Bulkhead's programs for the tests and reads what they wrote.

BULKHEAD_BIN is the directory of the programs under test, BULKHEAD_WORKLOADS that of the workloads (by default near it).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import expect
import pprof

SOURCE = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("BULKHEAD_BIN", SOURCE / "build" / "release" / "bin")).resolve()
WORKLOADS = Path(os.environ.get("BULKHEAD_WORKLOADS", BIN.parents[1] / "workloads")).resolve()
BULKHEAD = BIN / "bulkhead"
BULKHEADD = BIN / "bulkheadd"

# Compiling this keeps a compiler busy for a while, in many of its functions.
LARGE_PROGRAM = "#include <map>\n#include <regex>\nint main() { std::map<int, std::regex> m; return (int)m.size(); }\n"

# A step that takes longer than this hangs; the machines are shared and slow at times.
PATIENCE = 60.0

Stack = tuple[str, ...]


class Noise(AssertionError):
    """A share, a split or a count of few samples missed its line. Chance and the machine's other work can do that once: pytest.ini has such a
    test measure again, with fresh data, and fail when each of three measurements missed. What must never be (an impossible stack, a sample
    that is not accounted for, a worker that dies) is a plain assertion, which is not asked twice."""


def fresh(request: Any, measure: Any) -> Any:
    """What many tests judge is measured once (an lru_cache); a test that is run again judges another measurement."""
    if getattr(request.node, "execution_count", 1) > 1:
        measure.cache_clear()
    return measure


def share(holds: bool, found: object) -> None:
    """An assertion about a share, a split or a count."""
    if not holds:
        raise Noise(str(found))


# Of Unicode's formats those that have a shape: number signs for Arabic and the like.
VISIBLE_FORMATS = {0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x600, 0x606)}


def is_clean(text: str) -> bool:
    """Nothing in it moves the cursor, ends a line, or hides or reorders what a reader sees. Spaces, and code points that are nobody's, may be there:
    any bytes of a target can be a name in Latin-1."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or ord(c) in VISIBLE_FORMATS for c in text)


# -- the numbers of a snapshot


def counter_rows() -> dict[str, str]:
    """Name and source of every row of proto/counters.def."""
    text = (SOURCE / "proto" / "counters.def").read_text()
    return dict(re.findall(r"^COUNTER\((\w+), (\w+),", text, re.MULTILINE))


ROWS = counter_rows()
OUTCOMES = [name for name, source in ROWS.items() if source == "OUTCOME"]


def outcomes(counters: dict[str, int]) -> int:
    return sum(counters.get(name, 0) for name in OUTCOMES)


def check_conservation(counters: dict[str, int]) -> None:
    """Every sample ended in one place."""
    taken = counters.get("taken", 0)
    lost = ("filtered", "lane_full", "malformed", "merge_full", "lane_damaged")
    kept = sum(counters.get(name, 0) for name in lost) + outcomes(counters)
    assert taken == kept, f"{taken} samples taken, {kept} accounted for: {counters}"


# -- folded stacks


@dataclass
class Folded:
    """comm, then frames from the outermost to the leaf, and how many samples."""

    stacks: Counter[Stack]

    @classmethod
    def parse(cls, text: str) -> Folded:
        stacks: Counter[Stack] = Counter()
        for line in text.splitlines():
            path, space, count = line.rpartition(" ")
            assert space and count.isdigit() and path, f"not a folded line: {line!r}"
            stacks[tuple(path.split(";"))] += int(count)
        return cls(stacks)

    @property
    def total(self) -> int:
        return sum(self.stacks.values())

    def of(self, comm: str) -> Folded:
        return Folded(Counter({stack: n for stack, n in self.stacks.items() if stack[0] == comm}))

    def chains(self) -> Counter[str]:
        """The user part of each stack, as expect.py describes it."""
        chains: Counter[str] = Counter()
        for stack, n in self.stacks.items():
            chains[";".join(frame for frame in stack[1:] if not frame.endswith("_[k]"))] += n
        return chains

    def count(self, pattern: str) -> int:
        """Samples whose chain contains the expression."""
        return sum(n for chain, n in self.chains().items() if re.search(pattern, chain))

    def share_complete(self) -> float:
        return sum(n for chain, n in self.chains().items() if expect.is_complete(chain)) / max(self.total, 1)


@dataclass
class Verdict:
    """How much of a profile is what the workload's source says."""

    total: int
    right: int
    wrong: list[tuple[int, str]]
    unseen: list[str]

    @property
    def share(self) -> float:
        return self.right / self.total if self.total else 0.0

    def __str__(self) -> str:
        lines = [f"{self.right} of {self.total} samples are right ({100 * self.share:.2f} %)"]
        lines += [f"never seen: {part}" for part in self.unseen]
        lines += [
            f"{n:6} wrong: {chain[:300]}{' ... ' + chain[-200:] if len(chain) > 500 else chain[300:]}"
            for n, chain in self.wrong[:8]
        ]
        return "\n".join(lines)


# A thread that is ending has no user part any more: its samples say nothing of the unwinder. More than these would.
MOST_WITHOUT_USER_PART = 0.02


def judge(folded: Folded, workload: expect.Workload) -> Verdict:
    right = total = 0
    wrong: list[tuple[int, str]] = []
    chains = folded.chains()
    if chains[""] <= MOST_WITHOUT_USER_PART * folded.total:
        del chains[""]
    for chain, n in chains.items():
        total += n
        if workload.is_right(chain):
            right += n
        else:
            wrong.append((n, chain))
    unseen = [part for part in workload.seen if not any(re.search(part, chain) for chain in chains)]
    return Verdict(total, right, sorted(wrong, reverse=True), unseen)


def check_truth(folded: Folded, workload: expect.Workload, least: int = 100) -> None:
    verdict = judge(folded, workload)
    share(verdict.total >= least, f"too few samples to judge: {verdict}")
    share(not verdict.unseen, verdict)
    # A program that gets little of its CPU has few samples: one rare instruction among them is chance, two are not.
    share(verdict.total - verdict.right <= max(1, (1 - workload.share) * verdict.total), verdict)


# -- pprof


@dataclass
class Pprof:
    profile: Any
    counters: dict[str, int]
    total: int

    @classmethod
    def read(cls, path: Path) -> Pprof:
        profile = pprof.read(path)
        counters = {name: n for name, n in profile.counters().items() if name in ROWS}
        return cls(profile, counters, profile.total("samples"))

    def of(self, pid: int) -> Folded:
        """The stacks of one process: on a machine that others use too, a name does not tell."""
        stacks: Counter[Stack] = Counter()
        for sample in self.profile.of(pid=pid):
            frames = [frame.name + ("_[k]" if frame.kernel else "") for frame in sample.frames]
            stacks[(str(sample.labels.get("comm", "")), *frames)] += sample.values["samples"]
        return Folded(stacks)

    def labels(self, key: str) -> set[str | int]:
        return {sample.labels[key] for sample in self.profile.samples if key in sample.labels}


# -- workloads


def build(directory: Path, out: Path, *variables: str) -> None:
    done = subprocess.run(
        ["make", "-s", "-C", str(directory), f"OUT={out}", "-j2", *variables],
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise RuntimeError(f"building {directory} failed:\n{done.stdout}{done.stderr}")


def program(name: str) -> Path:
    return WORKLOADS / (expect.WORKLOADS[name].program or name if name in expect.WORKLOADS else name)


@contextlib.contextmanager
def running(command: list[str | Path], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block, with all that it started."""
    options.setdefault("stdin", subprocess.DEVNULL)
    process = subprocess.Popen([str(part) for part in command], start_new_session=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first true value of the condition."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {patience:g} s in vain for {what}"
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_warm(pid: int, seconds: float = 0.05) -> None:
    """Past its start: the loader and libc have done their part. A machine that does not let it run says nothing of us."""
    try:
        wait_for(lambda: cpu_seconds(pid) >= seconds, f"process {pid} to run for {seconds} s")
    except AssertionError as error:
        share(not alive(pid), error)
        raise


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for child in list(found):
        found += descendants(child)
    return found


def alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# -- bulkhead record


@dataclass
class Recording:
    code: int
    stdout: str
    stderr: str
    directory: Path
    seconds: float
    outputs: dict[str, Path] = field(default_factory=dict)

    @property
    def folded(self) -> Folded:
        return Folded.parse(self.outputs["folded"].read_text())

    @property
    def pprof(self) -> Pprof:
        return Pprof.read(self.outputs["pb.gz"])

    def check(self) -> Recording:
        assert self.code == 0, f"bulkhead record ended with {self.code}:\n{self.stdout}{self.stderr}"
        return self


def record_command(
    directory: Path, *arguments: str | Path | int, formats: tuple[str, ...] = ("folded", "pb.gz")
) -> list[str]:
    command = [str(BULKHEAD), "record"]
    for ending in formats:
        command += ["-o", str(directory / f"out.{ending}")]
    return command + [str(argument) for argument in arguments]


def record(
    directory: Path,
    *arguments: str | Path | int,
    formats: tuple[str, ...] = ("folded", "pb.gz"),
    patience: float = 90,
    **options: Any,
) -> Recording:
    """One `bulkhead record` to its end; the outputs go to out.ENDING in the directory."""
    begin = time.monotonic()
    options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(
        record_command(directory, *arguments, formats=formats),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=patience,
        **options,
    )
    outputs = {ending: directory / f"out.{ending}" for ending in formats}
    return Recording(done.returncode, done.stdout, done.stderr, directory, time.monotonic() - begin, outputs)


def wait_recording(pid: int, least: int = 20) -> None:
    """Until this `bulkhead record` has taken so many samples: how long its start takes is the machine's affair."""

    def has_samples() -> bool:
        for child in children(pid):
            with contextlib.suppress(OSError):
                arguments = Path(f"/proc/{child}/cmdline").read_text(errors="replace").split("\0")
                if "--runtime-directory" not in arguments:
                    continue
                place = arguments[arguments.index("--runtime-directory") + 1]
                command = [str(BULKHEAD), "status", "--json", "--socket", f"{place}/status.sock"]
                done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
                if done.stdout and json.loads(done.stdout)["snapshot"]["so_far"].get("taken", 0) >= least:
                    return True
        return False

    wait_for(has_samples, f"{least} samples of the recording {pid}")


def record_workload(
    directory: Path, name: str, seconds: float = 2.5, hz: int = 499, formats: tuple[str, ...] = ("folded", "pb.gz")
) -> Recording:
    """A recording of one workload in its steady state, by -p."""
    workload = expect.WORKLOADS.get(name)
    arguments = workload.arguments if workload else ()
    with running([program(name), str(seconds + 60), *arguments], cwd=directory) as process:
        wait_until_warm(process.pid)
        return record(directory, "-d", seconds, "-F", hz, "-p", process.pid, formats=formats).check()


# -- bulkheadd


Config = dict[str, dict[str, str | int]]
ENDINGS = {"pprof": "pb.gz", "folded": "folded", "html": "html"}  # of the formats in a configuration


def config_text(config: Config) -> str:
    lines = []
    for section, keys in config.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def merged(base: Config, changes: Config) -> Config:
    result = {section: dict(keys) for section, keys in base.items()}
    for section, keys in changes.items():
        result.setdefault(section, {}).update(keys)
    return result


class Service:
    """One bulkheadd with directories of its own."""

    def __init__(self, directory: Path, config: Config | None = None, libexec: Path | None = None) -> None:
        self.directory = directory
        self.output = directory / "out"
        self.runtime = directory / "run"
        self.config_file = directory / "bulkhead.conf"
        self.log_file = directory / "log"
        self.libexec = libexec
        self.process: subprocess.Popen[bytes] | None = None
        base: Config = {
            # A healthy worker on a machine that stalls is not to be killed for it; tests of deadlines set their own.
            "snapshot": {"interval": "2s", "frequency": 99, "deadline": "15s"},
            "worker opener": {"order_deadline": "5s"},
            "output": {"directory": str(self.output), "formats": "pprof folded"},
            "supervisor": {"runtime_directory": str(self.runtime), "log_level": "debug"},
        }
        whole = merged(base, config or {})
        self.endings = [ENDINGS[name] for name in str(whole["output"]["formats"]).split()]
        self.config_file.write_text(config_text(whole))
        self.config_file.chmod(0o600)

    def command(self) -> list[str]:
        command = [str(BULKHEADD), "-c", str(self.config_file)]
        if self.libexec:
            command += ["--libexec-directory", str(self.libexec)]
        return command

    def start(self, ready: bool = True) -> Service:
        notify_path = str(self.directory / "notify")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(notify_path)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(notify_path)
        with notify, open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": notify_path},
                start_new_session=True,  # as systemd does
            )
            if ready:
                self.wait_ready(notify)
        return self

    def wait_ready(self, notify: socket.socket) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if select.select([notify], [], [], 0.1)[0] and b"READY=1" in notify.recv(4096).split(b"\n"):
                return
            assert self.pid and self.process and self.process.poll() is None, (
                f"bulkheadd ended at its start:\n{self.log()}"
            )
        raise AssertionError(f"bulkheadd never said READY=1:\n{self.log()}")

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def ask(self, *more: str) -> dict[str, Any]:
        done = subprocess.run(self.status_command(*more), capture_output=True, text=True, timeout=PATIENCE)
        # 1 says that not all is healthy, which some tests bring about; the answer is there all the same.
        assert done.returncode in (0, 1) and done.stdout, (
            f"bulkhead status ended with {done.returncode}: {done.stderr}\n{self.log()[-3000:]}"
        )
        return json.loads(done.stdout)

    def status(self) -> dict[str, Any]:
        return self.ask()

    def targets(self) -> dict[int, dict[str, Any]]:
        """The rows of bulkhead status --targets, by process. A worker that answers late, on a busy machine, is asked once more."""
        answer = self.ask("--targets")
        if any("did not answer" in one["why"] for one in answer["silent"]):
            answer = self.ask("--targets")
        return {row["pid"]: row for row in answer["targets"]}

    def status_command(self, *more: str) -> list[str]:
        return [str(BULKHEAD), "status", "--json", "--socket", str(self.runtime / "status.sock"), *more]

    def worker(self, name: str, status: dict[str, Any] | None = None) -> dict[str, Any]:
        rows = [row for row in (status or self.status())["workers"] if row["name"] == name]
        assert len(rows) == 1, f"{len(rows)} workers named {name}"
        return rows[0]

    def wait_running(self, *names: str) -> dict[str, int]:
        """Pids, once all of these run."""

        def pids() -> dict[str, int] | None:
            rows = {row["name"]: row for row in self.status()["workers"]}
            ok = all(name in rows and rows[name]["state"].lower() == "running" and rows[name]["pid"] for name in names)
            return {name: rows[name]["pid"] for name in names} if ok else None

        return wait_for(pids, f"{', '.join(names)} to run")

    def wait_restarted(self, name: str, old: int) -> int:
        return wait_for(lambda: (pid := self.wait_running(name)[name]) != old and pid, f"a new {name} after {old}")

    def profiles(self, ending: str = "pb.gz") -> list[Path]:
        """Finished profiles, oldest first: the files of a snapshot get their names one after the other, and retention takes them away."""
        found = []
        for path in self.output.glob(f"profile_*.{ending}"):
            with contextlib.suppress(FileNotFoundError):
                twins = [path.with_name(path.name.replace(f".{ending}", f".{other}")) for other in self.endings]
                found.append((max(twin.stat().st_mtime_ns for twin in twins), path.name, path))
        return [path for _, _, path in sorted(found)]

    def wait_profiles(self, more: int, ending: str = "pb.gz") -> list[Path]:
        """Until so many more than there are now are finished; the new ones."""
        before = set(self.profiles(ending))
        wait_for(lambda: len(set(self.profiles(ending)) - before) >= more, f"{more} more profiles", PATIENCE + more * 5)
        return [path for path in self.profiles(ending) if path not in before]

    def kill_worker(self, name: str) -> int:
        pid = self.wait_running(name)[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def order(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of an operator."""
        command = [str(BULKHEAD), words[0], "--socket", str(self.runtime / "status.sock"), *words[1:]]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"bulkheadd did not stop within {PATIENCE:g} s:\n{self.log()[-3000:]}") from None

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def check_profile_pair(path: Path, alone: bool = True) -> Pprof:
    """A finished snapshot in both formats: each sample is counted once, and in both alike. Not alone: a worker missed a
    deadline, so what it was given in one snapshot is accounted for in the next, and only the sum of all of them tells."""
    profile = Pprof.read(path)
    folded = Folded.parse(path.with_name(path.name.replace(".pb.gz", ".folded")).read_text())
    if alone:
        check_conservation(profile.counters)
    assert profile.total == outcomes(profile.counters), (
        f"{path.name}: {profile.total} samples in stacks, counters say {profile.counters}"
    )
    assert folded.total == profile.total, f"{path.name}: {folded.total} samples folded, {profile.total} in pprof"
    return profile


# -- directories


@contextlib.contextmanager
def short_directory(where: str = "/tmp") -> Iterator[Path]:
    """A private directory with a path short enough for a socket's name."""
    path = Path(tempfile.mkdtemp(prefix="bh-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
