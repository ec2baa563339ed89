/* Code objects: what a frame executes, and where in its source. Read through a callback from hostile memory; every size is bounded,
 * nothing is believed that does not fit. */
#ifndef PYTHON_CODE_H
#define PYTHON_CODE_H

#include "python/layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PYTHON_NAME_BYTES = 1024, /* of a qualified name or file name, in UTF-8; longer ones are cut at a character */
	PYTHON_LINES_BYTES = 256 << 10, /* of a line table; a longer one is not read */
	PYTHON_CODE_BYTES = 16 << 20,   /* of instructions */
};

/* Exactly n bytes at an address of the target, or -errno. */
struct python_memory {
	void *context;
	int (*read)(void *context, uint64_t address, void *buf, size_t n);
};

/* The head of a code object, read at once. Two heads that are the same bytes are of the same code. */
struct python_code_head {
	uint64_t file, name,
		lines;       /* addresses of str (name: of the qualified name, where the version has it), bytes */
	uint64_t begin, end; /* of the instructions, in memory; up to 3.10: 0 and their number of bytes */
	uint64_t type;       /* address of the code objects' type */
	uint32_t first_line;
	bool live; /* something refers to it: memory that was freed and not yet used again keeps the rest of what a head says */
};

/* Of the bytes of a code object, a number that changes when it is replaced by another: of what the head says, and of its size. */
uint64_t python_code_print(const struct python_layout *layout, const uint8_t *bytes);

/* From code_bytes bytes at `address`. 0 or -EINVAL (not a code object). Up to 3.10 the size of the instructions is in another object,
 * which is read. */
int python_code_head(const struct python_layout *layout, const struct python_memory *memory, uint64_t address,
	struct python_code_head *ret);

/* A str object as UTF-8, cut at `size` - 1 bytes at a character, NUL-terminated; lone surrogates and NUL become U+FFFD. Its length, or
 * -EINVAL (not a compact string, too long), or what the read said. All kinds (1, 2, 4 bytes a character). */
int python_text(const struct python_layout *layout, const struct python_memory *memory, uint64_t address, char *out,
	size_t size);

/* A bytes object's content, malloc'd. 0, -EINVAL (size out of range), -ENOMEM, or what the read said. */
int python_bytes(const struct python_layout *layout, const struct python_memory *memory, uint64_t address, size_t limit,
	uint8_t **ret, size_t *ret_n);

/* The line of an instruction; 0: it has none. `offset`: in bytes from the first instruction (of the last one executed, or being
 * executed); -1: before the first. Formats: co_lnotab (to 3.9, Objects/lnotab_notes.txt), co_linetable of 3.10 (PEP 626), the location
 * table from 3.11 on (InternalDocs/code_objects.md). */
uint32_t python_line(unsigned minor, const uint8_t *table, size_t n, uint32_t first_line, int64_t offset);

/* Whether a frame's instruction lies inside its code, and where: *ret_offset as python_line takes it. `instruction` as the frame has it:
 * from 3.11 on an address (prev_instr may be one unit before the first), up to 3.10 f_lasti (units of two bytes in 3.10). */
bool python_instruction(const struct python_layout *layout, const struct python_code_head *head, uint64_t instruction,
	int64_t *ret_offset);

#endif
