package work;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.Method;

/**
 * Recursion DEPTH frames deep (the second argument, 500), of two methods by turns, with all the work at its end. It is wound anew each few
 * milliseconds, so that its frames are compiled too. With a third argument each step goes through reflection, a method handle, or an
 * interface with three classes behind it. Chain: main; (even; odd) * DEPTH / 2; bottom.
 */
final class Recursion {
    interface Step {
        int go(int n) throws Throwable;
    }

    static final class First implements Step {
        @Override
        public int go(int n) throws Throwable {
            return even(n - 1) + 1;
        }
    }

    static final class Second implements Step {
        @Override
        public int go(int n) throws Throwable {
            return even(n - 1) + 1;
        }
    }

    static final class Third implements Step {
        @Override
        public int go(int n) throws Throwable {
            return even(n - 1) + 1;
        }
    }

    private static final Step[] STEPS = {new First(), new Second(), new Third()};
    private static final MethodHandle HANDLE;
    private static final Method METHOD;
    private static String way;
    private static long until;

    static {
        try {
            METHOD = Recursion.class.getDeclaredMethod("even", int.class);
            HANDLE = MethodHandles.lookup().findStatic(Recursion.class, "even", MethodType.methodType(int.class, int.class));
        } catch (ReflectiveOperationException error) {
            throw new ExceptionInInitializerError(error);
        }
    }

    private Recursion() {
    }

    static int bottom(int x) {
        do {
            x = x * 5 + 1 & 0x3FFF;
        } while (x != 1);
        return x;
    }

    static int end(int n) {
        while (System.nanoTime() < until) {
            bottom(1);
        }
        return n;
    }

    static int even(int n) throws Throwable {
        if (n <= 1) {
            return end(n) + 1;
        }
        return odd(n - 1) + 1;
    }

    static int odd(int n) throws Throwable {
        if (n <= 1) {
            return end(n) + 1;
        }
        switch (way) {
            case "reflection":
                return (int) METHOD.invoke(null, n - 1) + 1; // even(
            case "handle":
                return (int) HANDLE.invokeExact(n - 1) + 1; // even(
            case "interface":
                return STEPS[n / 2 % 3].go(n) + 1;
            default:
                return even(n - 1) + 1;
        }
    }

    public static void main(String[] arguments) throws Throwable {
        Workload.begin(arguments);
        int depth = Workload.number(arguments, 1, 500);
        way = Workload.word(arguments, 2);
        while (Workload.going()) {
            until = System.nanoTime() + 4_000_000;
            even(depth);
        }
    }
}
