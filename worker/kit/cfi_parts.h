/* Inside the unwind tables, shared by cfi.c (the tables of one file, memory), cfi_index.c (which functions there are),
 * cfi_entry.c (reading CIEs and FDEs), cfi_program.c (running them), cfi_chunk.c (rows) and cfi_expr.c (expressions).
 * Nobody else includes this. */
#ifndef KIT_CFI_PARTS_H
#define KIT_CFI_PARTS_H

#include "common/buf.h"
#include "kit/cfi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CFI_CHUNK_FDES = 64,       /* functions compiled at once: 1-2 preads, about 50 us */
	CFI_ENTRY_MAX = 256 << 10, /* bytes of one CIE or FDE; the largest in LLVM has 2.4 KiB, in cc1 20 KiB */
	CFI_SPACE_MAX = 1 << 30,   /* bytes of a section; offsets in it fit an expression handle */
	CFI_EXPR_MAX = 256,        /* bytes of one expression; those in practice are below 20 */
	CFI_CIES_CACHED = 4,       /* one chunk seldom needs more than 2 */
};

/* Encodings of pointers: LSB Core 10.5.1. The low four bits are the form, the next three what it is relative to. */
enum {
	ENC_ABSPTR = 0x00,
	ENC_ULEB = 0x01,
	ENC_UDATA2 = 0x02,
	ENC_UDATA4 = 0x03,
	ENC_UDATA8 = 0x04,
	ENC_SLEB = 0x09,
	ENC_SDATA2 = 0x0a,
	ENC_SDATA4 = 0x0b,
	ENC_SDATA8 = 0x0c,
	ENC_FORM = 0x0f,
	ENC_PCREL = 0x10,
	ENC_DATAREL = 0x30,
	ENC_RELATIVE = 0x70,
	ENC_INDIRECT = 0x80,
	ENC_OMIT = 0xff,
};

/* The bytes of one .eh_frame or .debug_frame. Offsets below are offsets in it. */
struct cfi_space {
	const struct elf *elf;
	uint8_t *data;        /* owned: the inflated section; NULL: read from the file */
	uint64_t file_offset; /* of the first byte, when data is NULL */
	uint64_t vaddr;       /* of the first byte; 0 for .debug_frame */
	uint64_t size;        /* bytes */
	bool is_debug;        /* .debug_frame: other CIE ids, nothing relative */
};

/* A window on a space, so that many small looks cost few reads. A larger look grows it. */
struct cfi_view {
	const struct cfi_space *space;
	uint8_t *bytes; /* owned; not used when the space is memory */
	size_t cap, len;
	uint64_t start;
};

/* n bytes at an offset, valid until the next call on the view; NULL when they are not there. n <= CFI_ENTRY_MAX. */
const uint8_t *cfi_view(struct cfi_view *view, uint64_t offset, size_t n);
void cfi_view_free(struct cfi_view *view);

/* The head of a CIE or FDE. */
struct cfi_entry {
	uint64_t offset;     /* of its length field */
	uint64_t body;       /* offset of what follows the id */
	uint64_t next;       /* offset of the next entry */
	uint64_t cie;        /* offset of its CIE, for an FDE */
	bool is_cie, is_end; /* is_end: a length of 0 */
	bool is_64;
};

struct cfi_cie {
	uint64_t offset;
	uint64_t code_align;
	int64_t data_align;
	uint64_t ra;           /* DWARF register of the return address */
	uint64_t instructions; /* offset of the first one */
	uint64_t next;
	uint8_t pc_encoding;
	bool has_data; /* 'z': FDEs have augmentation data */
	bool signal_frame;
};

int cfi_entry_head(struct cfi_view *view, uint64_t offset, struct cfi_entry *ret);
int cfi_cie_read(struct cfi_view *view, uint64_t offset, struct cfi_cie *ret);
/* Reads the pc range; the cursor is at `offset_of_cursor` of the space. */
int cfi_fde_range(
	const struct cfi_cie *cie, struct cursor *c, uint64_t vaddr_of_cursor, uint64_t *ret_pc, uint64_t *ret_size);
int cfi_encoded(struct cursor *c, uint8_t encoding, uint64_t vaddr_of_cursor, uint64_t data_base, uint64_t *ret);
uint64_t cfi_fixed(struct cursor *c, size_t n); /* little-endian, n of 1, 2, 4, 8 */

