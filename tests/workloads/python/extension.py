"""C code that calls back into Python: functools.reduce, sorted, a C library's qsort by ctypes, and a regular expression's substitution.
Chain: main; by_X; (native frames of X); back_from_X."""

import ctypes
import functools
import re

from workload import going

LIBC = ctypes.CDLL(None)
COMPARISON = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
NUMBERS = [(i * 7919) % 101 for i in range(101)]


def back_from_reduce(a, b):
    for _ in range(50):
        a = a * 5 + b & 0xFFFF
    return a


def back_from_sorted(x):
    for _ in range(50):
        x = x * 5 + 1 & 0xFFFF
    return x


def back_from_qsort(a, b):
    x = 1
    for _ in range(20):
        x = x * 5 + 1 & 0xFFFF
    return a[0] - b[0]


def back_from_sub(match):
    x = 1
    for _ in range(50):
        x = x * 5 + 1 & 0xFFFF
    return match[0]


COMPARE = COMPARISON(back_from_qsort)


def by_reduce():
    return functools.reduce(back_from_reduce, NUMBERS, 1)  # back_from_reduce()


def by_sorted():
    return sorted(NUMBERS, key=back_from_sorted)  # back_from_sorted()


def by_qsort():
    array = (ctypes.c_int * len(NUMBERS))(*NUMBERS)
    LIBC.qsort(array, len(NUMBERS), ctypes.sizeof(ctypes.c_int), COMPARE)  # back_from_qsort()


def by_sub(pattern, text):
    return pattern.sub(back_from_sub, text)  # back_from_sub()


def main():
    pattern, text = re.compile("[ab]"), "ab" * 50
    while going():
        by_reduce()
        by_sorted()
        by_qsort()
        by_sub(pattern, text)


if __name__ == "__main__":
    main()
