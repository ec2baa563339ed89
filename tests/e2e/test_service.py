"""bulkheadd as a service: files, links, retention, status, configuration."""

from __future__ import annotations

import grp
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import (
    BULKHEAD,
    BULKHEADD,
    PATIENCE,
    Folded,
    Pprof,
    Service,
    check_profile_pair,
    config_text,
    cpu_seconds,
    running,
    share,
    wait_for,
)

NAME = re.compile(r"profile_(\d{8}T\d{6}Z)(-\d+)?\.(pb\.gz|folded|html)")
FAST: dict[str, dict[str, str | int]] = {"snapshot": {"interval": "1s"}}


def test_files_are_complete_or_not_there(service: Callable[..., Service], workload: Callable[[str], Path]) -> None:
    """Whoever lists the directory at any moment finds only whole files under the final names."""
    found: dict[str, int] = {}
    broken: list[str] = []
    stop = threading.Event()

    def watch(one: Service) -> None:
        while not stop.is_set():
            for path in one.output.glob("profile_*"):
                size = path.stat().st_size
                if found.setdefault(path.name, size) != size:
                    broken.append(f"{path.name} grew from {found[path.name]} to {size} bytes")
            time.sleep(0.001)

    with (
        running([workload("split"), "60"]),
        service({"snapshot": {"interval": "1s"}, "output": {"formats": "pprof folded html"}}).start() as one,
    ):
        watcher = threading.Thread(target=watch, args=(one,))
        watcher.start()
        try:
            files = one.wait_profiles(3)
        finally:
            stop.set()
            watcher.join()
        assert not broken
        for path in files:
            check_profile_pair(path)
            page = path.with_name(path.name.replace(".pb.gz", ".html"))
            assert page.read_text().rstrip().endswith("</html>")
        assert one.stop() == 0
    names = [path.name for path in one.output.iterdir()]
    assert all(NAME.fullmatch(name) or name.startswith("last_profile.") for name in names), names


def test_last_profile_links(service: Callable[..., Service]) -> None:
    """They lead to the newest, and are never gone for a moment."""
    with service({"snapshot": {"interval": "1s"}, "output": {"formats": "pprof folded html"}}).start() as one:
        one.wait_profiles(1)
        links = [one.output / f"last_profile.{ending}" for ending in ("pb.gz", "folded", "html")]
        seen = set()
        begin = time.monotonic()
        while (seconds := time.monotonic() - begin) < 3 or len(seen) < 2:
            assert seconds < PATIENCE, f"they only ever led to {seen}"
            for link in links:
                assert link.is_symlink() and link.exists(), f"{link.name} leads nowhere"
            seen.add(os.readlink(links[0]))
        assert one.stop() == 0
    for link in links:
        target = os.readlink(link)
        assert "/" not in target and target == one.profiles(link.name.removeprefix("last_profile."))[-1].name


def test_snapshots_follow_each_other(service: Callable[..., Service]) -> None:
    with service({"snapshot": {"interval": "1s"}}).start() as one:
        one.wait_profiles(1)
        files = one.wait_profiles(3)
        assert one.stop() == 0
    profiles = [Pprof.read(path).profile for path in files]
    # A machine that stalls ends them late, and somebody may set the clock on the wall.
    for profile in profiles:
        share(0.9e9 < profile.duration_nanos < 2.5e9, f"{profile.duration_nanos} ns")
    for earlier, later in zip(profiles, profiles[1:]):
        gap = later.time_nanos - earlier.time_nanos - earlier.duration_nanos
        share(abs(gap) < 1e8, f"they overlap, or leave a gap: {gap} ns")


@pytest.mark.parametrize(("key", "value", "most"), [("keep_files", 2, 2), ("keep_files", 1, 1)])
def test_retention_by_count(key: str, value: int, most: int, service: Callable[..., Service]) -> None:
    with service({"snapshot": {"interval": "1s"}, "output": {key: value}}).start() as one:
        seen: set[Path] = set()
        wait_for(lambda: seen.update(one.profiles()) or len(seen) >= most + 2, "more profiles than are kept")
        wait_for(lambda: len(one.profiles()) <= most, "old profiles to go")
        assert one.stop() == 0
    assert 1 <= len(one.profiles()) <= most and 1 <= len(one.profiles("folded")) <= most


