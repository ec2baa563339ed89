"""Fifty threads (the second argument), each with a function of its own name: thread number N runs `thread_N`, and has the same name in
the kernel. One in three computes in Python (spinning: it needs the GIL), one hashes, one compresses (both without the GIL, in native
code). Chain: threading's own; thread_N; spinning|hashing|zipping."""

import ctypes
import hashlib
import sys
import threading
import time
import zlib

from workload import END, going

COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 50
LIBC = ctypes.CDLL(None)
PR_SET_NAME = 15
BUFFER = bytes(range(256)) * 1024


def spinning(x):
    for _ in range(5000):
        x = x * 5 + 1 & 0xFFFF
    return x


def hashing():
    return hashlib.sha256(BUFFER).digest()


def zipping():
    return zlib.compress(BUFFER[:65536], 6)


SOURCE = """
def thread_%(n)d():
    LIBC.prctl(PR_SET_NAME, b"thread_%(n)d", 0, 0, 0)
    while going():
        %(call)s
        sleep(0.001)
"""
CALLS = ("spinning(1)", "hashing()", "zipping()")


def make(n):
    scope = dict(globals(), sleep=time.sleep)
    exec(compile(SOURCE % {"n": n, "call": CALLS[n % len(CALLS)]}, "<thread %d>" % n, "exec"), scope)
    return scope["thread_%d" % n]


def main():
    threads = [threading.Thread(target=make(n), daemon=True) for n in range(COUNT)]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, END - time.monotonic()))


if __name__ == "__main__":
    main()
