"""Targets of every kind: in other namespaces, replaced, deleted, without symbols, with hostile names and files."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import expect
import harness
import pytest
from harness import (
    Recording,
    check_conservation,
    check_truth,
    descendants,
    outcomes,
    program,
    record,
    record_command,
    running,
    share,
    wait_for,
    wait_recording,
    wait_until_warm,
)

def record_pids(
    directory: Path, *pids: int, seconds: float = 2, formats: tuple[str, ...] = ("folded", "pb.gz")
) -> Recording:
    arguments = [part for pid in pids for part in ("-p", str(pid))]
    recording = record(directory, "-d", seconds, "-F", 499, *arguments, formats=formats).check()
    if "pb.gz" in formats:
        check_conservation(recording.pprof.counters)
        assert recording.pprof.total == outcomes(recording.pprof.counters)
    return recording


def find_child(parent: int, comm: str) -> int:
    """The pid, as we see it, of a descendant that has become `comm`."""

    def find() -> int | None:
        for pid in descendants(parent):
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip() == comm:
                    return pid
            except OSError:
                continue
        return None

    return wait_for(find, f"{comm} to run")


# -- namespaces and users


def in_a_container(directory: Path, name: str, *files: str) -> list[str]:
    """A command that runs the workload in its own namespaces, from a file system that nobody else sees."""
    for file in (name, *files):
        shutil.copy2(program(file), directory / file)
    paths = " ".join(str(directory / file) for file in (name, *files))
    script = f"set -e; mount -t tmpfs none /mnt; cp {paths} /mnt; mount -t tmpfs none /tmp; cd /mnt; exec ./{name} 60"
    return ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "/bin/sh", "-c", script]


def can_unshare() -> bool:
    return subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(not can_unshare(), reason="namespaces are refused here")


@needs_namespaces
@pytest.mark.parametrize(
    ("name", "files"), [("split", ()), ("plt", ("libhop.so",)), ("dlopen", ("plugin_a.so", "plugin_b.so"))]
)
def test_other_namespaces(name: str, files: tuple[str, ...], directory: Path, workload: Callable[[str], Path]) -> None:
    """Its files are found in its own mount namespace: here, the paths lead nowhere."""
    workload(name)
    with running(in_a_container(directory, name, *files)) as parent:
        pid = find_child(parent.pid, name)
        wait_until_warm(pid)
        assert not Path(os.readlink(f"/proc/{pid}/exe")).exists(), "the test proves nothing: the path exists here too"
        recording = record_pids(directory, pid)
    check_truth(recording.folded, expect.WORKLOADS[name])
    assert recording.pprof.labels("pid") == {pid}


@needs_namespaces
def test_perf_map_of_another_namespace(directory: Path, workload: Callable[[str], Path]) -> None:
    """Its name has the number that the process has for itself, in its own /tmp."""
    workload("perfmap")
    with running(in_a_container(directory, "perfmap")) as parent:
        pid = find_child(parent.pid, "perfmap")
        wait_until_warm(pid)
        assert not Path(f"/tmp/perf-{pid}.map").exists()
        folded = record_pids(directory, pid).folded
    check_truth(folded, expect.WORKLOADS["perfmap"])


@needs_namespaces
def test_container_id_label(directory: Path, workload: Callable[[str], Path]) -> None:
    """None of ours runs in a container's cgroup: no label is better than a wrong one."""
    with running([workload("split"), "60"]) as process:
        wait_until_warm(process.pid)
        profile = record_pids(directory, process.pid).pprof
    cgroups = Path("/proc/self/cgroup").read_text()
    if not re.search(r"[0-9a-f]{64}", cgroups):
        assert not profile.labels("container_id")


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_other_user(directory: Path, workload: Callable[[str], Path]) -> None:
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--no-new-privs",
        str(workload("split")),
        "60",
    ]
    directory.chmod(0o755)
    with running(command) as process:
        wait_until_warm(process.pid)
        folded = record_pids(directory, process.pid).folded
    check_truth(folded, expect.WORKLOADS["split"])


