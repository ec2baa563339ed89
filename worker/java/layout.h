/* Where a HotSpot keeps what we read (layout.def), from the tables that its libjvm exports for debuggers. They stand in the target's
 * memory and are treated as hostile: the number of rows, their stride, each name, size and offset is bounded, and nothing is
 * believed that does not fit into what will be read. */
#ifndef JAVA_LAYOUT_H
#define JAVA_LAYOUT_H

#include "java/memory.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	JAVA_8 = 8,
	JAVA_MAJOR_MIN = 11,      /* but for 8; 9 and 10 have not been tried */
	JAVA_STRUCTURE_MAX = 512, /* bytes of any structure that are read */
	JAVA_VERSION_BYTES = 48,
	JAVA_ROUTINES_MAX = 96, /* that are told of by name */
	JAVA_ROUTINE_NAME = 40,
};

/* A stub routine that has a variable of its own: StubRoutines::_jint_arraycopy. */
struct java_routine {
	uint64_t variable, code;      /* addresses; code 0: not read, or there is none */
	char name[JAVA_ROUTINE_NAME]; /* without the first underscore; cut */
};

enum java_field {
#define FIELD(name, type, field) JAVA_##name,
#define ALSO(name, type, field)
#define SIZE(name, type) JAVA_sizeof_##name,
#define CONSTANT(name, constant) JAVA_constant_##name,
#define ALSO_CONSTANT(name, constant)
#include "java/layout.def"
#undef FIELD
#undef ALSO
#undef SIZE
#undef CONSTANT
#undef ALSO_CONSTANT
	JAVA_FIELD_MAX,
};

struct java_value {
	bool known;
	uint8_t width;  /* bytes of the field: 1, 2, 4 or 8 */
	uint64_t value; /* offset in bytes, address, size in bytes, or constant */
};

struct java_layout {
	struct java_value of[JAVA_FIELD_MAX];
	struct java_routine routines[JAVA_ROUTINES_MAX];
	uint32_t nroutines;
	uint32_t major;
	char version[JAVA_VERSION_BYTES]; /* as it calls itself, cut */
	uint32_t nmethod_bytes;           /* of a code blob's head, up to the last field that is read */
	uint32_t method_bytes, const_bytes, pool_bytes, klass_bytes; /* likewise */
	uint8_t excluded; /* values of a byte that UNSIGNED5 leaves out: 0, from 20 on 1 */
	uint8_t bytecode_at; /* words below an interpreted frame's pointer: where its bytecode is (src/hotspot/cpu/x86/frame_x86.hpp) */
};

/* The addresses of the exported variables in the process. */
struct java_tables {
	uint64_t structs, struct_stride, struct_type, struct_field, struct_type_string, struct_static, struct_offset,
		struct_address;
	uint64_t types, type_stride, type_name, type_size;
	uint64_t constants, constant_stride, constant_name, constant_value;
};

/* 0; -EAGAIN: not initialised, or not readable yet; -EINVAL: not usable, with the reason in *ret_why (a literal, for operators). Unless it is 0, ret->major
 * is 0, and nothing but the version's text is to be used. */
int java_layout_read(struct java_layout *ret, const struct java_memory *memory, const struct java_tables *tables,
	const char **ret_why);

/* The value of a field in what was read of its structure. */
uint64_t java_get(const struct java_layout *l, enum java_field field, const uint8_t *bytes);
/* The same, read from a structure in the target. */
int java_get_at(const struct java_layout *l, const struct java_memory *memory, enum java_field field, uint64_t address,
	uint64_t *ret);

static inline bool java_has(const struct java_layout *l, enum java_field field)
{
	return l->of[field].known;
}

#endif