def test_retention_by_bytes_and_age(service: Callable[..., Service]) -> None:
    """Old files of ours go, whatever else lies there stays."""
    one = service({"snapshot": {"interval": "1s"}, "output": {"keep_age": "1h", "keep_bytes": "1M"}})
    one.output.mkdir(mode=0o750)
    old = one.output / "profile_20200101T000000Z.pb.gz"
    old.write_bytes(b"x" * 100)
    os.utime(old, (1577836800, 1577836800))
    large = one.output / "profile_20990101T000000Z.folded"
    stranger = one.output / "profile_notes.txt"
    stranger.write_text("mine")
    with one.start():
        one.wait_profiles(2)
        wait_for(lambda: not old.exists(), "the profile of 2020 to go")
        yesterday = one.output / "profile_20200102T000000Z.pb.gz"
        yesterday.write_bytes(b"x" * (3 << 20))
        one.wait_profiles(2)
        wait_for(lambda: not yesterday.exists(), "the large profile to go")
        assert one.stop() == 0
    assert stranger.read_text() == "mine" and not large.exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_end_finishes_the_running_snapshot(
    how: signal.Signals, service: Callable[..., Service], workload: Callable[[str], Path]
) -> None:
    with running([workload("split"), "90"]) as split, service({"snapshot": {"interval": "60s"}}).start() as one:
        # Samples arrive, and this program had its share of the CPUs meanwhile: there is something to lose.
        wait_for(lambda: one.status()["snapshot"]["so_far"].get("taken", 0) > 0, "the first samples")
        before = cpu_seconds(split.pid)
        wait_for(lambda: cpu_seconds(split.pid) > before + 0.4, "some work of the program")
        begin = time.monotonic()
        assert one.stop(how) == 0
        assert time.monotonic() - begin < 40, "it waited for the snapshot to be over"
    files = one.profiles()
    assert len(files) == 1, files
    profile = check_profile_pair(files[0])
    ours = Folded.parse(files[0].with_name(files[0].name.replace(".pb.gz", ".folded")).read_text()).of("split").total
    share(profile.counters["taken"] > 20 and ours > 10, f"{ours} of the program: {profile.counters}")


