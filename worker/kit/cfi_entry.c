/* The entries of .eh_frame and .debug_frame: LSB Core 5.0 10.6.1, DWARF 4 6.4.1. */
#include "kit/cfi_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	HEAD_MAX = 20,         /* bytes: 4 + 8 of length, 8 of id */
	AUGMENTATION_MAX = 16, /* characters; "zPLRSB" is the longest seen */
	CIE_MAX = 4 << 10,     /* bytes of a CIE looked at; they are about 30 */
};

const uint8_t *cfi_view(struct cfi_view *view, uint64_t offset, size_t n)
{
	const struct cfi_space *space = view->space;
	if (n > CFI_ENTRY_MAX || n > space->size || offset > space->size - n)
		return NULL;
	if (space->data)
		return space->data + offset;
	if (offset >= view->start && offset - view->start <= view->len && n <= view->len - (offset - view->start))
		return view->bytes + (offset - view->start);
	if (n > view->cap || !view->bytes) {
		size_t cap = n > view->cap ? n : view->cap;
		uint8_t *bytes = realloc(view->bytes, cap);
		if (!bytes)
			return NULL;
		view->bytes = bytes;
		view->cap = cap;
	}
	size_t want = view->cap < space->size - offset ? view->cap : (size_t)(space->size - offset);
	view->len = 0;
	if (elf_read(space->elf, view->bytes, want, space->file_offset + offset) < 0)
		return NULL;
	view->start = offset;
	view->len = want;
	return view->bytes;
}

void cfi_view_free(struct cfi_view *view)
{
	free(view->bytes);
	view->bytes = NULL;
	view->len = 0;
}

uint64_t cfi_fixed(struct cursor *c, size_t n)
{
	uint64_t v = 0;
	const void *at = cursor_bytes(c, n);
	if (at)
		memcpy(&v, at, n);
	return v;
}

int cfi_encoded(struct cursor *c, uint8_t encoding, uint64_t vaddr_of_cursor, uint64_t data_base, uint64_t *ret)
{
	uint64_t v;
	switch (encoding & ENC_FORM) {
	case ENC_ABSPTR:
	case ENC_UDATA8:
	case ENC_SDATA8:
		v = cfi_fixed(c, 8);
		break;
	case ENC_ULEB:
		v = cursor_varint(c);
		break;
	case ENC_SLEB:
		v = (uint64_t)cursor_svarint(c);
		break;
	case ENC_UDATA2:
		v = cfi_fixed(c, 2);
		break;
	case ENC_SDATA2:
		v = (uint64_t)(int64_t)(int16_t)cfi_fixed(c, 2);
		break;
	case ENC_UDATA4:
		v = cfi_fixed(c, 4);
		break;
	case ENC_SDATA4:
		v = (uint64_t)(int64_t)(int32_t)cfi_fixed(c, 4);
		break;
	default:
		return -EINVAL;
	}
	if (c->failed)
		return -EINVAL;
	switch (encoding & ENC_RELATIVE) {
	case 0:
		break;
	case ENC_PCREL:
		v += vaddr_of_cursor;
		break;
	case ENC_DATAREL:
		v += data_base;
		break;
	default:
		return -EINVAL;
	}
	*ret = v;
	return 0;
}

int cfi_entry_head(struct cfi_view *view, uint64_t offset, struct cfi_entry *ret)
{
	const struct cfi_space *space = view->space;
	if (offset >= space->size)
		return -ENOENT;
	size_t n = space->size - offset < HEAD_MAX ? (size_t)(space->size - offset) : HEAD_MAX;
	const uint8_t *bytes = cfi_view(view, offset, n);
	if (!bytes)
		return -EIO;
	struct cursor c = { .p = bytes, .end = bytes + n };
	struct cfi_entry entry = { .offset = offset };
	uint64_t length = cfi_fixed(&c, 4);
	if (length == UINT32_MAX) {
		entry.is_64 = true;
		length = cfi_fixed(&c, 8);
	} else if (length > 0xfffffff0) { /* reserved */
		return -EINVAL;
	}
	uint64_t id_offset = offset + (uint64_t)(c.p - bytes);
	if (c.failed || length > space->size - id_offset)
		return -EINVAL;
	entry.next = id_offset + length;
	if (!length) {
		entry.is_end = true;
		*ret = entry;
		return 0;
	}

	/* The id of .eh_frame stays at 4 bytes in the 64-bit format. */
	size_t id_size = entry.is_64 && space->is_debug ? 8 : 4;
	uint64_t id = cfi_fixed(&c, id_size);
	if (c.failed || length < id_size)
		return -EINVAL;
	entry.body = id_offset + id_size;
	if (space->is_debug) {
		entry.is_cie = id == (entry.is_64 ? UINT64_MAX : UINT32_MAX);
		entry.cie = id;
	} else {
		entry.is_cie = !id;
		if (id > id_offset)
			return -EINVAL;
		entry.cie = id_offset - id;
	}
	*ret = entry;
	return 0;
}

