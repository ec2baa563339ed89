package work;

/** Two loops in one method, each with half of its CPU time: only the lines tell them apart. The lines of a loop end in its mark. */
final class Lines {
    private Lines() {
    }

    static int twoLoops(Slices slices) {
        int x = 1;
        long until = slices.until(0.5);
        while (Slices.cpuNanos() < until) { // loop one
            do { // loop one
                x = x * 5 + 1 & 0xFFFF; // loop one
            } while (x != 1); // loop one
        }
        until = slices.until(0.5);
        while (Slices.cpuNanos() < until) { // loop two
            do { // loop two
                x = x * 5 + 1 & 0xFFFF; // loop two
            } while (x != 1); // loop two
        }
        slices.nextRound();
        return x;
    }

    public static void main(String[] arguments) {
        Workload.begin(arguments);
        Slices slices = new Slices();
        while (Workload.going()) {
            twoLoops(slices);
        }
    }
}
