package work;

import java.lang.reflect.Method;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * 100 virtual threads (the second argument; from Java 21 on, which is why they are made by reflection) that compute, yield, sleep, and start
 * another one by turns, which computes for a moment and never waits. Chain: of the carrier; VirtualThread.run; Virtual.run; work; outer; inner;
 * burnA, or work; other; deeper * 21; burnB, or work; far; farther * 201; burnC (so many frames are not all fetched back from the heap), or
 * once; burnB.
 */
final class Virtual implements Runnable {
    private static final AtomicInteger LIVE = new AtomicInteger();
    private static Method start;
    private final boolean brief;

    private Virtual(boolean brief) {
        this.brief = brief;
    }

    static int burnA(int x) {
        do {
            x = x * 5 + 1 & 0x3FFF;
        } while (x != 1);
        return x;
    }

    static int burnB(int x) {
        do {
            x = x * 5 + 1 & 0x3FFF;
        } while (x != 1);
        return x;
    }

    static int inner(int x) {
        Thread.yield();
        return burnA(x) + 1;
    }

    static int outer(int x) {
        return inner(x) + 1;
    }

    static int deeper(int n) {
        if (n == 0) {
            return burnB(1) + 1;
        }
        return deeper(n - 1) + 1;
    }

    static int burnC(int x) {
        do {
            x = x * 5 + 1 & 0x3FFF;
        } while (x != 1);
        return x;
    }

    static int farther(int n) {
        if (n == 0) {
            Thread.yield();
            return burnC(1) + 1;
        }
        return farther(n - 1) + 1;
    }

    static int far(int n) {
        return farther(n) + 1;
    }

    static int other(int n) {
        return deeper(n) + 1;
    }

    static void once() {
        for (int i = 0; i < 10; i++) {
            burnB(1);
        }
    }

    static void work() throws InterruptedException, ReflectiveOperationException {
        while (Workload.going()) {
            outer(1);
            other(20);
            far(200);
            another();
            Thread.sleep(5);
        }
    }

    static void another() throws ReflectiveOperationException {
        start.invoke(null, new Virtual(true));
    }

    @Override
    public void run() {
        try {
            if (brief) {
                once();
            } else {
                work();
                LIVE.decrementAndGet();
            }
        } catch (InterruptedException | ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Workload.begin(arguments);
        start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        int count = Workload.number(arguments, 1, 100);
        LIVE.set(count);
        for (int i = 0; i < count; i++) {
            start.invoke(null, new Virtual(false));
        }
        while (LIVE.get() > 0) {
            Thread.sleep(50);
        }
    }
}
