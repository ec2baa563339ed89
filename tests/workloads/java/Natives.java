package work;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.util.zip.CRC32;
import java.util.zip.Deflater;

/** Java that is not Java at its end: intrinsics, the virtual machine's stubs, the C library, the kernel. Chain: main; summing|copying|... */
final class Natives {
    private static final byte[] FROM = new byte[1 << 16];
    private static final byte[] TO = new byte[1 << 16];
    private static final CRC32 SUM = new CRC32();
    private static final Deflater DEFLATER = new Deflater(6);
    private static double sink;

    private Natives() {
    }

    static void summing() {
        for (int i = 0; i < 50; i++) {
            SUM.update(FROM, 0, FROM.length);
        }
    }

    static void copying() {
        for (int i = 0; i < 100; i++) {
            System.arraycopy(FROM, 0, TO, 0, FROM.length);
        }
    }

    static void deflating() {
        DEFLATER.reset();
        DEFLATER.setInput(FROM);
        DEFLATER.finish();
        DEFLATER.deflate(TO);
    }

    static void reading(RandomAccessFile file) throws IOException {
        for (int i = 0; i < 300; i++) {
            file.seek(0);
            file.read(TO, 0, 64);
        }
    }

    static void sines() {
        for (int i = 0; i < 10000; i++) {
            sink += Math.sin(i * 1.5);
        }
    }

    public static void main(String[] arguments) throws IOException {
        Workload.begin(arguments);
        for (int i = 0; i < FROM.length; i++) {
            FROM[i] = (byte) (i * i >> 7);
        }
        try (RandomAccessFile file = new RandomAccessFile("/proc/self/exe", "r")) {
            while (Workload.going()) {
                summing();
                copying();
                deflating();
                reading(file);
                sines();
            }
        }
    }
}
