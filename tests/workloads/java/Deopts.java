package work;

/**
 * Code that the compiler has to take back: what was always a Square is a Circle after a while, then a Star, then all of them. leafSquare is
 * only ever called by Square.area, and so on. Chain: main; phase; add; area; leafSquare|leafCircle|leafStar.
 */
final class Deopts {
    private static int sink;

    abstract static class Shape {
        abstract int area(int x);
    }

    static final class Square extends Shape {
        @Override
        int area(int x) {
            return leafSquare(x) + 1;
        }
    }

    static final class Circle extends Shape {
        @Override
        int area(int x) {
            return leafCircle(x) + 1;
        }
    }

    static final class Star extends Shape {
        @Override
        int area(int x) {
            return leafStar(x) + 1;
        }
    }

    private Deopts() {
    }

    static int leafSquare(int x) {
        do {
            x = x * 5 + 1 & 0xFF;
        } while (x != 3);
        return x;
    }

    static int leafCircle(int x) {
        do {
            x = x * 5 + 1 & 0xFF;
        } while (x != 3);
        return x;
    }

    static int leafStar(int x) {
        do {
            x = x * 5 + 1 & 0xFF;
        } while (x != 3);
        return x;
    }

    static int add(Shape shape, int x) {
        return shape.area(x) + 1;
    }

    static void phase(Shape shape, Shape other, long until) {
        while (System.nanoTime() < until) {
            for (int i = 0; i < 100; i++) {
                sink += add((i & 7) == 0 ? other : shape, sink & 0xFF);
            }
        }
    }

    public static void main(String[] arguments) {
        Workload.begin(arguments);
        Shape[] shapes = {new Square(), new Circle(), new Star()};
        for (int n = 0; Workload.going(); n++) {
            phase(shapes[n % 3], shapes[n / 3 % 3], System.nanoTime() + 60_000_000);
        }
    }
}
