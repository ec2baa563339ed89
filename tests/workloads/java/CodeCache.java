package work;

import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntUnaryOperator;

/**
 * So many megabytes of compiled code, all of it in use: java -Xcomp -XX:CompileCommand=compileonly,work.Bulk*::* compiles each class when it is
 * first called. Prints the bytes of its code cache when it is full enough, then goes from one class to the next. Chain: main; use; BulkN.applyAsInt.
 */
final class CodeCache {
    private static final int LOOK_EVERY = 50;
    private static int sink;

    private CodeCache() {
    }

    static long bytes() {
        long sum = 0;
        for (MemoryPoolMXBean pool : ManagementFactory.getMemoryPoolMXBeans()) {
            if (pool.getName().startsWith("Code")) {
                sum += pool.getUsage().getUsed();
            }
        }
        return sum;
    }

    static List<IntUnaryOperator> fill(long bytes) throws Exception {
        byte[] template = Unloading.template("Bulk0000.class");
        List<IntUnaryOperator> made = new ArrayList<>();
        while (made.size() % LOOK_EVERY != 0 || bytes() < bytes) {
            IntUnaryOperator one = Unloading.guest(template, made.size() % 10000);
            sink += one.applyAsInt(1);
            made.add(one);
        }
        return made;
    }

    static void use(List<IntUnaryOperator> all) {
        for (IntUnaryOperator one : all) {
            sink += one.applyAsInt(sink);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Workload.begin(arguments);
        List<IntUnaryOperator> all = fill((long) Workload.number(arguments, 1, 20) << 20);
        System.out.println(bytes());
        while (Workload.going()) {
            use(all);
        }
    }
}
