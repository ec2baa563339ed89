"""Starts itself anew again and again by exec, in the middle of a deep stack: each image is another process to its reader, under the same
number. Chain: main; deep * 50; burn."""

import os
import sys

from workload import END, going

LIFE_ROUNDS = 3000


def burn(x):
    for _ in range(2000):
        x = x * 5 + 1 & 0xFFFF
    return x


def deep(n):
    if n <= 1:
        for _ in range(LIFE_ROUNDS):
            burn(n)
        if going():
            import time

            left = END - time.monotonic()
            os.execv(sys.executable, [sys.executable, sys.argv[0], repr(left)])
        return n
    return deep(n - 1)


def main():
    deep(50)


if __name__ == "__main__":
    main()
