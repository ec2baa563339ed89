/* Unwind tables: .eh_frame (through .eh_frame_hdr where there is one) and .debug_frame of one ELF file, compiled on demand
 * into compact rows. The unit of compiling and of forgetting is a chunk of consecutive functions, so that a 200 MiB
 * library costs what is used of it. All input is hostile: every offset, length and count is bounded, a bad entry makes
 * its function "no row", never more. One thread owns a table; cfi_shed may be
 * called from any.
 * Formats: LSB Core 5.0 ch. 10.6 (.eh_frame, .eh_frame_hdr), DWARF 4 section 6.4 and 7.23 (.debug_frame, CFA programs). */
#ifndef KIT_CFI_H
#define KIT_CFI_H

#include "kit/elf.h"
#include "kit/regs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cfi; /* the tables of one file */

/* How the caller's value of one register is found. */
enum cfi_how {
	CFI_SAME,       /* unchanged (the default of callee-saved registers) */
	CFI_UNDEFINED,  /* not recoverable; for the return address: outermost frame */
	CFI_OFFSET,     /* saved at CFA + value */
	CFI_VAL_OFFSET, /* is CFA + value */
	CFI_REGISTER,   /* is in register `value` */
	CFI_EXPR,       /* saved at the address that the DWARF expression at `value` gives (CFA pushed first) */
	CFI_VAL_EXPR,   /* is what the expression gives */
};

struct cfi_rule {
	uint8_t how; /* enum cfi_how */
	int32_t value;
};

/* The row that covers one pc. */
struct cfi_row {
	bool signal_frame;     /* augmentation 'S': the caller's pc is exact, not a return address */
	bool from_debug_frame; /* not .eh_frame; in a Go program: Go's own code, not C's */
	bool cfa_is_expr;      /* then cfa_offset is the expression's handle */
	uint8_t cfa_reg;       /* DWARF register */
	int32_t cfa_offset;    /* CFA = cfa_reg + cfa_offset */
	struct cfi_rule rule[REG_COUNT];
};

/* 0, or -ENOENT when the file has no usable table, -ENOMEM. The elf must outlive the table. */
int cfi_open(struct cfi **ret, const struct elf *elf);
void cfi_close(struct cfi *cfi);

/* The row for a virtual address of the file. 0; -ENOENT: no function covers it (or its entry is bad). */
int cfi_find(struct cfi *cfi, uint64_t vaddr, struct cfi_row *ret);

/* Evaluates an expression handle of a row. `read` reads 8 bytes of target memory. Bounded in steps. */
typedef int cfi_read_fn(void *context, uint64_t address, uint64_t *ret);
int cfi_expr(struct cfi *cfi, int32_t handle, const struct regs *regs, uint64_t cfa, cfi_read_fn *read, void *context,
	uint64_t *ret);

/* Bytes held by all tables of the process, and a request to forget least-recently-used chunks until `bytes` are left. */
size_t cfi_memory(void);
void cfi_shed(size_t bytes);

#endif
