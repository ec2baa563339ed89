"""The layouts and decoders of bulkhead-python, against what real interpreters say of their own frames."""
import glob
import os
import subprocess
from pathlib import Path

import pytest

from harness import BIN, PATIENCE

HERE = Path(__file__).parent
PROBE = BIN / 'python_probe'
ROOTS = os.environ.get('BULKHEAD_PYTHONS', '').split()
PYTHONS = sorted({*glob.glob('/usr/bin/python3.[0-9]*[0-9]'), *glob.glob(os.path.expanduser('~/.pyenv/versions/3.*/bin/python3')),
                  *ROOTS})


@pytest.mark.parametrize('python', PYTHONS)
def test_frames_are_those_the_interpreter_names(python: str) -> None:
    version = subprocess.run([python, '-c', 'import sys; print(sys.version_info[1])'], capture_output=True, text=True, check=True)
    if not 8 <= int(version.stdout) <= 14:
        pytest.skip('a version without a layout')
    with subprocess.Popen([python, '-X', 'utf8', HERE / 'python_frames.py'], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as target:
        try:
            lines = []
            while (line := target.stdout.readline().decode().rstrip('\n')):
                lines.append(line)
            assert lines, 'the program did not start'
            runtime, minor = lines[0].split()
            probe = subprocess.run([PROBE, str(target.pid), runtime, minor], capture_output=True, text=True, timeout=PATIENCE)
            assert not probe.returncode, probe.stderr
            assert probe.stdout.splitlines() == ['thread', *lines[1:]]
        finally:
            target.stdin.close()
