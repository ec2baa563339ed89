"""`bulkhead record` as its user meets it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from harness import (
    BIN,
    BULKHEAD,
    PATIENCE,
    Folded,
    alive,
    cpu_seconds,
    record,
    record_command,
    running,
    share,
    wait_for,
    wait_recording,
    wait_until_warm,
)

# supervisor/ctl/ctl.h and bulkhead(1)
EXIT_FAILED, EXIT_USAGE, EXIT_PERMISSION, EXIT_OUTPUT = 1, 2, 3, 4


@contextmanager
def leaves_nothing(*places: Path) -> Iterator[None]:
    """No process of ours and no new file in the usual places."""

    def files() -> set[str]:
        return {str(path) for place in (Path("/run"), Path("/tmp"), *places) for path in place.glob("*bulkhead*")}

    before = files(), processes()
    yield
    # Soon: what is asked is that they do, on a machine that has other work too.
    wait_for(lambda: processes() <= before[1], "our processes to end", patience=15)
    # Somebody else of this machine may record just now: what is in use is his, and goes when he ends.
    wait_for(lambda: not files() - before[0] - in_use(), "its files to be gone", patience=15)


def in_use() -> set[str]:
    """Runtime directories of recordings that run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found |= {part for part in path.read_text(errors="replace").split("\0") if part.startswith("/run/bulkhead-record.")}
    return found


def processes() -> set[int]:
    """All processes that run one of the programs under test."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(path / "exe")).parent == BIN and alive(int(path.name)):
                found.add(int(path.name))
        except OSError:
            continue
    return found


def test_all_formats_and_summary(directory: Path, workload: Callable[[str], Path]) -> None:
    with running([workload("split"), "60"]) as process, leaves_nothing(directory):
        wait_until_warm(process.pid)
        recording = record(
            directory, "-d", 2, "-F", 199, "-p", process.pid, formats=("folded", "pb.gz", "html"), cwd=directory
        ).check()
    assert sorted(path.name for path in directory.iterdir()) == ["out.folded", "out.html", "out.pb.gz"]
    text = recording.stdout + recording.stderr
    for part in ("samples", "split", "spin", "process", "function"):
        assert part in text, f"the summary says nothing of {part}:\n{text}"
    assert "\x1b" not in text, "terminal codes without a terminal"


def test_html_is_one_page(directory: Path, workload: Callable[[str], Path]) -> None:
    """It works offline: it fetches nothing."""
    with running([workload("split"), "60"]) as process:
        wait_until_warm(process.pid)
        page = record(directory, "-d", 1, "-p", process.pid, formats=("html",)).check().outputs["html"].read_text()
    assert "seventy" in page and "spin" in page
    assert page.lstrip().lower().startswith("<!doctype html") and page.rstrip().endswith("</html>")
    without_namespaces = page.replace("http://www.w3.org/", "")
    fetches = re.findall(
        r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']*|url\((?!["']?(?:#|data:))[^)]*|@import[^;]*|"""
        r"""\bimport\(|\bfetch\(|XMLHttpRequest|https?://[^\s"'<]*""",
        without_namespaces,
    )
    assert not fetches, fetches


