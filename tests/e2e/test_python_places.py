"""Python where it is not so easily found: other namespaces, files that are gone, other names, inside of other programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import interpreters
import pyframes
import pytest
from harness import Folded, check_conservation, record, running, share, wait_for, wait_until_warm
from interpreters import Place

SECONDS = 1.5
HZ = 499
LEAST = 50
MOST_LATE = 0.1
OLD = "bullseye"  # up to 3.10 a thread is found by the C library's own list, which has its number in its own namespace


@pytest.fixture(scope="module")
def host() -> interpreters.Interpreter:
    return interpreters.find(interpreters.own_suite() or "bookworm")


@pytest.fixture
def place(host: interpreters.Interpreter) -> Iterator[Place]:
    with host.place() as one:
        yield one


def profile(directory: Path, *pids: int) -> Folded:
    recording = record(directory, "-d", SECONDS, "-F", HZ, "-p", ",".join(map(str, pids))).check()
    check_conservation(recording.pprof.counters)
    return recording.folded


def check_split(folded: Folded) -> None:
    """Stacks of split.py: what is asked here is whether they are found at all."""
    assert not pyframes.impossible_stacks(folded)
    share(folded.total >= LEAST, f"only {folded.total} samples")
    right, seventy = pyframes.count(folded, "<module>;main(;|$)"), pyframes.count(folded, "main;seventy$")
    share(right >= 0.9 * folded.total, f"{right} of {folded.total}: {folded.stacks.most_common(4)}")
    share(seventy > 0.5 * folded.total, f"{seventy} of {folded.total} in seventy")


@pytest.mark.parametrize("suite", [OLD, "own"])
def test_other_mount_and_pid_namespace(suite: str, host: interpreters.Interpreter, directory: Path) -> None:
    """In there it is process 1, in a tree of its own that is mounted nowhere else."""
    interpreter = host if suite == "own" else interpreters.find(suite)
    with interpreter.place() as one:
        # the directory of the program is on a file system that only it sees
        hidden = one.inside(one.directory)
        copy = f"cp -r {hidden} /tmp/copy && mount -t tmpfs none {hidden} && cp -r /tmp/copy/. {hidden}/ && rm -r /tmp/copy"
        command = one.command("split")
        root = command[: command.index(str(hidden / "split"))]  # chroot, if it is not this machine's own
        shell = [*root, "/bin/sh", "-c", f"{copy} && exec {' '.join(command[len(root) :])}"]
        with running(["unshare", "--mount", "--pid", "--fork", *shell]) as parent:
            child = wait_for(lambda: harness.children(parent.pid), "the process in there")[0]
            wait_until_warm(child, 0.3)
            status = Path(f"/proc/{child}/status").read_text()
            assert re.search(r"NSpid:\t\d+\t1\n", status), status
            check_split(profile(directory, child))


def test_namespaces_in_namespaces(place: Place, directory: Path) -> None:
    """One inside the other, three deep: the number that the C library knows is the innermost one."""
    inner = " ".join(place.command("split"))
    command = ["unshare", "--pid", "--fork", "unshare", "--pid", "--fork", "unshare", "--pid", "--fork", "/bin/sh", "-c", f"exec {inner}"]
    with running(command) as parent:

        def innermost() -> int | None:
            found = [pid for pid in harness.descendants(parent.pid) if not harness.children(pid)]
            names = [pid for pid in found if Path(f"/proc/{pid}/comm").read_text() == "split\n"]
            return names[0] if names else None

        child = wait_for(innermost, "the innermost process")
        wait_until_warm(child, 0.3)
        check_split(profile(directory, child))


def copied(place: Place, name: str) -> Path:
    """An interpreter under another name, in a place of its own."""
    path = place.directory / name
    shutil.copy(place.interpreter.path, path)
    return path


@pytest.mark.parametrize("how", ["deleted", "replaced", "upgraded"])
def test_interpreter_that_is_no_longer_there(how: str, place: Place, directory: Path) -> None:
    """Its file was deleted, or something else has its path by now: what runs is what was there."""
    path = copied(place, "sheepdog")
    with running([path, "-B", place.directory / "split.py", "60"]) as process:
        wait_until_warm(process.pid, 0.3)
        path.unlink()
        if how == "replaced":
            path.write_bytes(b"\x7fELF" + os.urandom(1 << 16))
        elif how == "upgraded":
            other = interpreters.find("trixie" if place.interpreter.version != (3, 13) else "bookworm")
            shutil.copy((other.root / "usr/bin/python3").resolve(), path)
        check_split(profile(directory, process.pid))


def test_name_says_nothing(place: Place, directory: Path) -> None:
    """An interpreter with the name of a shell, a shell's script with that of an interpreter."""
    path = copied(place, "bash")
    liar = place.directory / "python3.11"
    shutil.copy("/bin/sh", liar)
    with running([path, "-B", place.directory / "split.py", "60"]) as process, running(
        [liar, "-c", "while :; do :; done"]
    ) as other:
        wait_until_warm(process.pid, 0.3)
        wait_until_warm(other.pid)
        recording = record(directory, "-d", SECONDS, "-F", HZ, "-p", f"{process.pid},{other.pid}").check()
        stacks = recording.folded.of("python3.11")
        assert not pyframes.chains(stacks)
        check_split(recording.folded.of("bash"))
        share(stacks.total >= LEAST, f"only {stacks.total} samples")
        whole = stacks.count("__libc_start_main")
        share(whole > 0.95 * stacks.total, f"{whole} of {stacks.total}: {stacks.stacks.most_common(3)}")


