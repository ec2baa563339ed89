package work;

import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.util.Random;

/**
 * CPU time of this thread in rounds of about 50 ms that vary, so that no sampling frequency keeps step with them. What one part overruns is
 * taken from the next one's: the errors cancel.
 */
final class Slices {
    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();
    private final Random random = new Random(12345);
    private long at = cpuNanos();
    private double length;

    Slices() {
        nextRound();
    }

    static long cpuNanos() {
        return THREADS.getCurrentThreadCpuTime();
    }

    void nextRound() {
        length = 35e6 + 30e6 * random.nextDouble();
    }

    /** The thread's CPU time at which the next part ends, which has this share of the round. */
    long until(double share) {
        at += (long) (share * length);
        return at;
    }
}
