/* A memory for the tests of Java's readers, and layouts as HotSpot 8, 17 and 25 say them. */
#ifndef TESTS_JAVA_IMAGE_H
#define TESTS_JAVA_IMAGE_H

#include "java/layout.h"

#include <errno.h>
#include <string.h>

/* Bytes at an address; all else is not there. */
struct java_image {
	uint64_t base;
	uint8_t *bytes;
	size_t n;
};

static int java_image_read(void *context, uint64_t address, void *buf, size_t n)
{
	const struct java_image *image = context;
	uint64_t offset = address - image->base;
	if (address < image->base || offset > image->n || n > image->n - offset)
		return -EFAULT;
	memcpy(buf, image->bytes + offset, n);
	return 0;
}

static inline struct java_memory java_image_memory(struct java_image *image)
{
	return (struct java_memory) { image, java_image_read };
}

static inline void java_image_put(struct java_image *image, uint64_t address, const void *bytes, size_t n)
{
	memcpy(image->bytes + (address - image->base), bytes, n);
}

static inline void java_image_word(struct java_image *image, uint64_t address, uint64_t value)
{
	java_image_put(image, address, &value, sizeof value);
}

static inline void java_image_half(struct java_image *image, uint64_t address, uint32_t value)
{
	java_image_put(image, address, &value, sizeof value);
}

struct java_said {
	enum java_field field;
	uint8_t width;
	uint64_t value;
};

/* The addresses of static fields are the test's: heaps, call_stub_return. */
static const struct java_said java_says_all[] = { { JAVA_array_length, 4, 0 }, { JAVA_array_data, 8, 8 },
	{ JAVA_space_low, 8, 0 }, { JAVA_space_high, 8, 8 }, { JAVA_sizeof_pc, 8, 16 }, { JAVA_pc_offset, 4, 0 },
	{ JAVA_pc_scope, 4, 4 }, { JAVA_method_const, 8, 8 }, { JAVA_const_constants, 8, 8 },
	{ JAVA_pool_holder, 8, 24 }, { JAVA_pool_length, 4, 60 }, { JAVA_constant_call_wrapper, 4, (uint64_t)-6 },
	{ JAVA_constant_has_lines, 4, 1 }, { JAVA_collections, 4, 64 } };
static const struct java_said java_says_newer[] = { { JAVA_pool_source, 2, 54 }, { JAVA_klass_name, 8, 24 },
	{ JAVA_symbol_length, 2, 4 }, { JAVA_symbol_body, 8, 6 }, { JAVA_sizeof_pool, 8, 72 },
	{ JAVA_klass_super, 8, 32 }, { JAVA_klass_layout, 4, 8 }, { JAVA_klass_fields, 8, 40 },
	{ JAVA_klass_constants, 8, 48 }, { JAVA_oop_class, 4, 8 } };
static const struct java_said java_says_8[] = { { JAVA_heap_memory, 8, 0 }, { JAVA_heap_segments, 8, 112 },
	{ JAVA_heap_shift, 4, 248 }, { JAVA_blob_name, 8, 8 }, { JAVA_blob_size, 4, 16 },
	{ JAVA_blob_frame_size, 4, 44 }, { JAVA_blob_frame_complete, 4, 36 }, { JAVA_blob_data_offset, 4, 40 },
	{ JAVA_blob_code_offset, 4, 32 }, { JAVA_blob_relocation_size, 4, 24 }, { JAVA_nmethod_method, 8, 64 },
	{ JAVA_nmethod_compile_id, 4, 204 }, { JAVA_nmethod_level, 4, 208 }, { JAVA_nmethod_original_pc, 4, 200 },
	{ JAVA_nmethod_entry, 8, 128 }, { JAVA_nmethod_deopt_offset, 4, 148 }, { JAVA_nmethod_deopt_mh_offset, 4, 152 },
	{ JAVA_nmethod_metadata_offset, 4, 172 }, { JAVA_nmethod_scopes_offset, 4, 176 },
	{ JAVA_nmethod_pcs_offset, 4, 180 }, { JAVA_nmethod_dependencies_offset, 4, 184 }, { JAVA_const_flags, 2, 28 },
	{ JAVA_const_code_size, 2, 32 }, { JAVA_const_name, 2, 34 }, { JAVA_const_signature, 2, 36 },
	{ JAVA_klass_source, 2, 258 }, { JAVA_klass_name, 8, 16 }, { JAVA_symbol_length, 2, 0 },
	{ JAVA_symbol_body, 8, 8 }, { JAVA_sizeof_heap_block, 8, 16 }, { JAVA_sizeof_pool, 8, 80 },
	{ JAVA_sizeof_const_method, 8, 48 } };
