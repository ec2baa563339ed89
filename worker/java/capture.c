/* In the frozen window: beside the stack only the number of garbage collections, and the frames of a virtual thread that are in the heap. Code and methods are read later, from the live process, and
 * may be freed in between: that number says whether they can have been, and the main thread is to look at each sample soon. */
#include "java/java.h"

#include "common/clock.h"

enum { SOON_NS = 1500 * 1000 /* the main thread looks again this long after it was woken, by itself */ };

static void teach(struct window_read *read)
{
	static _Atomic int64_t woken_ns;
	int64_t now = monotonic_ns();
	if (now - atomic_load(&woken_ns) < SOON_NS)
		return;
	atomic_store(&woken_ns, now);
	read->teaches = true;
}

static int read_frozen(void *read, uint64_t address, void *buf, size_t n)
{
	return window_read(read, address, buf, n);
}

size_t java_capture(struct window_read *read, uint8_t *to, size_t room)
{
	struct java_process *p = atomic_load(&read->target->runtime);
	uint64_t at = p ? atomic_load(&p->collections) : 0;
	teach(read);
	if (!at || room < JAVA_CAPTURE_BYTES || window_read(read, at, to, JAVA_CAPTURE_BYTES))
		return 0;
	if (!atomic_load(&p->vm.knows_chunks))
		return JAVA_CAPTURE_BYTES;
	const struct java_memory memory = { read, read_frozen };
	return JAVA_CAPTURE_BYTES + java_chunk_copy(&p->vm.chunks, &memory, read->sample->regs[REG_SP], read->stack,
					    read->stack_bytes, to + JAVA_CAPTURE_BYTES, room - JAVA_CAPTURE_BYTES);
}
