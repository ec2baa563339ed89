package work;

/**
 * leafA is only ever called by callerA, leafB by callerB, and they alternate within a fraction of a microsecond, DEPTH frames deep (the
 * second argument, 200): by turns at the end of one stack (swap), and each at the end of a stack of its own that is wound and unwound for
 * it (rewind). A stack that was read while it changed shows as an edge that is not in this source.
 *
 * Chains: main; swap; common * DEPTH; both; callerA; leafA, and main; rewind; sideA * DEPTH; callerA; leafA; the same with B.
 */
final class Alternating {
    static int depth;

    private Alternating() {
    }

    static int leafA(int x) {
        do {
            x = x * 5 + 1 & 0xFFFF;
        } while ((x & 15) != 3);
        return x;
    }

    static int leafB(int x) {
        do {
            x = x * 5 + 1 & 0xFFFF;
        } while ((x & 15) != 3);
        return x;
    }

    static int callerA(int x) {
        return leafA(x) + 1;
    }

    static int callerB(int x) {
        return leafB(x) + 1;
    }

    static int both(int x) {
        for (int i = 0; i < 500; i++) {
            x = callerA(x);
            x = callerB(x);
        }
        return x;
    }

    static int common(int n) {
        if (n <= 1) {
            return both(n) + 1;
        }
        return common(n - 1) + 1;
    }

    static int sideA(int n) {
        if (n <= 1) {
            return callerA(n) + 1;
        }
        return sideA(n - 1) + 1;
    }

    static int sideB(int n) {
        if (n <= 1) {
            return callerB(n) + 1;
        }
        return sideB(n - 1) + 1;
    }

    static void swap() {
        common(depth);
    }

    static void rewind() {
        for (int i = 0; i < 10; i++) {
            sideA(depth);
            sideB(depth);
        }
    }

    public static void main(String[] arguments) {
        Workload.begin(arguments);
        depth = Workload.number(arguments, 1, 200);
        while (Workload.going()) {
            swap();
            rewind();
        }
    }
}
