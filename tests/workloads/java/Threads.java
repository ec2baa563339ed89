package work;

import java.util.zip.CRC32;
import java.util.zip.Deflater;

/**
 * 300 threads (the second argument). The stack of thread number N says N: `one` and `zero` are called by the bits of N, the lowest first, ten
 * of them; and in the kernel it has the name thread_N. One in three computes in Java (spinning), one in an intrinsic (summing), one in
 * native code (deflating). Chain: Thread.run; Threads.run; (one|zero) * 10; spinning|summing|deflating.
 */
final class Threads implements Runnable {
    private static final int BITS = 10;
    private final int number;
    private final byte[] buffer = new byte[1 << 15];
    private final byte[] out = new byte[1 << 15];
    private final CRC32 sum = new CRC32();
    private final Deflater deflater = new Deflater(6);

    private Threads(int number) {
        this.number = number;
        for (int i = 0; i < buffer.length; i++) {
            buffer[i] = (byte) (i * i >> 7);
        }
    }

    @Override
    public void run() {
        while (Workload.going()) {
            if ((number & 1) == 1) {
                one(number >> 1, BITS - 1);
            } else {
                zero(number >> 1, BITS - 1);
            }
            rest();
        }
    }

    private static void rest() {
        try {
            Thread.sleep(20);
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    private int one(int n, int left) {
        if (left == 0) {
            return work() + 1;
        }
        return (n & 1) == 1 ? one(n >> 1, left - 1) + 1 : zero(n >> 1, left - 1) + 1;
    }

    private int zero(int n, int left) {
        if (left == 0) {
            return work() + 1;
        }
        return (n & 1) == 1 ? one(n >> 1, left - 1) + 1 : zero(n >> 1, left - 1) + 1;
    }

    private int work() {
        switch (number % 3) {
            case 0:
                return spinning(1) + 1;
            case 1:
                return summing() + 1;
            default:
                return deflating() + 1;
        }
    }

    private static int spinning(int x) {
        do {
            x = x * 5 + 1 & 0xFFFF;
        } while (x != 1);
        return x;
    }

    private int summing() {
        for (int i = 0; i < 20; i++) {
            sum.update(buffer, 0, buffer.length);
        }
        return (int) sum.getValue();
    }

    private int deflating() {
        deflater.reset();
        deflater.setInput(buffer);
        deflater.finish();
        return deflater.deflate(out);
    }

    public static void main(String[] arguments) throws InterruptedException {
        Workload.begin(arguments);
        int count = Workload.number(arguments, 1, 300);
        Thread[] threads = new Thread[count];
        for (int n = 0; n < count; n++) {
            threads[n] = new Thread(null, new Threads(n), "thread_" + n, 1 << 19);
            threads[n].start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
    }
}
