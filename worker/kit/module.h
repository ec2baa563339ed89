/* The ELF files behind targets' code, one module a file, shared by all targets that map it. A module's fd is held as
 * long as the module lives: so its inode cannot be given to another file under the same key. One thread. Loaded when a
 * sample first leads into it, forgotten by modules_sweep when no target maps it and no name hangs on it. */
#ifndef KIT_MODULE_H
#define KIT_MODULE_H

#include "kit/cfi.h"
#include "kit/elf.h"
#include "kit/maps.h"
#include "proto/runtimes.h"

#include <stdbool.h>
#include <stdint.h>

enum { LEASE_PATIENCE_MS = 250 /* how long a sample waits for an answer about its process or a file */ };

enum module_state {
	MODULE_NEW,   /* nobody needed it yet */
	MODULE_ASKED, /* its file is being opened */
	MODULE_READY,
	MODULE_DATA, /* no ELF file, but on a file system that cannot hang: what a process has mapped of it may be read */
	MODULE_FAILED, /* refused, not ELF, malformed: code without tables or names */
};

struct module {
	struct module *next; /* in its bucket */
	uint64_t id;         /* unique in this process */
	uint64_t device, inode;
	char *path; /* owned; as in maps, without " (deleted)" */
	enum module_state state;
	struct elf elf;
	uint8_t *image;  /* owned; the vDSO: the elf's source is memory */
	struct cfi *cfi; /* NULL: no unwind information; see cfi_tried */
	bool cfi_tried;
	uint64_t lease;
	int64_t asked_ns;   /* CLOCK_MONOTONIC */
	uint32_t asked_pid; /* through which target; 0: nothing holds the next attempt back */
	uint32_t users;     /* targets that map it, and names that hang on it */
	/* a separate debug file, by build id */
	enum module_state debug_state;
	struct elf debug;
	uint64_t debug_lease;
	/* the executable segment, for pprof's mapping */
	uint64_t text_vaddr, text_size, text_offset;
	enum runtime_id runtime;   /* what it carries (identify.h) */
	uint64_t runtime_vaddr;    /* where */
	uint32_t section, mapping; /* its mapping's id, in that section of the stream */
};

/* The module of a file mapping; makes it (NEW) when unknown. NULL: out of memory. The caller adds to users. */
struct module *module_of(const struct map_entry *entry, const char *path);
/* The vDSO, from its bytes in a target: the same for all; made by the first that brings it. */
struct module *module_vdso(const uint8_t *bytes, size_t n);
struct module *module_vdso_known(void); /* or NULL */

/* Asks for the file, through a mapping of it in a target that lives. */
void module_ask(struct module *m, uint32_t pid, uint64_t start_time, uint64_t start, uint64_t end);
/* The same when an event has just told of the mapping: at once, whatever came of the attempt before. */
void module_mapped(struct module *m, uint32_t pid, uint64_t start_time, uint64_t start, uint64_t end);
bool module_pending(const struct module *m); /* worth waiting for */
/* Asks for the debug file, once, when it could help. True: an answer is awaited. */
bool module_ask_debug(struct module *m);
/* Unwind table, opened at first use. NULL: none. */
struct cfi *module_cfi(struct module *m);
/* The address in the file's numbering of an address inside a mapping. */
uint64_t module_vaddr(const struct module *m, uint64_t file_offset);

/* Called with each module that becomes READY or DATA. */
void modules_on_ready(void (*tell)(struct module *m));
void modules_sweep(void); /* forgets modules without users */

#endif
