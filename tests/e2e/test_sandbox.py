"""The sandbox as the kernel sees it: /proc of each worker, and what status says of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Service

WORKERS = ("sampler", "native", "merge")


def proc_status(pid: int) -> dict[str, str]:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (row.partition(":") for row in rows)}


@pytest.fixture
def running_service(service: Callable[..., Service]) -> Service:
    one = service({"snapshot": {"interval": "1s"}}).start()
    one.wait_profiles(1)
    return one


@pytest.mark.parametrize("name", WORKERS)
def test_workers_hold_nothing(name: str, running_service: Service) -> None:
    pid = running_service.wait_running(name)[name]
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            rows = proc_status(int(task.name))
        except (FileNotFoundError, ProcessLookupError):
            assert task.name != str(pid), "the worker has ended"
            continue  # a thread that has
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(rows[kind], 16) == 0, f"thread {task.name}: {kind} {rows[kind]}"
        assert rows["NoNewPrivs"] == "1" and rows["Seccomp"] == "2", rows
        uids, gids = set(rows["Uid"].split()), set(rows["Gid"].split())
        assert len(uids) == 1 and "0" not in uids and len(gids) == 1 and "0" not in gids, rows
        assert rows["Groups"] == ""
    assert proc_status(pid)["PPid"] == str(running_service.pid)


def test_each_worker_has_a_uid_of_its_own(running_service: Service) -> None:
    pids = running_service.wait_running(*WORKERS)
    uids = {name: proc_status(pid)["Uid"].split()[0] for name, pid in pids.items()}
    assert len(set(uids.values())) == len(uids), uids


@pytest.mark.parametrize("name", WORKERS)
def test_no_file_system(name: str, running_service: Service) -> None:
    row = running_service.worker(name)
    root = Path(f"/proc/{row['pid']}/root")
    if os.readlink(f"/proc/{row['pid']}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
        pytest.skip(f"no mount namespaces here; status says: {row['sandbox']}")
    assert list(root.iterdir()) == [], "its root is not empty"
    mounts = Path(f"/proc/{row['pid']}/mountinfo").read_text().splitlines()
    assert len(mounts) == 1 and re.search(r" ro[, ]", mounts[0]), mounts


@pytest.mark.parametrize("name", WORKERS)
def test_namespaces(name: str, running_service: Service) -> None:
    """A namespace of its own where status says so, and status says so where it is."""
    row = running_service.worker(name)
    said = str(row["sandbox"]["namespaces"])
    for kind, word in (("mnt", "mnt|mount"), ("net", "net"), ("ipc", "ipc"), ("pid", "pid"), ("uts", "uts")):
        link = Path(f"/proc/{row['pid']}/ns/{kind}")
        if not link.exists():
            continue
        own = os.readlink(link) != os.readlink(f"/proc/self/ns/{kind}")
        assert own == bool(re.search(word, said)), f"{kind}: own is {own}, status says {said!r}"


@pytest.mark.parametrize("name", WORKERS)
def test_fds_are_leases_and_nothing_else(name: str, running_service: Service) -> None:
    """The channel, /dev/null, anonymous memory, eventfds, perf events, /proc/PID/mem, read-only files."""
    row = running_service.worker(name)
    fds: dict[int, str] = {}
    for link in Path(f"/proc/{row['pid']}/fd").iterdir():
        try:
            fds[int(link.name)] = os.readlink(link)
        except FileNotFoundError:
            continue
    sockets = [fd for fd, target in fds.items() if target.startswith("socket:")]
    assert sockets == [3], fds
    for fd, target in fds.items():
        if fd <= 3:
            assert fd == 3 or target == "/dev/null", fds
            continue
        assert re.match(r"/memfd:|anon_inode:|/proc/\d+/(mem|maps)|/", target), (fd, target)
        if target.startswith("/") and not target.startswith("/memfd:") and name != "merge":
            link = Path(f"/proc/{row['pid']}/fd/{fd}")
            try:
                flags = Path(f"/proc/{row['pid']}/fdinfo/{fd}").read_text()
                if os.readlink(link) != target:
                    continue  # another lease has its number by now
            except FileNotFoundError:
                continue  # a lease that has ended, as its process did
            mode = int(re.search(r"flags:\s*(\d+)", flags)[1], 8)  # type: ignore[index]
            assert mode & os.O_ACCMODE == os.O_RDONLY, f"{target} is open for writing"
            assert mode & os.O_CLOEXEC, f"{target} would survive an exec"


@pytest.mark.parametrize("name", WORKERS)
def test_no_network(name: str, running_service: Service) -> None:
    row = running_service.worker(name)
    net = Path(f"/proc/{row['pid']}/net/dev")
    if os.readlink(f"/proc/{row['pid']}/ns/net") == os.readlink("/proc/self/ns/net"):
        pytest.skip("no network namespaces here; seccomp stands alone (tests/hostile tries it)")
    devices = [line.split(":")[0].strip() for line in net.read_text().splitlines()[2:]]
    assert devices in ([], ["lo"]), devices


@pytest.mark.parametrize("name", WORKERS)
def test_urgent_only_until_it_is_locked_down(name: str, running_service: Service) -> None:
    """It starts with the supervisor's nice value and in its session. Readers stand above the others; its main thread, and all of the
    opener, do not, and its share of the CPUs is nobody else's."""
    pid = running_service.wait_running(name)[name]
    assert os.getpriority(os.PRIO_PROCESS, pid) >= 0
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    assert os.getsid(pid) == pid


