package work;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;

/** Counts what it does, DEPTH frames deep (the second argument, 50), into the first 8 bytes of a file (the third). Chain: main; down * DEPTH; add. */
final class Counting {
    private static MappedByteBuffer done;

    private Counting() {
    }

    static int burn(int x) {
        do {
            x = x * 5 + 1 & 0xFFF;
        } while (x != 1);
        return x;
    }

    static int add() {
        long until = System.nanoTime() + 5_000_000;
        while (System.nanoTime() < until) {
            burn(1);
            done.putLong(0, done.getLong(0) + 1);
        }
        return 1;
    }

    static int down(int n) {
        if (n <= 1) {
            return add() + 1;
        }
        return down(n - 1) + 1;
    }

    public static void main(String[] arguments) throws IOException {
        Workload.begin(arguments);
        int depth = Workload.number(arguments, 1, 50);
        try (RandomAccessFile file = new RandomAccessFile(Workload.word(arguments, 2), "rw")) {
            file.setLength(8);
            done = file.getChannel().map(FileChannel.MapMode.READ_WRITE, 0, 8);
            done.order(ByteOrder.LITTLE_ENDIAN);
            while (Workload.going()) {
                down(depth);
            }
        }
    }
}
