"""Recursion DEPTH frames deep (the second argument, 500), of two functions by turns, with all the work at its end; and, with a third
argument, through C at each step: map() calls back. Chain: main; (even; odd) * DEPTH / 2; bottom."""

import sys

from workload import going

DEPTH = int(sys.argv[2]) if len(sys.argv) > 2 else 500
THROUGH_C = len(sys.argv) > 3


def bottom(x):
    for _ in range(2000):
        x = x * 5 + 1 & 0xFFFF
    return x


def even(n):
    if n <= 1:
        while going():
            bottom(n)
        return n
    if THROUGH_C:
        return list(map(odd, (n - 1,)))[0]  # odd()
    return odd(n - 1)


def odd(n):
    if n <= 1:
        while going():
            bottom(n)
        return n
    if THROUGH_C:
        return list(map(even, (n - 1,)))[0]  # even()
    return even(n - 1)


def main():
    sys.setrecursionlimit(DEPTH + 100)
    even(DEPTH)


if __name__ == "__main__":
    main()
