"""What test_python_code reads: prints where _PyRuntime is, its own frames as it sees them, and waits in the innermost."""
import asyncio
import ctypes
import sys


def wait():
    frame, qualified = sys._getframe(), sys.version_info >= (3, 11)
    lines = []
    while frame:
        code = frame.f_code
        name = code.co_qualname if qualified else code.co_name
        # by the time it is looked at, this frame has gone on to its last line
        line = frame.f_lineno if lines else wait_line
        lines.append('%s\t%s\t%d' % (name, code.co_filename, line))
        frame = frame.f_back
    runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, '_PyRuntime'))
    out = '%d %d\n' % (runtime, sys.version_info[1]) + '\n'.join(lines) + '\n\n'
    # one line: whoever reads the frames may come between; what is longer than a buffer is written before it is flushed
    sys.stdout.buffer.write(out.encode()), sys.stdout.buffer.flush(), sys.stdin.read()


wait_line = wait.__code__.co_firstlineno + 13


class Класс:
    def метод(self):
        def ñested():
            for _ in range(3):
                pass

            for _ in [0]:
                wait()
        ñested()


def generator():
    yield 1
    Класс().метод(
    )


async def coroutine():
    await asyncio.sleep(0)
    for _ in generator():
        pass


def 𝒻_many(n):
    if n:
        return [𝒻_many(n - 1) for _ in [0]]
    return asyncio.run(coroutine())


sorted([1], key=lambda _: 𝒻_many(5))
