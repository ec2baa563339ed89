package work;

/** Trees that are made, looked at and dropped, by two threads: all memory is new again and again. Chain: main|run; round; plant... | count... */
final class Churn implements Runnable {
    private static final int DEPTH = 12;
    private static final int KEPT = 20;
    private final Tree[] kept = new Tree[KEPT];
    private int next;
    private int sink;

    static final class Tree {
        final Tree left;
        final Tree right;
        final byte[] load;

        Tree(Tree left, Tree right) {
            this.left = left;
            this.right = right;
            this.load = new byte[24];
        }
    }

    private Churn() {
    }

    static Tree plant(int depth) {
        if (depth == 0) {
            return new Tree(null, null);
        }
        Tree left = plant(depth - 1);
        Tree right = plant(depth - 1);
        return new Tree(left, right);
    }

    static int count(Tree tree) {
        if (tree == null) {
            return 0;
        }
        if (tree.left == null) {
            return tree.load.length;
        }
        int left = count(tree.left);
        int right = count(tree.right);
        return left + right;
    }

    private void round() {
        kept[next] = plant(DEPTH);
        next = (next + 1) % KEPT;
        for (int i = 0; i < 6; i++) {
            sink += count(kept[next * i % KEPT]);
        }
    }

    @Override
    public void run() {
        while (Workload.going()) {
            round();
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        Workload.begin(arguments);
        Thread other = new Thread(new Churn(), "churn");
        other.start();
        new Churn().run();
        other.join();
    }
}