/* What each letter means: LSB Core 10.6.1.1.1; 'S' and 'B' (AArch64, B key) and 'G' (AArch64, memory tagging) are
 * newer. */
static int read_augmentation(const char *letters, struct cursor *c, uint64_t vaddr, struct cfi_cie *cie)
{
	const uint8_t *start = c->p;
	for (; *letters; letters++) {
		uint64_t ignored;
		uint8_t encoding;
		switch (*letters) {
		case 'R':
			cie->pc_encoding = cursor_u8(c);
			break;
		case 'L':
			cursor_u8(c);
			break;
		case 'P':
			encoding = cursor_u8(c);
			if (encoding != ENC_OMIT &&
				cfi_encoded(c, encoding, vaddr + (uint64_t)(c->p - start), 0, &ignored) < 0)
				return -EINVAL;
			break;
		case 'S':
			cie->signal_frame = true;
			break;
		case 'B':
		case 'G':
			break;
		default: /* unknown letters carry unknown data: what was understood so far has to do */
			return 0;
		}
	}
	return c->failed ? -EINVAL : 0;
}

int cfi_cie_read(struct cfi_view *view, uint64_t offset, struct cfi_cie *ret)
{
	struct cfi_entry entry;
	int r = cfi_entry_head(view, offset, &entry);
	if (r < 0)
		return r;
	if (entry.is_end || !entry.is_cie)
		return -EINVAL;
	size_t n = entry.next - entry.body < CIE_MAX ? (size_t)(entry.next - entry.body) : CIE_MAX;
	const uint8_t *bytes = cfi_view(view, entry.body, n);
	if (!bytes)
		return -EIO;
	struct cursor c = { .p = bytes, .end = bytes + n };
	struct cfi_cie cie = { .offset = offset, .next = entry.next, .pc_encoding = ENC_ABSPTR };

	uint8_t version = cursor_u8(&c);
	if (version != 1 && version != 3 && version != 4)
		return -EINVAL;
	char letters[AUGMENTATION_MAX + 1] = { 0 };
	for (size_t i = 0;; i++) {
		char letter = (char)cursor_u8(&c);
		if (!letter)
			break;
		if (i == AUGMENTATION_MAX)
			return -EINVAL;
		letters[i] = letter;
	}
	if (version == 4) {
		uint8_t address_size = cursor_u8(&c), segment_size = cursor_u8(&c);
		if (address_size != 8 || segment_size)
			return -EINVAL;
	}
	cie.code_align = cursor_varint(&c);
	cie.data_align = cursor_svarint(&c);
	cie.ra = version == 1 ? cursor_u8(&c) : cursor_varint(&c);
	if (letters[0] == 'z') {
		uint64_t size = cursor_varint(&c);
		const uint8_t *data = size <= CIE_MAX ? cursor_bytes(&c, (size_t)size) : NULL;
		if (!data)
			return -EINVAL;
		struct cursor inner = { .p = data, .end = data + size };
		uint64_t vaddr = view->space->vaddr + entry.body + (uint64_t)(data - bytes);
		r = read_augmentation(letters + 1, &inner, vaddr, &cie);
		if (r < 0)
			return r;
		cie.has_data = true;
	} else if (letters[0]) { /* "eh" of GCC 2, armcc: nothing tells how long their data is */
		return -EINVAL;
	}
	if (c.failed)
		return -EINVAL;
	cie.instructions = entry.body + (uint64_t)(c.p - bytes);
	*ret = cie;
	return 0;
}

int cfi_fde_range(
	const struct cfi_cie *cie, struct cursor *c, uint64_t vaddr_of_cursor, uint64_t *ret_pc, uint64_t *ret_size)
{
	uint64_t pc, size;
	if (cie->pc_encoding & ENC_INDIRECT) /* a pointer to the pc, in memory that a file does not have */
		return -EINVAL;
	int r = cfi_encoded(c, cie->pc_encoding, vaddr_of_cursor, 0, &pc);
	if (!r)
		r = cfi_encoded(c, cie->pc_encoding & ENC_FORM, 0, 0, &size);
	if (r < 0)
		return r;
	*ret_pc = pc;
	*ret_size = size;
	return 0;
}
