/* What is known of one process's virtual machine: its layout, its code heaps, and what was read of its code and methods, remembered.
 * Code and methods are freed and their memory is used anew: what is remembered is looked at again after a while, and dropped when it is
 * another's. Main thread. */
#ifndef JAVA_VM_H
#define JAVA_VM_H

#include "java/code.h"
#include "java/continuation.h"
#include "java/layout.h"
#include "java/method.h"
#include "kit/collect.h"
#include "kit/regs.h"
#include "kit/table.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	JAVA_LOOK_AGAIN_MS = 50, /* code that was seen longer ago is looked at again before it is believed */
	JAVA_METHOD_AGAIN_MS = 500,
	JAVA_TRUSTED_AGE_S = 10, /* where methods are known to take the places of others */
	JAVA_TRUSTED_AFTER = 3,  /* looks, each JAVA_LOOK_AGAIN_MS behind the last: until then each sample looks */
	JAVA_ROUTINES_AGAIN_MS = 1000, /* more of them are made while the machine starts */
};

/* A blob that is remembered. */
struct java_known {
	struct java_blob blob;
	char name[JAVA_BLOB_NAME];
	int64_t read_ns,
		seen_ns; /* CLOCK_MONOTONIC: the end of the look that found it, and the sample that it was last found the same for */
	uint8_t *tables; /* owned: pcs, scopes, metadata; NULL: not read */
	struct java_scopes scopes;
	bool tables_tried;
	struct collect_source ids; /* of its name */
};

struct java_named {
	struct java_method method;
	int64_t read_ns, seen_ns,
		looked_ns; /* CLOCK_MONOTONIC: the end of its reading, when it was last looked at, and when a look last counted */
	uint64_t seen_in; /* the sample that it was last looked at for */
	uint32_t looks;   /* that found it the same */
	struct collect_source ids;
};

/* The chunk that the walk of this sample has come to, and how it goes on behind that. */
struct java_fetched {
	uint64_t sample;
	struct java_chunk chunk;
	const uint8_t *bytes; /* of it */
	const uint8_t *rest;  /* the chunks that follow */
	size_t rest_bytes;
	struct regs carrier;
};

struct java_vm {
	struct java_layout layout;
	struct java_heaps heaps;
	struct java_memory memory;
	uint64_t call_stub_return; /* address of code; 0: none */
	struct table by_segment;   /* segment of a heap -> struct java_known * */
	struct table by_address;   /* of the blob, likewise */
	struct table methods;      /* address -> struct java_named * */
	size_t bytes;              /* that are held */
	int64_t routines_ns;       /* CLOCK_MONOTONIC: when the routines' addresses were last read */
	int64_t now_ns;            /* CLOCK_MONOTONIC: of the sample at hand */
	uint64_t sample;           /* the number of that */
	bool reuses;               /* memory of methods for others */
	_Atomic bool knows_chunks; /* `chunks` is known: frozen threads look at it, too */
	struct java_chunks chunks;
	int64_t chunks_tried_ns;
	struct java_fetched fetched;
	uint64_t torn; /* code or methods that had become others */
};

/* What was remembered is freed; the vm is the caller's. */
void java_vm_forget(struct java_vm *vm);
size_t java_vm_memory(void); /* bytes, of all */

/* The blob around an address in a code heap. 0; -ENOENT: no code is there; -ESTALE: it has become another's since it was last seen (and
 * the next look finds that); -EINVAL, -ENOMEM, or what a read said. Valid until java_vm_forget. */
int java_vm_blob(struct java_vm *vm, uint64_t pc, struct java_known **ret);
/* The tables of a compiled method; read the first time. 0, -ESTALE, -ENOENT (it has none that can be read). */
int java_vm_scopes(struct java_vm *vm, struct java_known *known);
/* Whether a blob is still what it was: what was read for its sake, of memory that it holds on to, is right then. 0 or -ESTALE. */
int java_vm_still(struct java_vm *vm, struct java_known *known);
/* 0; -EINVAL: not a method; -ESTALE: it became another while it was read; or what a read said. Valid until java_vm_forget. */
int java_vm_method(struct java_vm *vm, uint64_t address, struct java_named **ret);
/* Whether its place may soon be another's: it is looked at for each sample. */
bool java_vm_is_young(const struct java_vm *vm, const struct java_named *named);
/* The name of the stub routine that begins at an address, or NULL. */
const char *java_vm_routine(struct java_vm *vm, uint64_t entry);

#endif
