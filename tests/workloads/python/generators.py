"""Generators that delegate, coroutines under asyncio, and asynchronous generators, each by turns.

Chains: main; by_generator; outer_generator; inner_generator; burn. main; by_coroutine; (asyncio's own); coroutine; awaited; burn. main;
by_async_generator; (asyncio's own); consume; async_generator; burn."""

import asyncio

from workload import going


def burn(x):
    for _ in range(3000):
        x = x * 5 + 1 & 0xFFFF
    return x


def inner_generator():
    for x in range(5):
        yield burn(x)


def outer_generator():
    yield from inner_generator()


def by_generator():
    for _ in outer_generator():
        pass


async def awaited(x):
    burn(x)
    await asyncio.sleep(0)
    return burn(x)


async def coroutine():
    await awaited(1)


async def async_generator():
    for x in range(5):
        yield burn(x)
        await asyncio.sleep(0)


async def consume():
    async for _ in async_generator():
        pass


async def gathered():
    await asyncio.gather(*(coroutine() for _ in range(5)))


def main():
    loop = asyncio.new_event_loop()
    while going():
        by_generator()
        loop.run_until_complete(gathered())
        loop.run_until_complete(consume())
    loop.close()


if __name__ == "__main__":
    main()
