"""leaf_a is only ever called by caller_a, leaf_b by caller_b, and they alternate within microseconds, DEPTH frames deep (the second
argument, 200): by turns at the end of one stack (swap), and each at the end of a stack of its own that is wound and unwound for it
(rewind). A stack that was read while it changed shows as an edge that is not in this source.

Chains: main; swap; common * DEPTH; both; caller_a; leaf_a, and main; rewind; side_a * DEPTH; caller_a; leaf_a; the same with b."""

import sys

from workload import going

DEPTH = int(sys.argv[2]) if len(sys.argv) > 2 else 200


def leaf_a(x):
    for _ in range(10):
        x = x * 5 + 1 & 0xFFFF
    return x


def leaf_b(x):
    for _ in range(10):
        x = x * 5 + 1 & 0xFFFF
    return x


def caller_a(x):
    return leaf_a(x)


def caller_b(x):
    return leaf_b(x)


def both(x):
    for _ in range(50):
        x = caller_a(x)
        x = caller_b(x)
    return x


def common(n):
    if n <= 1:
        return both(n)
    return common(n - 1)


def side_a(n):
    if n <= 1:
        return caller_a(n)
    return side_a(n - 1)


def side_b(n):
    if n <= 1:
        return caller_b(n)
    return side_b(n - 1)


def swap():
    common(DEPTH)


def rewind():
    for _ in range(5):
        side_a(DEPTH)
        side_b(DEPTH)


def main():
    sys.setrecursionlimit(DEPTH + 100)
    while going():
        swap()
        rewind()


if __name__ == "__main__":
    main()
