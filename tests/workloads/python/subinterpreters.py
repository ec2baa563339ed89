"""The main interpreter computes in main_work, and two more in threads of their own, in sub_work_0 and sub_work_1. Up to 3.11 an
interpreter that wants the GIL of another one waits until that sleeps."""

import threading
import time

from workload import SECONDS, going

try:
    import _interpreters as interpreters  # 3.13
except ImportError:
    import _xxsubinterpreters as interpreters

SOURCE = """
import time
end = time.monotonic() + %(seconds)r

def sub_work_%(n)d(x):
    for _ in range(5000):
        x = x * 5 + 1 & 0xFFFF
    return x

def sub_main_%(n)d():
    while time.monotonic() < end:
        sub_work_%(n)d(1)
        time.sleep(0.0002)

sub_main_%(n)d()
"""


def main_work(x):
    for _ in range(5000):
        x = x * 5 + 1 & 0xFFFF
    return x


def host(n):
    interpreters.run_string(interpreters.create(), SOURCE % {"seconds": SECONDS, "n": n})  # exec()


def main():
    threads = [threading.Thread(target=host, args=(n,), daemon=True) for n in range(2)]
    for thread in threads:
        thread.start()
    while going():
        main_work(1)
        time.sleep(0.0002)
    for thread in threads:
        thread.join(5)


if __name__ == "__main__":
    main()