def test_the_supervisor_is_urgent_among_sessions(running_service: Service) -> None:
    """The kernel shares the CPUs among sessions first, and a nice value alone counted for nothing beside another session's programs."""
    group = Path(f"/proc/{running_service.pid}/autogroup")
    if not group.exists() or not group.read_text():
        pytest.skip("this kernel does not group by session")
    assert os.getsid(running_service.pid) == running_service.pid
    nice = os.getpriority(os.PRIO_PROCESS, running_service.pid)
    if nice < 0:
        assert group.read_text().endswith(f" nice {nice}\n")


def test_the_supervisor_has_no_network_either(running_service: Service) -> None:
    """All are in one namespace, which the supervisor left the machine's for: a birth must not wait for the ends of others'."""
    spaces = {pid: os.readlink(f"/proc/{pid}/ns/net") for pid in (running_service.pid, *running_service.wait_running(*WORKERS).values())}
    if spaces[running_service.pid] == os.readlink("/proc/self/ns/net"):
        pytest.skip("no network namespaces here; seccomp stands alone (tests/hostile tries it)")
    assert len(set(spaces.values())) == 1, spaces


def test_status_says_what_is_so(running_service: Service) -> None:
    status = running_service.status()
    for row in status["workers"]:
        box: dict[str, Any] = row["sandbox"]
        if row["name"] == "opener":
            continue
        real = proc_status(row["pid"])
        assert box["uid"] == int(real["Uid"].split()[0]), box
        assert int(box["seccomp"]) == 2 and bool(box["no_new_privs"]), box
        assert box["caps"] in (0, "", "none", "0", [], "0x0", "0000000000000000"), box


def test_limits(running_service: Service) -> None:
    """No fork bomb, no file of any size, no core, bounded memory and fds, and a leash on real-time priority."""
    for name in WORKERS:
        pid = running_service.wait_running(name)[name]
        limits = {}
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]:
            found = re.match(r"(.+?)\s{2,}(\S+)\s+(\S+)", line)
            assert found
            limits[found[1]] = found[3]
        assert limits["Max core file size"] == "0", name
        assert limits["Max open files"] != "unlimited" and int(limits["Max open files"]) <= 65536, name
        assert limits["Max realtime priority"] in ("0", "1"), name
        assert limits["Max realtime priority"] == "0" or limits["Max realtime timeout"] != "unlimited", name


def test_supervisor_keeps_little(running_service: Service) -> None:
    """Its own filter, and no capability that it does not name."""
    rows = proc_status(running_service.pid)
    assert rows["Seccomp"] == "2", rows["Seccomp"]
    caps = int(rows["CapEff"], 16)
    dangerous = {
        "CAP_NET_ADMIN": 12,
        "CAP_NET_RAW": 13,
        "CAP_SYS_MODULE": 16,
        "CAP_SYS_RAWIO": 17,
        "CAP_SYS_BOOT": 22,
        "CAP_MKNOD": 27,
        "CAP_SYS_TIME": 25,
        "CAP_BPF": 39,
    }
    kept = [name for name, bit in dangerous.items() if caps >> bit & 1]
    assert not kept, kept


def test_supervisor_opens_no_memory_of_a_target(running_service: Service) -> None:
    """The first law: nothing that a target controls is open in the supervisor but what it holds for lending."""
    maps = Path(f"/proc/{running_service.pid}/maps").read_text()
    files = {line.split()[5] for line in maps.splitlines() if len(line.split()) > 5}
    own = {name for name in files if not re.match(r"\[|/(usr/)?lib|/memfd:|anon_inode|/dev/zero|/SYSV", name)}
    assert all(Path(name).parent == Path(os.readlink(f"/proc/{running_service.pid}/exe")).parent for name in own), own
