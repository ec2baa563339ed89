"""Functions and files with names of all kinds, each with an equal share of the time. CASES is what e2e/test_python.py expects."""

import sys

CASES = {
    "plain": "ascii",
    "cyrillic": "\u0444\u0443\u043d\u043a\u0446\u0438\u044f",
    "latin": "caf\xe9",
    "emoji": "\U0001f40d \U0001f525",
    "newline": "two\nlines",
    "semicolon": "a;b;c",
    "control": "bell\x07 tab\t escape\x1b[2J",
    "bidi": "\u202eright to left",
    "surrogate": "lone \udc80 end",
    "zero": "nul\x00 end",
    "parenthesis": "f (x.py:1)_[p]",
    "long": "long" * 1000,
    "wide": "\u0434\u043b\u0438\u043d\u043d\u043e" * 500,
    "empty": "",
}
WORK = """
def work(x):
    for _ in range(2000):
        x = x * 5 + 1 & 0xFFFF
    return x
"""


def make(name):
    """The same text is the function's name and, with a prefix, that of its file."""
    scope = {}
    exec(compile(WORK, "/tmp/named", "exec"), scope)
    work = scope["work"]
    changes = {"co_name": name, "co_filename": "/tmp/" + name}
    if hasattr(work.__code__, "co_qualname"):
        changes["co_qualname"] = name
    work.__code__ = work.__code__.replace(**changes)
    return work


class Shelf:
    def method(self, x):
        for _ in range(2000):
            x = x * 5 + 1 & 0xFFFF
        return x

    def closure(self):
        def inner(x):
            for _ in range(2000):
                x = x * 5 + 1 & 0xFFFF
            return x

        return inner


def main():
    from workload import going

    work = [make(name) for name in CASES.values()]
    shelf = Shelf()
    work += [shelf.method, shelf.closure(), lambda x: sum(i * x for i in range(1000))]
    while going():
        for one in work:
            one(1)


if __name__ == "__main__":
    main()