@pytest.mark.parametrize("how", ["--symlinks", "--copies"])
def test_venv(how: str, place: Place, directory: Path) -> None:
    made = place.directory / "venv"
    done = subprocess.run(
        [place.interpreter.path, "-m", "venv", how, "--without-pip", made], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no venv can be made here: {done.stderr[-200:]}")
    with running([made / "bin" / "python3", "-B", place.directory / "split.py", "60"]) as process:
        wait_until_warm(process.pid, 0.3)
        check_split(profile(directory, process.pid))


def libpythons() -> list[Path]:
    """Debian's, and those beside the interpreters that BULKHEAD_TEST_PYTHONS names."""
    found = list(Path("/usr/lib").glob("*-linux-gnu/libpython3.*.so.1.0"))
    for name in interpreters.all_names():
        if name.startswith("/"):
            found += Path(name).resolve().parents[1].glob("lib/libpython3.*.so.1.0")
    return found


@pytest.mark.parametrize("deleted", [False, True])
def test_embedded(deleted: bool, place: Place, directory: Path, workload: Callable[[str], Path]) -> None:
    """A program of another name that loaded libpython as a plugin."""
    if not libpythons():
        pytest.skip("no libpython is installed")
    for library in libpythons():
        copy = place.directory / "plugin.so"
        shutil.copy(library, copy)
        home = {} if library.parts[1:3] == ("usr", "lib") else {"PYTHONHOME": str(library.parents[1])}
        command = [workload("embedded"), copy, place.directory / "split.py", "60"]
        with running(command, env={**os.environ, **home, "PYTHONDONTWRITEBYTECODE": "1"}) as process:
            wait_until_warm(process.pid, 0.3)
            if deleted:
                copy.unlink()
            folded = profile(directory, process.pid)
            begin = "embedded;_start;__libc_start_main;__libc_start_call_main;main;run_script;"
            assert all(";".join(stack).startswith(begin) for stack in folded.stacks if pyframes.frames(stack) and pyframes.is_whole(stack)), library
            check_split(folded)


def test_children_by_fork(place: Place, directory: Path) -> None:
    """Copies of one process, of which each does something else at the same addresses."""
    parent = place.start("forking")
    pids = wait_for(lambda: len(found := harness.children(parent)) == 2 and found, "two children")
    for pid in pids:
        wait_until_warm(pid, 0.3)
    recording = record(directory, "-d", SECONDS, "-F", HZ, "-p", parent).check()
    found = []
    for pid in pids:
        functions = {frame.name for sample in recording.pprof.profile.of(pid=pid) for frame in sample.frames}
        found.append(sorted(name for name in functions if name.startswith("child_work_")))
    assert sorted(found) == [["child_work_0"], ["child_work_1"]], found
    assert not pyframes.impossible_stacks(recording.folded)
    having = pyframes.share_with(recording.folded)
    share(having >= 0.9, f"{having:.3f} have frames; without: {pyframes.without(recording.folded).most_common(3)}")


def test_image_after_image(place: Place, directory: Path) -> None:
    """One process that becomes another image several times in a second: never a frame of the wrong one, and most of each are seen."""
    pid = place.start("again")
    place.wait_until_warm(0.5)
    folded = profile(directory, pid)
    wrong = pyframes.impossible_stacks(folded)
    assert not wrong, "\n".join(wrong[:5])
    seen = pyframes.count(folded, "(;deep){50};burn")
    share(seen > 0.4 * folded.total > LEAST / 2, f"{seen} of {folded.total}: {folded.stacks.most_common(3)}")


def test_storm_of_short_interpreters(place: Place, directory: Path) -> None:
    """Interpreters that live for some tens of milliseconds: each sample is accounted for, and none has frames of another one. What one has
    left before its lines were read has none."""
    scripts = [place.directory / f"short_{n}.py" for n in range(3)]
    for n, script in enumerate(scripts):
        script.write_text(f"def only_{n}(x):\n    for _ in range(200000): x = x * 5 + 1 & 0xFFFF\nonly_{n}(1)\n")
    loop = "while :; do " + " ".join(f"{place.interpreter.path} -I -S -B {script} &" for script in scripts) + " wait; done"
    with running(["/bin/sh", "-c", loop]) as process:
        recording = record(directory, "-d", 3, "-F", HZ, "-p", process.pid).check()
    check_conservation(recording.pprof.counters)
    seen = 0
    for stack, n in recording.folded.stacks.items():
        frames = pyframes.frames(stack)
        own = {frame.file for frame in frames if frame.script.startswith("short_")}
        assert len(own) <= 1, f"two programs in one stack: {stack}"
        for frame in frames:
            if frame.bare.startswith("only_"):
                assert frame.script == f"short_{frame.bare[5:]}.py" and frame.line in (0, 1, 2), stack
                seen += n
    share(seen > 0, recording.folded.stacks.most_common(3))


def test_system_call_hangs_below_the_function_that_made_it(place: Place, directory: Path) -> None:
    """Kernel frames are the innermost ones, behind the native frames of the call, behind Python's."""
    pid = place.start("split")
    place.wait_until_warm()
    folded = profile(directory, pid)
    kinds = {"p": 0, "n": 0, "late": 0}
    for stack, n in folded.stacks.items():
        text = "".join("p" if pyframes.parse(f) else "k" if f.endswith("_[k]") else "n" for f in stack[1:])
        assert re.fullmatch("[pn]*k*", text), stack
        if re.search(r"clock_gettime", ";".join(stack)):
            kinds["p" if "p" in text else "late" if pyframes.is_late(stack) else "n"] += n
    # a call is a few per cent of this program's time: of twenty samples one is chance
    share(kinds["p"] > 0 and kinds["n"] <= max(1, 0.02 * kinds["p"]), kinds)
    share(kinds["late"] <= max(1, MOST_LATE * sum(kinds.values())), kinds)
