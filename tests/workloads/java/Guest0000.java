package work;

import java.util.function.IntUnaryOperator;

/** What Unloading makes thousands of, each with a number in the place of the zeros. Chain: applyAsInt; work0000; leaf0000. */
public final class Guest0000 implements IntUnaryOperator {
    static int leaf0000(int x) {
        do {
            x = x * 5 + 1 & 0xFFF;
        } while (x != 1);
        return x;
    }

    static int work0000(int x) {
        int sum = 0;
        for (int i = 0; i < 40; i++) {
            sum += leaf0000(x);
        }
        return sum;
    }

    @Override
    public int applyAsInt(int x) {
        return work0000(x) + 1;
    }
}