@pytest.mark.skipif(not shutil.which("go"), reason="go is not installed")
def test_go_reads_our_pprof(directory: Path, workload: Callable[[str], Path]) -> None:
    # With a CPU for itself: a share says little of few samples.
    with running([workload("split"), "60"], preexec_fn=lambda: os.nice(-15)) as process:
        wait_until_warm(process.pid)
        recording = record(directory, "-d", 2, "-F", 199, "-p", process.pid, formats=("pb.gz",)).check()
    # Go from 1.25 on builds this tool when it is first asked for, into the cache of the caller: minutes on a busy machine.
    found = subprocess.run(["go", "tool", "-n", "pprof"], capture_output=True, text=True, timeout=400)
    assert found.returncode == 0, found.stderr
    environment = {**os.environ, "HOME": str(directory), "PPROF_TMPDIR": str(directory)}
    for index, unit in (("cpu", "s"), ("samples", "")):
        done = subprocess.run(
            [found.stdout.strip(), "-top", "-cum", f"-sample_index={index}", str(recording.outputs["pb.gz"])],
            capture_output=True, text=True, env=environment, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        row = re.search(r"^\s*\S+\s+\S+%\s+\S+%\s+(\S+)\s+(\S+)%\s+seventy$", done.stdout, re.MULTILINE)
        assert row, done.stdout
        assert row[1].endswith(unit), row[0]
        share(60 < float(row[2]) < 80, row[0])


def test_default_is_ten_seconds_of_the_machine(directory: Path, workload: Callable[[str], Path]) -> None:
    """Without -o a flame graph and a pprof file come into the working directory. Ended early, to save time."""
    # Beside a program that is busy: an idle machine has no samples.
    with (
        running([workload("split"), "90"]),
        running([BULKHEAD, "record"], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
    ):
        wait_recording(process.pid)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and b"samples" in text, text
    assert sorted(path.name for path in directory.iterdir()) == ["bulkhead.html", "bulkhead.pb.gz"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_early_still_writes(how: signal.Signals, directory: Path, workload: Callable[[str], Path]) -> None:
    with leaves_nothing(directory), running([workload("split"), "60"]) as target:
        wait_until_warm(target.pid)
        command = record_command(directory, "-d", 60, "-F", 199, "-p", target.pid)
        with running(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            wait_recording(process.pid)
            process.send_signal(how)
            text, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, text
        wait_until_warm(target.pid)
        assert target.poll() is None, "the target was hit too"
    assert " " in (directory / "out.folded").read_text() and (directory / "out.pb.gz").stat().st_size > 0


def test_caller_with_a_nice_value_can_record(directory: Path, workload: Callable[[str], Path]) -> None:
    """Workers took their inability to get back to nice 0 for a hole in their sandbox."""
    with running([workload("split"), "60"]) as process:
        wait_until_warm(process.pid)
        recording = record(directory, "-d", 0.5, "-F", 499, "-p", process.pid, preexec_fn=lambda: os.nice(5))
    assert recording.check().folded.total > 0


def test_ctrl_c_reaches_the_command_too(directory: Path, workload: Callable[[str], Path]) -> None:
    """A terminal sends SIGINT to the whole group: the recording and the command end, the profile is written."""
    command = record_command(directory, "-d", 60, "-F", 199, "--", workload("split"), "50")
    with leaves_nothing(directory), running(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_recording(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        text, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, text
    assert "split;" in (directory / "out.folded").read_text()


def test_process_that_exits_ends_the_recording(directory: Path, workload: Callable[[str], Path]) -> None:
    with running([workload("split"), "600"]) as target:
        command = record_command(directory, "-d", 600, "-F", 199, "-p", target.pid)
        with running(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            wait_recording(process.pid)
            until = cpu_seconds(target.pid) + 0.6
            wait_for(lambda: cpu_seconds(target.pid) >= until, "some work of the program")
            target.kill()
            text, _ = process.communicate(timeout=PATIENCE)  # else it went on after its only process had gone
    assert process.returncode == 0, text
    total = Folded.parse((directory / "out.folded").read_text()).of("split").total
    share(total > 50, f"{total} samples")


def test_several_processes(directory: Path, workload: Callable[[str], Path]) -> None:
    with (
        running([workload("split"), "60"]) as one,
        running([workload("deep"), "60"]) as two,
        running([workload("plt"), "60"]),
    ):
        wait_until_warm(one.pid)
        wait_until_warm(two.pid)
        recording = record(directory, "-d", 2, "-F", 199, "-p", one.pid, "-p", two.pid).check()
    assert {stack[0] for stack in recording.folded.stacks} == {"split", "deep"}
    assert recording.pprof.labels("pid") == {one.pid, two.pid}


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_command_that_ends(script: str, code: int, directory: Path) -> None:
    """The recording ends with its command, long before its time, and is a success: how the command ended is said, not taken over."""
    recording = record(
        directory, "-d", 600, "--", "/bin/sh", "-c", f"i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; {script}"
    )
    assert recording.code == 0, recording.stderr
    if code:
        assert str(code if code < 128 else code - 128) in recording.stdout + recording.stderr
    share(recording.folded.of("sh").total > 0, "no sample of the command")


def test_command_that_cannot_run(directory: Path) -> None:
    with leaves_nothing(directory):
        recording = record(directory, "--", "/no/such/program")
    assert recording.code == EXIT_FAILED and "/no/such/program" in recording.stderr, recording.stderr
    assert not list(directory.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-o", "x.svg"], EXIT_USAGE, "x.svg"),
        (["-o", "plain"], EXIT_USAGE, "plain"),
        (["-d", "0"], EXIT_USAGE, "-d"),
        (["-d", "abc"], EXIT_USAGE, "abc"),
        (["-F", "0"], EXIT_USAGE, "-F"),
        (["-F", "100000"], EXIT_USAGE, "100000"),
        (["-p", "abc"], EXIT_USAGE, "abc"),
        (["-p", "-1"], EXIT_USAGE, "-1"),
        (["--no-such-option"], EXIT_USAGE, "no-such-option"),
        (["-p", "1,x"], EXIT_USAGE, "1,x"),
        (["-o", "a.folded", "-o", "a.folded"], EXIT_USAGE, "twice"),
        (["-p", "4194303"], EXIT_FAILED, "4194303"),
        (["-o", "/no/such/directory/x.folded"], EXIT_OUTPUT, "/no/such/directory"),
        (["-o", "/proc/x.folded"], EXIT_OUTPUT, "/proc/x.folded"),
    ],
)
def test_wrong_arguments(arguments: list[str], code: int, words: str, directory: Path) -> None:
    """A clear message at once, nothing started, nothing written."""
    with leaves_nothing(directory):
        recording = record(directory, *arguments, formats=(), cwd=directory)
    assert recording.code == code, (recording.code, recording.stderr)
    assert words in recording.stderr, recording.stderr
    assert recording.seconds < 9 and not list(directory.iterdir())  # a recording takes ten by default


def test_directory_as_output(directory: Path) -> None:
    (directory / "x.folded").mkdir()
    recording = record(directory, "-d", 1, "-o", directory / "x.folded", formats=())
    assert recording.code == EXIT_OUTPUT and "x.folded" in recording.stderr, recording.stderr


@contextmanager
def small_disk(directory: Path, kib: int) -> Iterator[Path]:
    place = directory / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small file system to be had here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disk(directory: Path, workload: Callable[[str], Path]) -> None:
    """Nothing half-written stays, what was there before does, and the exit code says so."""
    with small_disk(directory, 64) as disk, running([workload("split"), "60"]) as target, leaves_nothing(disk):
        wait_until_warm(target.pid)
        (disk / "out.folded").write_text("old 1\n")
        ballast = os.open(disk / "ballast", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError):
            while True:
                os.write(ballast, b"x" * 4096)
        os.close(ballast)
        before = sorted(path.name for path in disk.iterdir())
        recording = record(disk, "-d", 1, "-F", 199, "-p", target.pid, formats=("folded", "html"))
        assert recording.code == EXIT_OUTPUT, (recording.code, recording.stderr)
        assert "space" in recording.stderr.lower(), recording.stderr
        assert sorted(path.name for path in disk.iterdir()) == before
        assert (disk / "out.folded").read_text() in ("old 1\n", ""), "a half-written profile stayed"


def test_existing_file_is_replaced_whole(directory: Path, workload: Callable[[str], Path]) -> None:
    (directory / "out.folded").write_text("old 1\n" * 100000)
    with running([workload("split"), "60"]) as target:
        wait_until_warm(target.pid)
        recording = record(directory, "-d", 1, "-p", target.pid, formats=("folded",)).check()
    assert "old" not in recording.outputs["folded"].read_text()


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_not_root(directory: Path) -> None:
    """One sentence about what is missing, and no half of a recording."""
    directory.chmod(0o777)
    command = record_command(directory, "-d", 1, "--", "true")
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", *command],
        capture_output=True, text=True, timeout=PATIENCE, cwd=directory,
    )  # fmt: skip
    assert done.returncode == EXIT_PERMISSION, (done.returncode, done.stderr)
    assert "root" in done.stderr or "CAP_" in done.stderr, done.stderr
    assert not list(directory.iterdir())


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_root_without_what_it_needs(directory: Path) -> None:
    """Uid 0 in a container without the capabilities: said by name."""
    command = record_command(directory, "-d", 1, "--", "true")
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=directory,
    )
    assert done.returncode in (EXIT_PERMISSION, EXIT_FAILED), (done.returncode, done.stderr)
    assert re.search(r"CAP_\w+|cap_\w+|permi|root", done.stderr), done.stderr


def test_two_recordings_at_once(directory: Path, workload: Callable[[str], Path]) -> None:
    """Each has its own supervisor: they do not know of each other."""
    (directory / "a").mkdir()
    (directory / "b").mkdir()
    with running([workload("split"), "60"]) as target:
        wait_until_warm(target.pid)
        with running(
            record_command(directory / "a", "-d", 2, "-F", 199, "-p", target.pid), stderr=subprocess.DEVNULL
        ) as other:
            second = record(directory / "b", "-d", 2, "-F", 199, "-p", target.pid).check()
            assert other.wait(timeout=PATIENCE) == 0
    first = (directory / "a" / "out.folded").read_text()
    assert "main;seventy" in first and "main;seventy" in second.outputs["folded"].read_text()


def test_killed_recorder_leaves_no_worker(directory: Path, workload: Callable[[str], Path]) -> None:
    """SIGKILL of `bulkhead record` itself: its supervisor and all workers go too."""
    before = processes()
    with running(
        record_command(directory, "-d", 60, "--", workload("split"), "60"), stderr=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: len(processes() - before) >= 5, "the workers to start")
        process.kill()
        process.wait()
        wait_for(lambda: processes() <= before, "our processes to end", patience=15)


def test_terminal_shows_progress(directory: Path, workload: Callable[[str], Path]) -> None:
    script = shutil.which("script")
    if not script:
        pytest.skip("script is not installed")
    command = " ".join(record_command(directory, "-d", 2, "-F", 99, "--", workload("split"), "5"))
    done = subprocess.run(
        [script, "-qec", command, "/dev/null"],
        capture_output=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(rb"\d+ samples", done.stdout) and b"\r" in done.stdout, done.stdout


def test_help() -> None:
    for arguments in (["--help"], ["record", "--help"], ["status", "--help"], ["--version"]):
        done = subprocess.run([str(BULKHEAD), *arguments], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0 and done.stdout and not done.stderr, (arguments, done)
    done = subprocess.run([str(BULKHEAD)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == EXIT_USAGE and "record" in done.stderr + done.stdout


def test_hostile_environment_of_the_caller(directory: Path, workload: Callable[[str], Path]) -> None:
    """Closed standard fds, blocked and ignored signals, a umask, open fds without close-on-exec: all survive."""
    command = record_command(directory, "-d", 1, "--", workload("split"), "3")
    wrapped = [
        "/bin/sh",
        "-c",
        'umask 077; trap "" PIPE CHLD TERM; exec 7</etc/passwd 8</etc/hosts; exec "$@" <&- >&-',
        "sh",
        *command,
    ]
    done = subprocess.run(wrapped, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "split;" in (directory / "out.folded").read_text()
