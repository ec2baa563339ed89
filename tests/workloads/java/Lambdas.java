package work;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.Arrays;
import java.util.function.IntUnaryOperator;
import java.util.stream.IntStream;

/** Every way in which Java calls without saying so: classes that the machine makes, hidden ones among them. Each ends in burn. */
final class Lambdas {
    private static final MethodHandle HANDLE;
    private static final Integer[] NUMBERS = new Integer[8];
    private static int sink;

    static {
        try {
            HANDLE = MethodHandles.lookup().findStatic(Lambdas.class, "burn", MethodType.methodType(int.class, int.class));
        } catch (ReflectiveOperationException error) {
            throw new ExceptionInInitializerError(error);
        }
    }

    interface WithDefault {
        int number();

        default int twice() {
            return number() + number();
        }
    }

    private Lambdas() {
    }

    static int burn(int x) {
        x = x & 0xFFF;
        int first = x;
        do {
            x = x * 5 + 1 & 0xFFF;
        } while (x != first);
        return x;
    }

    static int byLambda(int x) {
        IntUnaryOperator f = y -> burn(y) + 1;
        return f.applyAsInt(x) + 1;
    }

    static int byCapture(int x) {
        int captured = x + 1;
        IntUnaryOperator f = y -> burn(y + captured) + 1;
        return f.applyAsInt(x) + 1;
    }

    static int byReference(int x) {
        IntUnaryOperator f = Lambdas::burn;
        return f.applyAsInt(x) + 1;
    }

    static int byHandle(int x) throws Throwable {
        return (int) HANDLE.invokeExact(x) + 1; // burn(
    }

    static int byStream(int x) {
        IntUnaryOperator f = y -> burn(y) + 1;
        IntStream mapped = IntStream.range(0, 8).map(f);
        return mapped.sum() + x;
    }

    static int byAnonymous(int x) {
        IntUnaryOperator f = new IntUnaryOperator() {
            @Override
            public int applyAsInt(int y) {
                return burn(y) + 1;
            }
        };
        return f.applyAsInt(x) + 1;
    }

    static int byDefault(int x) {
        WithDefault f = () -> burn(x) + 1;
        return f.twice() + 1;
    }

    static int order(int a, int b) {
        return burn(a - b) + a - b;
    }

    static int bySort(int x) {
        Arrays.setAll(NUMBERS, i -> i * 5 % 8);
        Arrays.sort(NUMBERS, (a, b) -> order(a, b));
        return NUMBERS[0] + x;
    }

    static int byConcat(int x) {
        String text = "x=" + x + " y=" + (x + 1) + " z=" + x * 3L;
        return text.length() + burn(x);
    }

    public static void main(String[] arguments) throws Throwable {
        Workload.begin(arguments);
        while (Workload.going()) {
            sink += byLambda(sink);
            sink += byCapture(sink);
            sink += byReference(sink);
            sink += byHandle(sink);
            sink += byStream(sink);
            sink += byAnonymous(sink);
            sink += byDefault(sink);
            sink += bySort(sink);
            sink += byConcat(sink);
        }
    }
}
