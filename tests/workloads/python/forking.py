"""Two children by fork, without an exec: each computes in a function of its own name. Chain: main; child; child_work_N."""

import os
import signal
import time

from workload import END, going

SOURCE = """
def child_work_%(n)d(x):
    for _ in range(5000):
        x = x * 5 + 1 & 0xFFFF
    return x
"""


def child(work):
    while going() and os.getppid() != 1:
        work(1)  # child_work_N()
    os._exit(0)


def main():
    pids = []
    for n in range(2):
        scope = {}
        exec(SOURCE % {"n": n}, scope)
        pid = os.fork()
        if not pid:
            child(scope["child_work_%d" % n])
        pids.append(pid)
    time.sleep(max(0.0, END - time.monotonic()))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
