package work;

/** Exceptions through thirty frames, new ones and one that is old. Chain: main; round; descend * 30; fresh|old. */
final class Exceptions {
    private static final int DEPTH = 30;
    private static final IllegalStateException OLD = new IllegalStateException("old");
    private static int sink;

    private Exceptions() {
    }

    static int fresh(int n) {
        throw new IllegalArgumentException("fresh");
    }

    static int old(int n) {
        throw OLD;
    }

    static int descend(int n, boolean renew) {
        if (n <= 1) {
            return renew ? fresh(n) + 1 : old(n) + 1;
        }
        try {
            return descend(n - 1, renew) + 1;
        } finally {
            sink++;
        }
    }

    static int looked(RuntimeException error) {
        return error.getStackTrace().length;
    }

    static void round(boolean renew) {
        try {
            descend(DEPTH, renew);
        } catch (IllegalArgumentException error) {
            sink += looked(error);
        } catch (IllegalStateException error) {
            sink++;
        }
    }

    public static void main(String[] arguments) {
        Workload.begin(arguments);
        while (Workload.going()) {
            round(true);
            round(false);
        }
    }
}
