"""Counts how much it has done, DEPTH frames deep (the second argument, 50), in the first eight bytes of a file (the third): what is in
there at two moments is what it did between them. Chain: main; (even; odd) * DEPTH / 2; bottom; step."""

import mmap
import os
import struct
import sys

from workload import going

DEPTH = int(sys.argv[2]) if len(sys.argv) > 2 else 50


def step(x):
    for _ in range(200):
        x = x * 5 + 1 & 0xFFFF
    return x


def bottom(counter):
    done = 0
    while going():
        for _ in range(20):
            step(done)
            done += 1
            struct.pack_into("<Q", counter, 0, done)


def even(n, counter):
    return bottom(counter) if n <= 1 else odd(n - 1, counter)


def odd(n, counter):
    return bottom(counter) if n <= 1 else even(n - 1, counter)


def main():
    sys.setrecursionlimit(DEPTH + 100)
    file = os.open(sys.argv[3], os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 8)
    even(DEPTH, mmap.mmap(file, 8))


if __name__ == "__main__":
    main()
