/* Names of code addresses: each address is asked once, answered in batches (symbols.h), and remembered over snapshots
 * for as long as it is sampled. One thread. */
#ifndef KIT_NAMES_H
#define KIT_NAMES_H

#include "kit/target.h"
#include "proto/stream.h"

#include <stdbool.h>
#include <stdint.h>

struct name {
	uint64_t address;        /* native: in the file's numbering; others: at run time */
	struct module *module;   /* native; counted among its users */
	char *text;              /* owned; NULL: not known (yet) */
	uint32_t pid;            /* a JIT's address belongs to one process */
	uint8_t kind;            /* enum frame_kind */
	bool asked;              /* no further look-up will help */
	uint32_t section, frame; /* collect.c's: the id of the frame, in that section of the stream */
	uint32_t used;           /* the section in which it was last sampled */
};

/* Valid until names_section. NULL: out of memory. The first kernel address asks for the kernel's symbols. */
struct name *names_user(struct target *t, const struct code_range *code, uint64_t address);
struct name *names_kernel(uint64_t address);
struct name *names_synthetic(const char *text);

/* A new section begins: forgets what the last one did not use. */
void names_section(uint32_t section);
/* Looks up what is open, when it is time, or now; tells of each that was found. False: answers are awaited. */
bool names_resolve(bool now, void (*found)(struct name *name));

#endif
