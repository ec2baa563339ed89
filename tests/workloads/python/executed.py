"""Code objects that live for milliseconds or less, one after the other, so that the next one takes the place of the last in memory: the
function made in round N is `made_N`, in the file <made N>, and its loop is in line 10 + N % 100; with a second argument always in line
10, as of code that is made from a template: then only the names tell. Chain: main; run; <module>?; made_N."""

import sys

from workload import going

SPREAD = 1 if len(sys.argv) > 2 else 100
SOURCE = "%sdef made_%d(x):\n    for _ in range(%d): x = x * 5 + 1 & 0xFFFF\n"


def run(function):
    function(1)  # made_N()


def main():
    n = 0
    while going():
        scope = {}
        exec(compile(SOURCE % ("\n" * (8 + n % SPREAD), n, 20000 if n % 4 == 0 else 500), "<made %d>" % n, "exec"), scope)
        run(scope["made_%d" % n])
        n += 1


if __name__ == "__main__":
    main()
