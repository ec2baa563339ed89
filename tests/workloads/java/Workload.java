package work;

/**
 * What all Java workloads share: java -cp DIR work.NAME [SECONDS [ARGUMENT]...]. They are compiled for Java 8, and for 11, run on every
 * HotSpot from there on, print nothing, and end after so many seconds (default 1).
 *
 * Calls are written so that a profile can be judged by the source alone: a method has its first and last line to itself, and a frame's
 * line holds the name of what it calls, with its parenthesis. e2e/javaframes.py checks each edge of each stack that way.
 *
 * Loops that burn time go once through all values of x * 5 + 1 modulo a power of two, from one to the next: no compiler knows how often
 * that is, so that there is a safepoint, and with it a line, in each turn.
 */
final class Workload {
    static long end;

    private Workload() {
    }

    static void begin(String[] arguments) {
        double seconds = arguments.length > 0 ? Double.parseDouble(arguments[0]) : 1;
        end = System.nanoTime() + (long) (seconds * 1e9);
    }

    static boolean going() {
        return System.nanoTime() - end < 0;
    }

    static int number(String[] arguments, int at, int otherwise) {
        return arguments.length > at ? Integer.parseInt(arguments[at]) : otherwise;
    }

    static String word(String[] arguments, int at) {
        return arguments.length > at ? arguments[at] : "";
    }
}