def test_exec_changes_the_image(directory: Path, workload: Callable[[str], Path]) -> None:
    """One pid, three images: each sample is named by the image that it was taken from."""
    script = f"i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec {workload('deep')} 1"
    recording = record(directory, "-d", 10, "-F", 499, "--", "/bin/sh", "-c", script).check()
    check_conservation(recording.pprof.counters)
    shell, deep = recording.folded.of("sh"), recording.folded.of("deep")
    assert not shell.count("descend_"), shell.chains()
    check_truth(
        deep,
        expect.Workload(
            (*expect.WORKLOADS["deep"].chains, rf"{expect.FRAME}{expect.TAIL}"), expect.WORKLOADS["deep"].seen
        ),
    )
    share(shell.total > 20, f"{shell.total} samples of the shell")
    share(deep.share_complete() > 0.97, f"{deep.share_complete():.3f} of {deep.total} are complete: {deep.chains().most_common(5)}")


# -- files


@pytest.mark.parametrize("how", ["renamed over", "deleted"])
def test_binary_that_is_replaced_while_it_runs(how: str, directory: Path, workload: Callable[[str], Path]) -> None:
    """Another program lies at its path now, with other functions at these addresses: none of their names may appear."""
    own = directory / "replace"
    shutil.copy2(workload("replace"), own)
    other = "-" if how == "deleted" else workload("shapes")
    with running([own, "60", other]) as process:
        wait_until_warm(process.pid)
        folded = record_pids(directory, process.pid, seconds=2).folded
    assert not folded.count("zoo::"), folded.chains()
    # Where the old file can not be had any more, its frames are named by file and offset, but the chain is whole.
    # It writes files: a thread that blocks may be woken before it is read.
    complete = f"{folded.share_complete():.3f} of {folded.total} are complete"
    share(folded.share_complete() >= 0.97, f"{complete}: {folded.chains().most_common(5)}")
    check_truth(folded, expect.WORKLOADS["replace"])


def test_perf_map(directory: Path, workload: Callable[[str], Path]) -> None:
    with running([workload("perfmap"), "60"]) as process:
        wait_until_warm(process.pid)
        folded = record_pids(directory, process.pid).folded
    check_truth(folded, expect.WORKLOADS["perfmap"])


def test_hostile_perf_map(directory: Path, workload: Callable[[str], Path]) -> None:
    """Broken lines are skipped, names are escaped, and the rest of the profile does not suffer."""
    with running([workload("perfmap"), "60", "hostile"]) as process:
        wait_until_warm(process.pid)
        recording = record_pids(directory, process.pid, formats=("folded", "pb.gz", "html"))
    check_clean(recording)
    share(recording.folded.count(r"run_jit;jit_outer;evil:\\x1b\[31m\\xff") > 50, recording.folded.chains())


def test_perf_map_that_is_not_a_file(directory: Path, workload: Callable[[str], Path]) -> None:
    """A FIFO, a link to somewhere, a file of someone else at the map's path: nothing hangs, nothing is followed."""
    secret = directory / "secret"
    secret.write_text("0 ffffffffffffffff secret_of_root\n")
    for kind in ("fifo", "link", "stranger"):
        with running(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(workload("perfmap")), "60"],
            cwd=directory,
        ) as process:
            wait_until_warm(process.pid)
            path = Path(f"/tmp/perf-{process.pid}.map")
            path.unlink()
            try:
                if kind == "fifo":
                    os.mkfifo(path)
                elif kind == "link":
                    path.symlink_to(secret)
                else:
                    path.write_text("0 ffffffffffffffff secret_of_another\n")
                    os.chown(path, 12345, 12345)
                folded = record_pids(directory, process.pid, seconds=1).folded
            finally:
                path.unlink(missing_ok=True)
        assert not folded.count("secret_of_"), (kind, folded.chains())
        share(folded.count("run_jit") > 50, f"{kind}: {folded.chains()}")


