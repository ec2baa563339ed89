/* C++: templates, virtual calls, exceptions thrown and caught in a loop, std::sort with a lambda, std::thread.
 * Chains: main; zoo::run_virtual|run_templates|run_exceptions|run_sort; ... and thread start; ...; zoo::threaded;
 * zoo::grind. */
#include "workload.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace zoo
{

template <typename T, int Rounds> NOINLINE T grind(T value)
{
	for (int i = 0; i < Rounds; i++)
		__asm__ volatile("" : "+r"(value));
	return value;
}

struct Shape {
	virtual ~Shape() = default;
	virtual uint64_t area(uint64_t seed) const = 0;
};

struct Circle final : Shape {
	NOINLINE uint64_t area(uint64_t seed) const override
	{
		uint64_t result = grind<uint64_t, 2000>(seed);
		STAYS_ON_THE_STACK();
		return result;
	}
};

struct Square final : Shape {
	NOINLINE uint64_t area(uint64_t seed) const override
	{
		uint64_t result = grind<uint64_t, 3000>(seed) + 1;
		STAYS_ON_THE_STACK();
		return result;
	}
};

NOINLINE uint64_t run_virtual(uint64_t seed)
{
	static const std::unique_ptr<Shape> shapes[] = {std::make_unique<Circle>(), std::make_unique<Square>()};
	for (int i = 0; i < 200; i++)
		seed += shapes[(seed + i) & 1]->area(seed);
	return seed;
}

NOINLINE uint64_t run_templates(uint64_t seed)
{
	for (int i = 0; i < 100; i++)
		seed += grind<uint32_t, 3000>((uint32_t)seed) + grind<uint64_t, 2000>(seed);
	return seed;
}

NOINLINE uint64_t thrower(uint64_t seed, int depth)
{
	if (!depth)
		throw std::runtime_error("expected");
	uint64_t below = thrower(seed + 1, depth - 1);
	STAYS_ON_THE_STACK();
	return below + 1;
}

NOINLINE uint64_t run_exceptions(uint64_t seed)
{
	for (int i = 0; i < 100; i++) {
		try {
			seed += thrower(seed, 5);
		} catch (const std::runtime_error &error) {
			seed += (uint64_t)error.what()[0];
		}
	}
	return seed;
}

NOINLINE uint64_t run_sort(uint64_t seed)
{
	static std::vector<uint32_t> numbers(4000);
	for (auto &number : numbers)
		number = (uint32_t)(seed = seed * 6364136223846793005u + 1442695040888963407u) >> 3;
	std::sort(numbers.begin(), numbers.end(), [](uint32_t a, uint32_t b) { return (a ^ 21845) < (b ^ 21845); });
	return seed + numbers[7];
}

NOINLINE void threaded(uint64_t seed)
{
	for (int i = 0; i < 2000 && !workload_done; i++)
		seed += grind<uint64_t, 4000>(seed);
}

} // namespace zoo

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	uint64_t seed = 1;
	while (!workload_done) {
		std::thread thread(zoo::threaded, seed);
		for (int i = 0; i < 8; i++)
			seed = zoo::run_sort(zoo::run_exceptions(zoo::run_templates(zoo::run_virtual(seed))));
		thread.join();
	}
	return 0;
}
