/* The code that a HotSpot has made: its heaps, the blobs in them, and which instruction of a compiled method belongs to which line of
 * which method. A code heap is cut into segments; a map has a byte for each, which leads to the first segment of its block (0: this is
 * it, 0xff: free; src/hotspot/share/memory/heap.cpp). A block begins with a header, and then comes a CodeBlob; of those that are compiled
 * methods (nmethod), tables say for each call's return address what was inlined there. All of it is read from hostile memory. */
#ifndef JAVA_CODE_H
#define JAVA_CODE_H

#include "java/layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	JAVA_HEAPS_MAX = 8,
	JAVA_INLINED_MAX = 256,         /* methods in one compiled frame */
	JAVA_FRAME_BYTES_MAX = 1 << 20, /* of one compiled method's frame */
	JAVA_BLOB_NAME = 48,
};

struct java_heap {
	uint64_t low, high; /* reserved; what is in use may grow, but not beyond */
	uint64_t segments;  /* address of the first segment's byte */
	uint32_t shift;     /* log2 of a segment's bytes */
};

struct java_heaps {
	uint32_t n;
	struct java_heap heap[JAVA_HEAPS_MAX];
};

/* 0; -EAGAIN: there are none yet; -EINVAL; or what a read said. */
int java_heaps_read(struct java_heaps *ret, const struct java_layout *l, const struct java_memory *memory);
/* The heap that an address is in, or NULL. */
const struct java_heap *java_heap_of(const struct java_heaps *heaps, uint64_t address);

enum java_blob_kind {
	JAVA_BLOB_STUB,     /* code without a method */
	JAVA_BLOB_COMPILED, /* an nmethod */
	JAVA_BLOB_NATIVE,   /* an nmethod that calls a native method */
	JAVA_BLOB_INTERPRETER,
	JAVA_BLOB_ADAPTER, /* between compiled and interpreted callers: not a frame, but moves its caller's stack pointer */
	JAVA_BLOB_VTABLE, /* dispatches through a table: not a frame */
};

/* The head of a CodeBlob, decoded. Addresses are the target's. */
struct java_blob {
	uint64_t address;
	uint64_t name; /* of a C string */
	enum java_blob_kind kind;
	uint64_t end; /* of the whole blob */
	uint64_t code, code_end;
	uint64_t frame_complete; /* address of the first instruction at which the frame stands; 0: not known */
	uint32_t frame_bytes;    /* with the return address; 0: it has no frame of a fixed size */
	/* of nmethods only */
	uint64_t method, entry;   /* entry: of the checked callers */
	uint64_t deopt, deopt_mh; /* where a frame goes on that is to be interpreted */
	uint32_t original_pc; /* offset from the stack pointer: of the return address that a deoptimised frame had */
	uint32_t compile_id;
	uint8_t level;                 /* 1 to 3: C1; 4: C2; 0: a native method's */
	uint64_t metadata, nmetadata;  /* address, words */
	uint64_t scopes, scopes_bytes; /* address */
	uint64_t pcs, npcs;            /* address, entries */
};

/* The blob around an address of a heap. 0; -ENOENT: it is free; -EINVAL: makes no sense; or what a read said. `name`: as the JVM calls
 * it, JAVA_BLOB_NAME bytes. */
int java_blob_find(struct java_blob *ret, char *name, const struct java_layout *l, const struct java_memory *memory,
	const struct java_heap *heap, uint64_t pc);
/* From the bytes of its head (l->nmethod_bytes); the kind is known already. 0 or -EINVAL. */
int java_blob_decode(
	struct java_blob *ret, const struct java_layout *l, const uint8_t *bytes, const struct java_heap *heap);

/* UNSIGNED5 (src/hotspot/share/utilities/unsigned5.hpp): at most five bytes, the low six bits first; a byte of 192 or more goes on.
 * *at moves behind it. False: the bytes end, or have a value that is left out. */
bool java_unsigned5(const uint8_t *bytes, size_t n, size_t *at, uint8_t excluded, uint32_t *ret);

/* The tables of a compiled method, copied. */
struct java_scopes {
	const uint8_t *pcs, *data, *metadata;
	size_t npcs, data_bytes, nmetadata;
};

struct java_scope {
	uint64_t method;
	int32_t bci; /* -1: before the first */
};

/* What an address (from the beginning of the code) is in, innermost first: how many; 0: nothing is known of it. `exact`: it must be listed
 * itself, as each return address is; else the next one that is listed stands for it, as HotSpot's own profilers have it. -EINVAL: makes no
 * sense. */
int java_scopes_at(const struct java_layout *l, const struct java_scopes *s, uint32_t offset, bool exact,
	struct java_scope ret[JAVA_INLINED_MAX]);

#endif
