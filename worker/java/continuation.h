/* The frames of a virtual thread that its carrier has not fetched back from the heap since it went on: the outermost frame on the stack
 * returns to a routine (the return barrier) that fetches more of them. They are in a StackChunk, an object, as they were on the stack:
 *
 *   the stack: frames, the barrier's address, ContinuationEntry, the carrier's frames
 *   ContinuationEntry -> Continuation.tail -> StackChunk (the innermost; .parent is the next) -> frames, from .sp on
 *
 * Sources: src/hotspot/share/runtime/continuationEntry.hpp, continuationFreezeThaw.cpp; oops/stackChunkOop.inline.hpp,
 * instanceStackChunkKlass.hpp, fieldInfo.hpp; classes jdk.internal.vm.Continuation and StackChunk. */
#ifndef JAVA_CONTINUATION_H
#define JAVA_CONTINUATION_H

#include "java/layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	JAVA_CHUNKS_BYTES = 64 << 10, /* that are copied at most */
	JAVA_CHUNK_RECORD = 16,       /* bytes below a chunk's first frame: the frame pointer, and where it is at */
	JAVA_CONTINUATION_BYTES = 64, /* of a Continuation that are read: all of its fields */
	JAVA_CHUNK_HEADER_MAX = 128,  /* bytes of an object's fields that are read */
	JAVA_BEHIND_BARRIER =
		12, /* words from the barrier's address to the end of what is looked at of the ContinuationEntry */
};

/* Where a virtual machine keeps all that. */
struct java_chunks {
	uint64_t barrier;                         /* address of code */
	uint32_t continuation_class, chunk_class; /* as objects have them, compressed */
	uint32_t klass;                           /* offsets in objects, in bytes: */
	uint32_t tail, parent, sp, size, bottom;
	bool compact;   /* headers of objects */
	bool arguments; /* `bottom` is how many words of arguments are behind the frames (21), else where those end */
	uint32_t frames;
	uint64_t oop_base;
	uint32_t oop_shift, oop_bytes;
};

/* Of what was copied: followed by `bytes` of memory, from JAVA_CHUNK_RECORD below `first` on, then the next outer chunk. */
struct java_chunk {
	uint64_t behind; /* stack pointer behind the barrier's address */
	uint64_t first;  /* stack pointer of the innermost frame in the chunk */
	uint64_t bottom; /* where its frames end */
	uint64_t bytes;
	uint64_t continuation; /* the object in the ContinuationEntry */
	uint64_t cut;          /* not 0: there are more frames, which were not copied */
};

/* The Continuation in the ContinuationEntry among the words (n of them) behind a barrier's address. False: there is none. */
bool java_continuation(const uint64_t *words, size_t n, uint64_t *ret);

/* Once a barrier was met. 0, or -errno. */
int java_chunks_learn(struct java_chunks *ret, const struct java_layout *l, const struct java_memory *memory,
	uint64_t barrier, uint64_t continuation);

/* In the frozen window: copies the frames of the chunks that a stack (n bytes, read from sp upwards) leads to, innermost first, in a read and
 * two for each. How many bytes in all; 0: it does not lead to any. */
size_t java_chunk_copy(const struct java_chunks *c, const struct java_memory *memory, uint64_t sp, const uint8_t *stack,
	size_t n, uint8_t *to, size_t room);

#endif
