"""70, 20 and 10 % of the CPU time in functions of these names, below main. Chain: <module>; main; seventy|twenty|ten."""

from time import thread_time

from workload import Slices, going


def seventy(until):
    x = 1
    while thread_time() < until:
        for _ in range(200):
            x = x * 5 + 1 & 0xFFFF
    return x


def twenty(until):
    x = 1
    while thread_time() < until:
        for _ in range(200):
            x = x * 5 + 1 & 0xFFFF
    return x


def ten(until):
    x = 1
    while thread_time() < until:
        for _ in range(200):
            x = x * 5 + 1 & 0xFFFF
    return x


def main():
    slices = Slices()
    while going():
        seventy(slices.until(0.7))
        twenty(slices.until(0.2))
        ten(slices.until(0.1))
        slices.next_round()


if __name__ == "__main__":
    main()