/* Where a function's FDE is: pc is relative to the table's base. */
struct cfi_function {
	uint32_t pc;
	uint32_t fde;
};

/* Rows of up to CFI_CHUNK_FDES functions, one allocation: pcs, then rule indexes, then the packed rules. */
struct cfi_chunk {
	uint32_t bytes; /* of the allocation */
	uint32_t stamp; /* last use, in ticks of the clock in cfi.c */
	uint32_t nrows;
	uint32_t rules; /* offset of the packed rules in data, in units of 4 bytes */
	uint32_t data[];
};

/* Functions in order of pc, cut into slots of CFI_CHUNK_FDES. Either the file has the order (a search table, of which
 * the first pc of each slot is kept), or a scan made one. */
struct cfi_table {
	struct cfi_space space;
	uint64_t base; /* lowest pc; pcs are 32-bit offsets from it */
	uint32_t nfunctions, nslots;
	uint32_t *slots;                 /* owned: first pc of each slot; NULL: scanned */
	struct cfi_function *functions;  /* owned: the scanned index */
	uint64_t hdr_vaddr, hdr_offset;  /* of .eh_frame_hdr */
	uint64_t hdr_table;              /* offset of the search table in it */
	uint8_t hdr_encoding, hdr_width; /* width: bytes of one value, two in an entry */
	struct cfi_chunk **chunks;       /* owned, by slot; NULL: not compiled */
};

/* Fills a zeroed table. -ENOENT: nothing usable, and nothing is held; -ENOMEM. */
int cfi_index_eh_frame(struct cfi_table *t, const struct elf *elf);
int cfi_index_debug_frame(struct cfi_table *t, const struct elf *elf);
void cfi_index_close(struct cfi_table *t); /* all but the chunks themselves, which cfi.c accounts for */
size_t cfi_index_bytes(const struct cfi_table *t);
/* The slot that an address belongs to, and the address relative to the base. */
int cfi_index_slot(const struct cfi_table *t, uint64_t vaddr, uint32_t *ret_pc, uint32_t *ret_slot);
/* The functions of a slot, in order; at most CFI_CHUNK_FDES. */
size_t cfi_index_functions(const struct cfi_table *t, uint32_t slot, struct cfi_function *out);

/* Rows of a chunk in the making (cfi_chunk.c). */
enum { CFI_HASH_SLOTS = 1024 }; /* a power of two */
struct cfi_row_at {
	uint32_t pc;
	uint16_t rule; /* index of its rule set, in units of 4 bytes */
};
struct cfi_rows {
	struct cfi_row_at *rows; /* owned */
	size_t n, cap;
	struct buf rules;
	uint16_t hash[CFI_HASH_SLOTS]; /* rule index + 1; 0: free */
	bool no_memory;
};
void cfi_rows_start(struct cfi_rows *rows);
/* Pcs ascend; a second row at the same pc replaces the first. -E2BIG: the chunk is full; -ENOMEM. */
int cfi_rows_add(struct cfi_rows *rows, uint64_t pc, const struct cfi_row *row);
int cfi_rows_end(struct cfi_rows *rows, uint64_t pc); /* no function from here on */
/* Takes back the rows after the first n: the function at pc was bad. */
void cfi_rows_undo(struct cfi_rows *rows, size_t n, uint64_t pc);
int cfi_rows_finish(struct cfi_rows *rows, struct cfi_chunk **ret); /* frees the rows in any case */

/* Compiles functions, sorted by pc. Functions with bad entries get no row. -ENOMEM, or 0. */
int cfi_compile(const struct cfi_space *space, uint64_t base, const struct cfi_function *functions, size_t n,
	struct cfi_chunk **ret);
/* -ENOENT when no row covers the pc. */
int cfi_chunk_find(const struct cfi_chunk *chunk, uint32_t pc, struct cfi_row *ret);

/* Handles: the offset of the expression's length in the space, doubled, plus 1 for .debug_frame. */
int cfi_expr_run(const uint8_t *code, size_t size, const struct regs *regs, uint64_t cfa, cfi_read_fn *read,
	void *context, uint64_t *ret);

#endif
