package work;

import java.io.DataInputStream;
import java.io.IOException;
import java.util.function.IntUnaryOperator;

/**
 * Classes that are defined, compiled, dropped and unloaded, one after the other: the address of a method, a class or compiled code is soon
 * another's. All names in a stack have the same number. Chain: main; use; GuestN.applyAsInt; workN; leafN.
 */
final class Unloading {
    private static final int TOGETHER = 25;
    private static int sink;

    static final class Loader extends ClassLoader {
        Loader() {
            super(Loader.class.getClassLoader());
        }

        Class<?> define(byte[] bytes) {
            return defineClass(null, bytes, 0, bytes.length);
        }
    }

    private Unloading() {
    }

    static byte[] template(String name) throws IOException {
        try (DataInputStream in = new DataInputStream(Unloading.class.getResourceAsStream(name))) {
            byte[] bytes = new byte[in.available()];
            in.readFully(bytes);
            return bytes;
        }
    }

    static byte[] numbered(byte[] template, int number) {
        byte[] bytes = template.clone();
        for (int i = 0; i + 3 < bytes.length; i++) {
            if (bytes[i] == '0' && bytes[i + 1] == '0' && bytes[i + 2] == '0' && bytes[i + 3] == '0') {
                bytes[i] = (byte) ('0' + number / 1000 % 10);
                bytes[i + 1] = (byte) ('0' + number / 100 % 10);
                bytes[i + 2] = (byte) ('0' + number / 10 % 10);
                bytes[i + 3] = (byte) ('0' + number % 10);
            }
        }
        return bytes;
    }

    static IntUnaryOperator guest(byte[] template, int number) throws ReflectiveOperationException {
        Class<?> made = new Loader().define(numbered(template, number));
        return (IntUnaryOperator) made.getConstructor().newInstance();
    }

    static void use(IntUnaryOperator guest) {
        long until = System.nanoTime() + 10_000_000;
        while (System.nanoTime() < until) {
            sink += guest.applyAsInt(1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Workload.begin(arguments);
        byte[] template = template("Guest0000.class");
        for (int n = 1; Workload.going(); n++) {
            use(guest(template, n % 10000));
            if (n % TOGETHER == 0) {
                System.gc();
            }
        }
    }
}
