package work;

import java.util.function.IntUnaryOperator;

/**
 * What CodeCache makes thousands of, each with a number in the place of the zeros: each method is small enough to be inlined into its caller, so
 * that the code of four0000 is 256 times that of zero0000. Chain: applyAsInt; four0000; three0000; two0000; one0000; zero0000.
 */
public final class Bulk0000 implements IntUnaryOperator {
    static int zero0000(int x) {
        return x * 31 + 7 ^ x >>> 3;
    }

    static int one0000(int x) {
        return zero0000(zero0000(zero0000(zero0000(x))));
    }

    static int two0000(int x) {
        return one0000(one0000(one0000(one0000(x))));
    }

    static int three0000(int x) {
        return two0000(two0000(two0000(two0000(x))));
    }

    static int four0000(int x) {
        return three0000(three0000(three0000(three0000(x))));
    }

    @Override
    public int applyAsInt(int x) {
        return four0000(x);
    }
}