def test_second_service_on_the_same_directory_is_refused(service: Callable[..., Service]) -> None:
    with service().start() as one:
        done = subprocess.run(
            [str(BULKHEADD), "-c", str(one.config_file)], capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode not in (0, None) and str(one.runtime) in done.stderr, (done.returncode, done.stderr)
        assert one.status()["supervisor"]["pid"] == one.pid
        one.wait_profiles(1)
        assert one.stop() == 0


def test_starts_again_after_having_been_killed(service: Callable[..., Service]) -> None:
    """A stale socket and half-written files are no obstacle, and do not stay."""
    with service(FAST).start() as one:
        one.wait_profiles(1)
        one.stop(signal.SIGKILL)
        (one.output / ".profile_20250101T000000Z.pb.gz.tmp").write_bytes(b"half")
        one.start()
        one.wait_profiles(1)
        assert one.stop() == 0
    assert not list(one.output.glob(".*"))


def test_ready_only_when_it_works(service: Callable[..., Service]) -> None:
    with service().start() as one:
        # start() returned at READY=1: all of it is there.
        assert {row["name"] for row in one.status()["workers"]} >= {"opener", "sampler", "native", "merge"}
        assert one.stop() == 0


# -- status


def test_status_json_has_all_of_it(service: Callable[..., Service], workload: Callable[[str], Path]) -> None:
    # A machine that does nothing has snapshots without a sample.
    with running([workload("split"), "60"]), service(FAST).start() as one:
        one.wait_profiles(2)
        status = one.status()
        assert one.stop() == 0

    def has(row: dict[str, Any], **types: type | tuple[type, ...]) -> None:
        for key, kind in types.items():
            assert key in row, f"no {key} in {row}"
            assert row[key] is None or isinstance(row[key], kind), f"{key}: {row[key]!r}"

    number = (int, float)
    has(status, version=str, supervisor=dict, workers=list, ledger=dict, snapshot=dict)
    has(status["supervisor"], pid=int, uptime_s=number, rss_bytes=int, pss_bytes=int, fds=int, loop_stall_us_max=number)
    turn = status["supervisor"]
    assert turn["loop_cpu_us"]["p50"] <= turn["loop_cpu_us"]["p99"] and turn["loop_cpu_us_max"] > 0, turn
    assert status["supervisor"]["pid"] == one.pid
    for row in status["workers"]:
        has(
            row,
            name=str,
            pid=int,
            state=str,
            uptime_s=number,
            restarts=int,
            last_cause=str,
            rss_bytes=int,
            pss_bytes=int,
        )
        has(row, cpu_s=number, fds=int, leases=int, sandbox=dict, latency_us=dict)
        has(row["sandbox"], no_new_privs=(bool, int), seccomp=(int, str), uid=int, landlock_abi=int)
        assert {"caps", "namespaces", "root"} <= row["sandbox"].keys()
    has(one.worker("native", status)["latency_us"], p50=number, p99=number)
    has(status["ledger"], fds=int, pids=int)
    has(status["snapshot"], id=int, age_s=number, last=dict)
    assert status["snapshot"]["last"]["taken"] > 0


def test_status_for_people(service: Callable[..., Service]) -> None:
    with service(FAST).start() as one:
        one.wait_profiles(1)
        done = subprocess.run(
            [part for part in one.status_command() if part != "--json"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert one.stop() == 0
    assert done.returncode == 0, done.stderr
    for name in ("opener", "sampler", "native", "merge"):
        assert name in done.stdout
    assert "\x1b" not in done.stdout


def test_status_without_a_service(directory: Path) -> None:
    done = subprocess.run(
        [str(BULKHEAD), "status", "--json", "--socket", str(directory / "status.sock")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1 and done.stderr and "Traceback" not in done.stderr, done


def ask_as(one: Service, uid: int, gid: int, *groups: int) -> subprocess.CompletedProcess[str]:
    more = [f"--groups={','.join(map(str, groups))}"] if groups else ["--clear-groups"]
    command = ["setpriv", f"--reuid={uid}", f"--regid={gid}", *more, "--inh-caps=-all", *one.status_command()]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_status_is_for_root_and_the_group(service: Callable[..., Service], directory: Path) -> None:
    group = next((name for name in ("adm", "games", "users") if name in {row.gr_name for row in grp.getgrall()}), None)
    assert group
    gid = grp.getgrnam(group).gr_gid
    directory.chmod(0o755)
    with service({"supervisor": {"status_group": group}}).start() as one:
        one.directory.chmod(0o755)
        allowed = ask_as(one, 65534, 65534, gid)
        assert allowed.returncode == 0 and json.loads(allowed.stdout)["supervisor"]["pid"] == one.pid, allowed
        primary = ask_as(one, 65534, gid)
        assert primary.returncode == 0, primary
        refused = ask_as(one, 65534, 65534)
        assert refused.returncode == 3 and not refused.stdout, refused
        assert one.stop() == 0


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_status_is_for_root_alone_by_default(service: Callable[..., Service], directory: Path) -> None:
    directory.chmod(0o755)
    with service().start() as one:
        one.directory.chmod(0o755)
        refused = ask_as(one, 65534, 65534)
        assert refused.returncode == 3 and not refused.stdout, refused
        assert one.status()["supervisor"]["pid"] == one.pid
        assert one.stop() == 0


def test_asking_again_and_again_leaks_nothing(service: Callable[..., Service]) -> None:
    with service(FAST).start() as one:
        one.wait_profiles(1)
        before = one.status()["supervisor"]["fds"]
        for _ in range(50):
            one.status()
        wait_for(lambda: one.status()["supervisor"]["fds"] <= before + 2, f"the supervisor to hold {before} fds again")
        assert one.stop() == 0


# -- configuration


GOOD: dict[str, dict[str, str | int]] = {
    "snapshot": {"interval": "60s", "frequency": 19, "deadline": "5s"},
    "output": {
        "directory": "/var/lib/bulkhead",
        "formats": "pprof",
        "keep_files": 10,
        "keep_bytes": "1G",
        "keep_age": "7d",
    },
    "supervisor": {"runtime_directory": "/run/bulkhead", "status_group": "", "log_level": "info"},
}


def check_config(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = directory / "test.conf"
    path.write_text(text)
    path.chmod(0o600)
    return subprocess.run(
        [str(BULKHEADD), "--check-config", "-c", str(path)], capture_output=True, text=True, timeout=PATIENCE
    )


def test_good_config(directory: Path) -> None:
    done = check_config(directory, config_text(GOOD))
    assert done.returncode == 0, done.stderr


def wakeups(pid: int) -> int:
    """Of its main thread, by itself or for somebody."""
    return int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[0])


def test_a_worker_without_work_sleeps(service: Callable[..., Service]) -> None:
    """A machine without Java pays next to nothing for the worker that waits for it."""
    with service({"snapshot": {"interval": "60s"}}).start() as one:
        one.wait_running("java")
        time.sleep(2)  # it has begun
        pid = one.worker("java")["pid"]
        before = wakeups(pid)
        time.sleep(5)
        count = wakeups(pid) - before
        assert one.stop() == 0
    share(count <= 15, f"{count} wake-ups in 5 s; somebody else's Java costs some")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[snapshot]\ninterval = soon\n", 2, "duration"),
        ("[snapshot]\nfrequency = 0\n", 2, "frequency"),
        ("[snapshot]\nfrequency = 1000000\n", 2, "1000"),
        ("[snapshot]\nfrequncy = 19\n", 2, "frequncy"),
        ("[snapshoot]\nfrequency = 19\n", 1, "snapshoot"),
        ("frequency = 19\n", 1, "section"),
        ("[snapshot]\n\n# so far good\nfrequency 19\n", 4, "="),
        ("[output]\nformats = pprof svg\n", 2, "svg"),
        ("[output]\ndirectory = relative\n", 2, "absolute"),
        ("[supervisor]\nlog_level = loud\n", 2, "loud"),
        ("[supervisor]\nstatus_group = no-such-group-here\n", 2, "no-such-group-here"),
    ],
)
def test_bad_config(text: str, line: int, words: str, directory: Path) -> None:
    """File, line, what is wrong, and what would be right."""
    done = check_config(directory, text)
    assert done.returncode != 0
    said = done.stderr + done.stdout
    assert f"test.conf:{line}" in said and words in said, said


def test_each_error_is_named(directory: Path) -> None:
    done = check_config(directory, "[snapshot]\ninterval = x\nfrequency = y\n[output]\nformats = z\n")
    assert done.returncode != 0
    for line in (2, 3, 5):
        assert f"test.conf:{line}" in done.stderr + done.stdout, done.stderr


def test_hostile_config(directory: Path) -> None:
    """Binary, very long lines, no end of line: a message, no crash, and nothing that a terminal obeys."""
    path = directory / "test.conf"
    for content in (
        b"\x00" * 100,
        b"\xff" * 5000,
        b"[" + b"a" * 100000,
        b"[snapshot]\nfrequency = \x1b[31m19\n",
        b"=\n=\n",
        b"[snapshot",
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        done = subprocess.run(
            [str(BULKHEADD), "--check-config", "-c", str(path)], capture_output=True, timeout=PATIENCE
        )
        assert done.returncode > 0, (content[:20], done)
        assert b"\x1b" not in done.stderr + done.stdout and len(done.stderr) < 20000


def test_config_that_others_may_write_is_refused(directory: Path) -> None:
    path = directory / "test.conf"
    path.write_text(config_text(GOOD))
    path.chmod(0o666)
    done = subprocess.run(
        [str(BULKHEADD), "--check-config", "-c", str(path)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode != 0 and "test.conf" in done.stderr + done.stdout, done


def test_missing_config(directory: Path) -> None:
    done = subprocess.run(
        [str(BULKHEADD), "-c", str(directory / "none.conf")], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode != 0 and "none.conf" in done.stderr, done


def test_output_directory_that_cannot_be_used(service: Callable[..., Service]) -> None:
    """Said at the start, not after the first snapshot."""
    one = service({"output": {"directory": "/proc/bulkhead"}})
    one.start(ready=False)
    assert one.process and one.process.wait(timeout=PATIENCE) not in (0, None)
    assert "/proc/bulkhead" in one.log()


# -- what it costs


STARTS_THREADS = """
import os, sys, threading, time
born, file = 0, os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
while True:
    one = threading.Thread(target=int)
    one.start()
    one.join()
    born += 1
    os.pwrite(file, b"%10d" % born, 0)
    time.sleep(0.001)
"""


def test_births_of_threads_do_not_wake_the_sampler(service: Callable[..., Service], directory: Path) -> None:
    """A program that starts hundreds of threads a second: the kernel tells of two events for each."""
    counter = directory / "born"

    def births() -> int:
        return int(counter.read_text() or 0) if counter.exists() else 0

    def switches(pid: int) -> int:
        found = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/status")]
        assert len(found) > 2
        return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.M)[1]) for text in found)  # type: ignore[index]

    def count(sampler: int, seconds: float) -> tuple[int, int]:
        before, born = switches(sampler), births()
        time.sleep(seconds)
        return switches(sampler) - before, births() - born

    slot = 0.6
    woken, born = [], []
    with service({"snapshot": {"interval": "60s", "frequency": 19}}).start() as one:
        with running([sys.executable, "-c", STARTS_THREADS, counter]) as threads:
            sampler = one.wait_running("sampler")["sampler"]
            wait_for(lambda: births() > 50, "threads")
            # Whatever else starts on this machine wakes it too, and is meant to: what counts is what this program adds.
            for _ in range(7):
                busy = count(sampler, slot)
                threads.send_signal(signal.SIGSTOP)
                still = count(sampler, slot)
                threads.send_signal(signal.SIGCONT)
                woken.append(busy[0] - still[0])
                born.append(busy[1])
        added, samples = statistics.median(born), 19 * slot * (os.cpu_count() or 1)
        print(f"woken {woken} times more by {born} births")
        assert one.stop() == 0
    share(added > 3 * samples, born)
    # It takes two of these events to wake (priv_perf.c), so one for each birth is meant to be; without that care it is two.
    share(statistics.median(woken) < 1.5 * (samples + added), f"woken {woken} times more by {born} births")


SLOW_MASK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>
int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	int (*real)(int, const sigset_t *, sigset_t *) = (int (*)(int, const sigset_t *, sigset_t *))dlsym(RTLD_NEXT, "pthread_sigmask");
	if (gettid() != getpid())
		sleep(4);
	return real(how, set, old);
}
"""


def test_signal_that_comes_before_the_reaper_is_ready(
    service: Callable[..., Service], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor's other thread blocked signals by itself, once it ran: one that came before was the end of all."""
    source, slow = directory / "slow.c", directory / "slow.so"
    source.write_text(SLOW_MASK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", slow, source, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(slow))
    with service().start() as one:
        os.kill(one.pid, signal.SIGALRM)
        os.kill(one.pid, signal.SIGHUP)
        wait_for(lambda: "SIGHUP is ignored" in one.log(), "the word of the signal")
        monkeypatch.delenv("LD_PRELOAD")
        assert one.stop() == 0
