"""A share of tests/hostile/torture, the same one in each run: one system call of the supervisor fails, in a life of its own."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import harness
import pytest

# About a second and a half for each life, two at a time; the limits are for machines that are busy.
LIVES = {"record": 50, "service": 20}
LIMIT_SECONDS = {"record": 150.0, "service": 150.0}


def torture() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("torture", str(Path(__file__).with_name("torture")))
    spec = importlib.util.spec_from_loader("torture", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules["torture"] = module  # dataclasses look it up
    loader.exec_module(module)
    return module


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("form", LIVES)
def test_no_failing_system_call_hurts(form: str) -> None:
    said: list[str] = []
    verdicts, known = torture().run(
        [form], LIVES[form], min(2, os.cpu_count() or 1), "", said.append, LIMIT_SECONDS[form], by_count=True
    )
    print(f"{len(verdicts)} of {known}, {sum(verdict.reached for verdict in verdicts)} reached their fault")
    assert not any(verdict.wrong for verdict in verdicts), "\n".join(said)
    harness.share(len(verdicts) >= LIVES[form] // 4, f"{len(verdicts)} lives: too slow a machine to say anything")


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_no_failing_call_leaves_it_deaf() -> None:
    """A mask of signals that did not come back, or a watch that was never taken: it worked on, and ended for nobody."""
    said: list[str] = []
    verdicts, _ = torture().run(
        ["service"], 12, min(2, os.cpu_count() or 1), "rt_sigprocmask|signalfd|epoll_ctl", said.append, by_count=True
    )
    assert any(verdict.reached and verdict.outcome == "exit 0" for verdict in verdicts)
    assert any(verdict.reached and verdict.outcome == "exit 1" for verdict in verdicts)
    assert not any(verdict.wrong for verdict in verdicts), "\n".join(said)


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_worker_that_ends_behind_the_mark_owes_nothing() -> None:
    """The supervisor cannot take native's word that its part is whole, and ends it; nobody is left who could say it again."""
    tool = torture()
    with tool.busy_target() as target:
        for _ in range(20):  # a life in which the call has another number says nothing
            plain, lines = tool.live("record", None, target)
            calls = [line for line in lines if line.startswith("newfstatat(")]
            streams = [n for n, line in enumerate(calls, 1) if ', "", ' in line]
            assert streams, plain.log
            verdict = tool.live("record", tool.Fault("record", "newfstatat", streams[-1]), target)[0]
            if "closed a stream behind its end" in verdict.log:
                break
    assert "closed a stream behind its end" in verdict.log, verdict.log
    assert not verdict.wrong and "missed the deadline" not in verdict.log, (verdict.wrong, verdict.log)


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_status_socket_that_cannot_be_given_to_its_group_does_not_stay() -> None:
    tool = torture()
    with tool.busy_target() as target:
        verdict = tool.live("service", tool.Fault("service", "fchownat", 1), target)[0]
    assert verdict.reached and not verdict.wrong, (verdict.wrong, verdict.log)
