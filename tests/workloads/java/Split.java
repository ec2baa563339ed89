package work;

/** 70, 20 and 10 % of the CPU time in methods of these names, below main. Chain: main; seventy|twenty|ten. */
final class Split {
    private Split() {
    }

    static int seventy(long until) {
        int x = 1;
        while (Slices.cpuNanos() < until) {
            do {
                x = x * 5 + 1 & 0xFFFF;
            } while (x != 1);
        }
        return x;
    }

    static int twenty(long until) {
        int x = 1;
        while (Slices.cpuNanos() < until) {
            do {
                x = x * 5 + 1 & 0xFFFF;
            } while (x != 1);
        }
        return x;
    }

    static int ten(long until) {
        int x = 1;
        while (Slices.cpuNanos() < until) {
            do {
                x = x * 5 + 1 & 0xFFFF;
            } while (x != 1);
        }
        return x;
    }

    public static void main(String[] arguments) {
        Workload.begin(arguments);
        Slices slices = new Slices();
        while (Workload.going()) {
            seventy(slices.until(0.7));
            twenty(slices.until(0.2));
            ten(slices.until(0.1));
            slices.nextRound();
        }
    }
}
