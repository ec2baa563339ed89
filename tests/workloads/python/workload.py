"""What all Python workloads share: PYTHON WORKLOAD.py [SECONDS [ARGUMENT]...]. They run on every Python from 3.8 on, print nothing, and end
after so many seconds (default 1).

Calls are written so that a profile can be judged by the source alone: a frame's line holds the name of what it calls, with its
parenthesis. e2e/pyframes.py checks each edge of each stack that way."""

import random
import sys
import time

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
END = time.monotonic() + SECONDS


def going():
    return time.monotonic() < END


class Slices:
    """CPU time of this thread in rounds of about 50 ms that vary, so that no sampling frequency keeps step with them. What one part
    overruns is taken from the next one's: the errors cancel."""

    def __init__(self):
        self.at = time.thread_time()
        self.random = random.Random(12345)
        self.length = 0.0
        self.next_round()

    def next_round(self):
        self.length = self.random.uniform(0.035, 0.065)

    def until(self, share):
        """The thread's CPU time at which the next part ends, which has this share of the round."""
        self.at += share * self.length
        return self.at