def build_id(path: Path) -> str:
    notes = subprocess.run(["readelf", "-n", str(path)], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Build ID: ([0-9a-f]+)", notes)
    assert found
    return found[1]


@contextmanager
def own_build(directory: Path, name: str) -> Iterator[Path]:
    """The workload with a build id that nobody else has."""
    source = harness.SOURCE / "tests" / "workloads"
    path = directory / name
    flags = [
        "-O2",
        "-g",
        "-fomit-frame-pointer",
        "-fno-ipa-icf",
        "-std=gnu11",
        "-D_GNU_SOURCE",
        f"-Wl,--build-id=0x{random.randbytes(20).hex()}",
    ]
    subprocess.run(["cc", *flags, "-o", str(path), str(source / f"{name}.c")], check=True)
    yield path


def test_separate_debug_file(directory: Path) -> None:
    with own_build(directory, "split") as path:
        own = build_id(path)
        place = Path("/usr/lib/debug/.build-id") / own[:2]
        existed = place.is_dir()
        place.mkdir(parents=True, exist_ok=True)
        debug = place / f"{own[2:]}.debug"
        try:
            subprocess.run(["objcopy", "--only-keep-debug", str(path), str(debug)], check=True)
            subprocess.run(["strip", "--strip-all", str(path)], check=True)
            with running([path, "60"]) as process:
                wait_until_warm(process.pid)
                recording = record_pids(directory, process.pid)
        finally:
            debug.unlink(missing_ok=True)
            if not existed:
                place.rmdir()
    check_truth(recording.folded, expect.WORKLOADS["split"])
    assert own in {mapping.build_id for mapping in recording.pprof.profile.mappings}


@pytest.mark.skipif(not shutil.which("xz"), reason="xz is not installed")
def test_mini_debug_info(directory: Path) -> None:
    """.gnu_debugdata: a table of symbols, compressed, inside the stripped file."""
    with own_build(directory, "split") as path:
        mini = directory / "mini"
        subprocess.run(["objcopy", "--only-keep-debug", "--strip-debug", str(path), str(mini)], check=True)
        subprocess.run(["xz", "-q", str(mini)], check=True)
        subprocess.run(["strip", "--strip-all", str(path)], check=True)
        subprocess.run(["objcopy", "--add-section", f".gnu_debugdata={mini}.xz", str(path)], check=True)
        with running([path, "60"]) as process:
            wait_until_warm(process.pid)
            folded = record_pids(directory, process.pid).folded
    # Of _start only the exported part of the world knows; the functions' names are what this is about.
    check_truth(
        folded,
        expect.Workload(
            expect.split_chains(expect.GLIBC_MAIN.replace("_start;", rf"{expect.FRAME};", 1)), expect.SPLIT_SEEN
        ),
    )


def sections(image: bytes) -> dict[str, tuple[int, int]]:
    """Offset and size by name, of a 64-bit little-endian ELF file."""
    (offset,) = struct.unpack_from("<Q", image, 40)
    size, count, names = struct.unpack_from("<HHH", image, 58)
    rows = [struct.unpack_from("<IIQQQQ", image, offset + i * size) for i in range(count)]
    base = rows[names][4]
    return {image[base + row[0] : image.index(b"\0", base + row[0])].decode(): (row[4], row[5]) for row in rows}


def damage(image: bytearray, seed: int) -> None:
    """Breaks what the program itself does not need while it runs."""
    chance = random.Random(seed)
    where = sections(bytes(image))
    parts = [".eh_frame", ".eh_frame_hdr", ".symtab", ".strtab", ".shstrtab", ".comment"]
    kind = seed % 4
    if kind == 0:  # noise in the unwind table
        offset, size = where[".eh_frame"]
        for _ in range(size // 8):
            image[offset + chance.randrange(size)] = chance.randrange(256)
    elif kind == 1:  # noise in one section, all of it
        offset, size = where[chance.choice(parts)]
        image[offset : offset + size] = chance.randbytes(size)
    elif kind == 2:  # noise in the section headers
        (offset,) = struct.unpack_from("<Q", image, 40)
        for _ in range(60):
            at = offset + chance.randrange(len(image) - offset)
            image[at] = chance.choice([0, 0xFF, 0x7F, 0x80, chance.randrange(256)])
    else:  # numbers of the ELF header that the kernel does not read
        struct.pack_into(
            "<Q", image, 40, chance.choice([0, 1, len(image) - 1, 2**64 - 1, 2**63, chance.randrange(2**64)])
        )
        struct.pack_into("<HHH", image, 58, chance.randrange(65536), chance.randrange(65536), chance.randrange(65536))


def test_hostile_files(directory: Path, workload: Callable[[str], Path]) -> None:
    """Programs with damaged tables: nothing crashes, every sample is counted, and a sound program is not hurt."""
    good = workload("split_nopie").read_bytes()
    with ExitStack() as stack:
        pids = []
        for seed in range(12):
            image = bytearray(good)
            damage(image, seed)
            path = directory / f"bad{seed}"
            path.write_bytes(image)
            path.chmod(0o755)
            pids.append(stack.enter_context(running([path, "60"])).pid)
        pids.append(stack.enter_context(running([workload("split_nopie"), "60"])).pid)
        for pid in pids:
            wait_until_warm(pid, 0.02)
        recording = record_pids(directory, *pids, seconds=4, formats=("folded", "pb.gz", "html"))
    check_clean(recording)
    assert not re.search(r"killed|exited|signal \d", recording.stderr), recording.stderr
    folded = recording.folded
    check_truth(folded.of("split_nopie"), expect.WORKLOADS["split_nopie"], least=40)
    assert len({stack[0] for stack in folded.stacks}) == len(pids), "a program is missing"


def test_file_that_shrinks_to_nothing(directory: Path, workload: Callable[[str], Path]) -> None:
    """A library is truncated after it was loaded: for a reader that maps files this is a SIGBUS."""
    for name in ("plt", "libhop.so"):
        shutil.copy2(program(name), directory / name)
    with (
        running([directory / "plt", "60"], stderr=subprocess.DEVNULL) as victim,
        running([workload("split"), "60"]) as sound,
    ):
        wait_until_warm(victim.pid)
        command = record_command(directory, "-d", 60, "-F", 499, "-p", victim.pid, "-p", sound.pid)
        with running(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as recorder:
            wait_recording(recorder.pid)
            (directory / "libhop.so").write_bytes(b"")
            victim.wait(timeout=harness.PATIENCE)  # it dies of it, in its own time
            until = harness.cpu_seconds(sound.pid) + 0.6
            wait_for(lambda: harness.cpu_seconds(sound.pid) >= until, "some work of the other program")
            recorder.send_signal(signal.SIGINT)
            said, _ = recorder.communicate(timeout=harness.PATIENCE)
        assert recorder.returncode == 0, said
    check_conservation(harness.Pprof.read(directory / "out.pb.gz").counters)
    folded = harness.Folded.parse((directory / "out.folded").read_text())
    check_truth(folded.of("split"), expect.WORKLOADS["split"])


# -- names


def check_clean(recording: Recording) -> None:
    """Nothing that a terminal obeys, nothing that breaks a format, only UTF-8."""

    def check_text(name: str, text: str) -> None:
        dirty = [line for line in text.split("\n") if not harness.is_clean(line.replace("\t", " "))]
        assert not dirty, (name, dirty[:2])

    check_text("said", (recording.stdout + recording.stderr).replace("\r", ""))
    for path in recording.outputs.values():
        if path.suffix != ".gz":
            check_text(path.name, path.read_bytes().decode("utf-8", errors="strict"))
    if "pb.gz" in recording.outputs:
        profile = recording.pprof
        names = {frame.name for sample in profile.profile.samples for frame in sample.frames}
        labels = {str(label) for sample in profile.profile.samples for label in sample.labels.values()}
        files = {mapping.file for mapping in profile.profile.mappings}
        for text in (*names, *labels, *files, *profile.profile.comments):
            assert harness.is_clean(text), repr(text)


def test_hostile_names(directory: Path, workload: Callable[[str], Path]) -> None:
    """Thread names, the program's file name and a symbol with separators, newlines, escape codes and broken UTF-8."""
    image = workload("names").read_bytes()
    symbol = b"hostile_symbol_000000"
    hostile = b"s;m \n1\x1b[31m\xff\xc3(<b>&\"'"
    assert image.count(symbol) and len(hostile) <= len(symbol)
    path = os.fsencode(directory) + b"/evil;\n\x1b[2J\xff 9 <script>"
    with open(path, "wb") as file:
        file.write(image.replace(symbol, hostile.ljust(len(symbol), b"_")))
    os.chmod(path, 0o755)
    process = subprocess.Popen([path, "60"], start_new_session=True)
    try:
        wait_until_warm(process.pid)
        recording = record_pids(directory, process.pid, formats=("folded", "pb.gz", "html"))
    finally:
        process.kill()
        process.wait()
    check_clean(recording)
    folded = recording.folded
    comms = {stack[0] for stack in folded.stacks}
    assert comms and all(re.match(r"a:b\\x0ac 7\\x0a\\x1b\[31m", comm) for comm in comms), comms
    page = recording.outputs["html"].read_text()
    assert "s:m" in page and "<b>&" not in page and page.count("<script") == page.count("</script>"), (
        "a name is not escaped in the page"
    )
    share(folded.count(r"main;s:m \\x0a1\\x1b\[31m\\xff") > 50, folded.chains())
    share(any("two:" in str(name) for name in recording.pprof.labels("thread")), recording.pprof.labels("thread"))


# -- processes that come and go


def test_processes_that_exit_while_they_are_read(directory: Path, workload: Callable[[str], Path]) -> None:
    """Lives of 30 ms: most samples are whole, the rest is counted."""
    recording = record(directory, "-d", 20, "-F", 999, "--", workload("leaver"), "3", "30").check()
    check_conservation(recording.pprof.counters)
    folded = recording.folded.of("leaver")
    right = folded.count(rf"^{expect.GLIBC_MAIN};one_life(;brief_work)?")
    share(folded.total > 300 and right > 0.6 * folded.total, f"{right} of {folded.total}: {folded.chains().most_common(10)}")


def test_storm_of_short_lives(directory: Path, workload: Callable[[str], Path]) -> None:
    """10,000 processes a minute: no lag, no lost records, and a program beside them is seen as ever."""
    with running([workload("forkstorm"), "60"]) as storm, running([workload("split"), "60"]) as sound:
        wait_until_warm(storm.pid)
        wait_until_warm(sound.pid)
        recording = record(directory, "-d", 8, "-F", 99).check()
    counters = recording.pprof.counters
    check_conservation(counters)
    assert not counters.get("malformed"), counters
    # A machine that stops for long enough fills every ring.
    share(not counters.get("kernel_lost") and not counters.get("lane_full"), counters)
    check_truth(recording.pprof.of(sound.pid), expect.WORKLOADS["split"])


# -- what others run


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="python3 is not installed")
def test_interpreter(directory: Path) -> None:
    """Native frames of the interpreter, all the way."""
    code = "def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nwhile True: f(20)"
    with running(["/usr/bin/python3", "-c", code]) as process:
        wait_until_warm(process.pid)
        folded = record_pids(directory, process.pid).folded
    missing = sum(n for chain, n in folded.chains().items() if not expect.is_complete(chain))
    share(
        folded.total > 200 and missing <= max(1, 0.005 * folded.total),
        f"{missing} of {folded.total} are not complete: {folded.chains().most_common(5)}",
    )


@pytest.mark.skipif(not shutil.which("clang-14"), reason="clang-14 is not installed")
def test_very_large_library(directory: Path) -> None:
    """libLLVM: more than 100 MiB, its unwind table alone is many."""
    source = directory / "big.cc"
    source.write_text(harness.LARGE_PROGRAM)
    loop = f"while true; do clang-14 -O2 -x c++ -c {source} -o /dev/null; done"
    with (
        running(["/bin/sh", "-c", loop], stderr=subprocess.DEVNULL),
        running(["/bin/sh", "-c", loop], stderr=subprocess.DEVNULL),
    ):
        recording = record(directory, "-d", 6, "-F", 199).check()
    check_conservation(recording.pprof.counters)
    compiler = (
        recording.folded.of("clang-14") if recording.folded.of("clang-14").total else recording.folded.of("clang")
    )
    share(compiler.total > 200, f"{compiler.total} samples of the compiler: {recording.pprof.counters}")
    share(compiler.share_complete() > 0.9, f"{compiler.share_complete():.3f} of {compiler.total}: {recording.pprof.counters}")


@pytest.mark.skipif(not shutil.which("java"), reason="java is not installed")
def test_code_without_unwind_information(directory: Path) -> None:
    """HotSpot's compiled code can not be walked by a native unwinder alone: it is counted, never guessed at."""
    (directory / "Busy.java").write_text(
        "public class Busy { static int f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); }"
        " public static void main(String[] a) { while (true) f(25); } }"
    )
    with running(["java", "-Xshare:auto", str(directory / "Busy.java")], stderr=subprocess.DEVNULL) as process:
        wait_until_warm(process.pid, 1.5)
        recording = record_pids(directory, process.pid)
    share(recording.pprof.total > 200, f"{recording.pprof.total} samples")
