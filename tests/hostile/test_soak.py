"""A share of the soak: the whole of it is tests/soak/deaths, and takes minutes."""

from __future__ import annotations

import subprocess

import harness

DEATHS = 1500


def test_the_supervisor_does_not_grow_with_deaths() -> None:
    done = subprocess.run(
        [str(harness.SOURCE / "tests" / "soak" / "deaths"), "--deaths", str(DEATHS)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
