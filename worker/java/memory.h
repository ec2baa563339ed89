/* The memory of a target, as the readers of Java's structures see it: the live process, or an image of a test. */
#ifndef JAVA_MEMORY_H
#define JAVA_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Exactly n bytes at an address, or -errno. */
struct java_memory {
	void *context;
	int (*read)(void *context, uint64_t address, void *buf, size_t n);
};

static inline int java_read(const struct java_memory *m, uint64_t address, void *buf, size_t n)
{
	return m->read(m->context, address, buf, n);
}

static inline int java_read_word(const struct java_memory *m, uint64_t address, uint64_t *ret)
{
	return m->read(m->context, address, ret, sizeof *ret);
}

/* Words in what was read. */
static inline uint64_t java_word(const uint8_t *bytes, size_t offset)
{
	uint64_t value;
	memcpy(&value, bytes + offset, sizeof value);
	return value;
}

static inline uint32_t java_half(const uint8_t *bytes, size_t offset)
{
	uint32_t value;
	memcpy(&value, bytes + offset, sizeof value);
	return value;
}

#endif
