"""Two loops in one function, each with half of its CPU time: only the lines tell them apart. The lines of a loop end in its mark."""

from time import thread_time

from workload import Slices, going


def two_loops(slices):
    x = 1
    until = slices.until(0.5)
    while thread_time() < until:  # loop one
        for _ in range(200):  # loop one
            x = x * 5 + 1 & 0xFFFF  # loop one
    until = slices.until(0.5)
    while thread_time() < until:  # loop two
        for _ in range(200):  # loop two
            x = x * 5 + 1 & 0xFFFF  # loop two
    slices.next_round()
    return x


def main():
    slices = Slices()
    while going():
        two_loops(slices)


if __name__ == "__main__":
    main()