static const struct java_said java_says_17[] = { { JAVA_heap_memory, 8, 8 }, { JAVA_heap_segments, 8, 120 },
	{ JAVA_heap_shift, 4, 256 }, { JAVA_blob_name, 8, 96 }, { JAVA_blob_size, 4, 12 },
	{ JAVA_blob_frame_size, 4, 28 }, { JAVA_blob_frame_complete, 4, 20 }, { JAVA_blob_data_offset, 4, 24 },
	{ JAVA_blob_code_begin, 8, 32 }, { JAVA_blob_code_end, 8, 40 }, { JAVA_nmethod_method, 8, 112 },
	{ JAVA_nmethod_compile_id, 4, 304 }, { JAVA_nmethod_level, 4, 308 }, { JAVA_nmethod_original_pc, 4, 300 },
	{ JAVA_nmethod_entry, 8, 224 }, { JAVA_nmethod_deopt, 8, 128 }, { JAVA_nmethod_deopt_mh, 8, 136 },
	{ JAVA_nmethod_metadata_offset, 4, 260 }, { JAVA_nmethod_scopes, 8, 120 }, { JAVA_nmethod_pcs_offset, 4, 268 },
	{ JAVA_nmethod_dependencies_offset, 4, 272 }, { JAVA_const_flags, 2, 28 }, { JAVA_const_code_size, 2, 32 },
	{ JAVA_const_name, 2, 34 }, { JAVA_const_signature, 2, 36 }, { JAVA_sizeof_heap_block, 8, 16 },
	{ JAVA_sizeof_const_method, 8, 48 } };
static const struct java_said java_says_25[] = { { JAVA_heap_memory, 8, 0 }, { JAVA_heap_segments, 8, 112 },
	{ JAVA_heap_shift, 4, 248 }, { JAVA_blob_name, 8, 8 }, { JAVA_blob_size, 4, 24 },
	{ JAVA_blob_frame_size, 4, 44 }, { JAVA_blob_frame_complete, 2, 54 }, { JAVA_blob_data_offset, 4, 40 },
	{ JAVA_blob_code_offset, 4, 36 }, { JAVA_blob_mutable_data, 8, 16 }, { JAVA_blob_mutable_size, 4, 48 },
	{ JAVA_blob_relocation_size, 4, 28 }, { JAVA_nmethod_method, 8, 80 }, { JAVA_nmethod_compile_id, 4, 212 },
	{ JAVA_nmethod_level, 1, 216 }, { JAVA_nmethod_original_pc, 4, 208 }, { JAVA_nmethod_entry_offset, 2, 154 },
	{ JAVA_nmethod_deopt_offset, 4, 176 }, { JAVA_nmethod_deopt_mh_offset, 4, 180 },
	{ JAVA_nmethod_scopes_offset, 4, 200 }, { JAVA_nmethod_pcs_offset, 4, 196 }, { JAVA_nmethod_immutable, 8, 96 },
	{ JAVA_nmethod_immutable_size, 4, 160 }, { JAVA_const_flags, 4, 28 }, { JAVA_const_code_size, 2, 34 },
	{ JAVA_const_name, 2, 36 }, { JAVA_const_signature, 2, 38 }, { JAVA_sizeof_heap_block, 8, 8 },
	{ JAVA_sizeof_const_method, 8, 56 } };

static inline void java_say(struct java_layout *l, const struct java_said *says, size_t n)
{
	for (size_t i = 0; i < n; i++)
		l->of[says[i].field] = (struct java_value) { true, says[i].width, says[i].value };
}

static inline struct java_layout java_layout_as(unsigned major)
{
	struct java_layout l = { .major = major,
		.excluded = major >= 20,
		.bytecode_at = major == JAVA_8 ? 7 : 8,
		.nmethod_bytes = 400,
		.method_bytes = 88,
		.const_bytes = 64,
		.pool_bytes = 72,
		.klass_bytes = major == JAVA_8 ? 266 : 64 };
	java_say(&l, java_says_all, sizeof java_says_all / sizeof *java_says_all);
	if (major == JAVA_8) {
		java_say(&l, java_says_8, sizeof java_says_8 / sizeof *java_says_8);
		return l;
	}
	java_say(&l, java_says_newer, sizeof java_says_newer / sizeof *java_says_newer);
	if (major < 23)
		java_say(&l, java_says_17, sizeof java_says_17 / sizeof *java_says_17);
	else
		java_say(&l, java_says_25, sizeof java_says_25 / sizeof *java_says_25);
	return l;
}

#endif
