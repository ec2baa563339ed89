"""Boots the image with the current build in it, and reads what the checks inside said."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import checks
import harness

HERE = Path(__file__).resolve().parent
LOGS = harness.BIN.parents[1] / "logs"

# Long enough for a machine of CI that is busy with something else: it takes a fourth of it on an idle one.
LIMIT_SECONDS = 420
# Both together are less than tests/run gives a part.
IMAGE_LIMIT_SECONDS = 420
MEMORY_MIB = 1024
CPUS = 2
TAIL_LINES = 60

# panic=1 and -no-reboot: a kernel that panics ends the emulator
KERNEL = "console=ttyS0 panic=1 quiet loglevel=4 systemd.show_status=error"


@dataclass
class Boot:
    """A machine that ran to its end, or to ours."""

    seconds: float
    timed_out: bool
    console: str
    results: dict[str, str | None] = field(default_factory=dict)
    """By the name of the check: None when it passed, else why not."""
    done: bool = False

    @classmethod
    def read(cls, seconds: float, timed_out: bool, console: Path, serial: Path) -> Boot:
        boot = cls(seconds, timed_out, console.read_text(errors="replace"))
        for line in serial.read_text(errors="replace").splitlines():
            if found := re.fullmatch(r"ok (\w+)", line):
                boot.results[found[1]] = None
            elif found := re.fullmatch(r"not ok (\w+): (.*)", line):
                boot.results[found[1]] = found[2]
            boot.done = boot.done or line == "done"
        return boot

    def tail(self) -> str:
        ending = "was ended by the time limit" if self.timed_out else "ended by itself"
        lines = self.console.splitlines()[-TAIL_LINES:]
        return "\n".join([f"the machine {ending} after {self.seconds:.0f} s; the end of its console:", *lines])


def image() -> Path:
    done = subprocess.run([str(HERE / "image")], stdout=subprocess.PIPE, text=True, timeout=IMAGE_LIMIT_SECONDS)
    assert done.returncode == 0, "the image could not be built: see above"
    return Path(done.stdout.strip())


def overlay(directory: Path) -> Path:
    """All that a run adds to the image, as a tar archive that the machine sees as a disk."""
    tree = directory / "overlay"
    tests = tree / "opt" / "bulkhead-tests"
    units = tree / "etc" / "systemd" / "system"
    tests.mkdir(parents=True)
    for name in ("checks.py", "../e2e/pprof.py"):
        shutil.copy(HERE / name, tests)
    for name in ("split", "syscalls"):
        shutil.copy(harness.program(name), tests)
    hostile = harness.WORKLOADS.parent / "hostile"
    harness.build(harness.SOURCE / "tests" / "hostile", hostile)
    for name in ("native.eat_memory", "native.many_threads"):
        shutil.copy(hostile / name, tests)
    install = ["cmake", "--install", str(harness.BIN.parent)]
    done = subprocess.run(install, env={"PATH": "/usr/bin:/bin", "DESTDIR": str(tree)}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(install)}: {done.stdout}{done.stderr}"
    config = tree / str(checks.CONFIG.relative_to("/"))
    config.parent.mkdir(parents=True)
    config.write_text(checks.LEASH)
    config.chmod(0o600)
    # what `systemctl enable` does
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(parents=True)
    (unit,) = tree.glob("**/systemd/system/bulkhead.service")
    (wanted / unit.name).symlink_to(f"/{unit.relative_to(tree)}")
    shutil.copy(HERE / "guest" / "bulkhead-checks.service", units)
    (wanted / "bulkhead-checks.service").symlink_to("../bulkhead-checks.service")
    archive = directory / "overlay.tar"
    subprocess.run(["tar", "--owner=0", "--group=0", "-C", str(tree), "-cf", str(archive), "."], check=True)
    return archive


def command(image: Path, archive: Path, console: Path, serial: Path) -> list[str]:
    """TCG: it is there on every machine, also inside of virtual ones. Two serial ports, so that what the kernel says
    stands in no result's line. Nothing is written to the image."""
    return [
        # the belt: it also ends when nobody is left to end it
        *("timeout", "--kill-after=5", str(LIMIT_SECONDS + 30)),
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(CPUS), "-m", str(MEMORY_MIB)),
        *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initramfs"), "-append", KERNEL),
        *("-drive", f"file={image / 'disk'},if=virtio,format=raw,snapshot=on"),
        *("-drive", f"file={archive},if=virtio,format=raw,readonly=on"),
        *("-serial", f"file:{console}", "-serial", f"file:{serial}"),
    ]


def boot(directory: Path) -> Boot:
    LOGS.mkdir(parents=True, exist_ok=True)
    console, serial = LOGS / "boot-console.log", LOGS / "boot-results.log"
    for path in (console, serial):
        path.write_bytes(b"")
    start = command(image(), overlay(directory), console, serial)
    begin, timed_out = time.monotonic(), False
    # the emulator's own words go where the machine's do
    with open(console, "ab") as log, harness.running(list(start), stdout=log, stderr=log) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=LIMIT_SECONDS)
        timed_out = process.poll() is None
    return Boot.read(time.monotonic() - begin, timed_out, console, serial)
