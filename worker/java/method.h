/* A Java method: its names and its lines. Method -> ConstMethod -> ConstantPool -> holder, each read from hostile memory with bounds. */
#ifndef JAVA_METHOD_H
#define JAVA_METHOD_H

#include "java/layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	JAVA_NAME_BYTES = 1024,       /* of package.Class.method, in UTF-8; longer ones are cut */
	JAVA_LINES_BYTES = 256 << 10, /* of a line table; a longer one is not read */
};

struct java_method {
	uint64_t address;
	uint64_t constant;  /* its ConstMethod: it moves when the method is redefined */
	uint64_t codes;     /* address of its bytecodes */
	uint32_t code_size; /* bytes; 0: native or abstract */
	uint16_t name_index;
	uint64_t pool;
	/* Its names: another method's may have all the other addresses, one after the other, and these, too; but not what is in there. The
	 * stamp of a Symbol is its length, its hash, which is a random number, and but for 8 the first two bytes of its text. */
	uint64_t class_symbol, class_stamp, name_symbol, name_stamp;
	uint8_t *lines; /* owned; NULL: none */
	size_t nlines;
	uint32_t first_line; /* the lowest in the table; 0: none */
	char *name, *file;   /* owned; file: "" where there is none */
};

/* What tells a method from another at the same address. 0; -EINVAL: no method; or what a read said. */
int java_method_head(
	struct java_method *ret, const struct java_layout *l, const struct java_memory *memory, uint64_t address);
/* Reads the rest. 0; -EINVAL, -ENOMEM, or what a read said: nothing is owned. */
int java_method_read(struct java_method *m, const struct java_layout *l, const struct java_memory *memory);
void java_method_free(struct java_method *m);

/* The bytes of a Symbol, or of one that a constant pool has at an index, cut: how many, or -errno. */
int java_symbol(const struct java_layout *l, const struct java_memory *memory, uint64_t symbol, char *out, size_t size);
int java_pool_symbol(const struct java_layout *l, const struct java_memory *memory, uint64_t pool, uint32_t index,
	char *out, size_t size);

/* package.Class of the JVM's package/Class. The address in the name of a hidden class is left out: it is another one in each process. */
void java_class_name(char *out, size_t size, const char *internal, size_t n);

/* The lowest line of a compressed table, and (bci >= 0) the line of a bytecode; 0: none. A table is pairs of differences of bytecode index
 * and line: one byte (five bits and three), or 0xff and two signed UNSIGNED5; 0 ends it (src/hotspot/share/code/compressedStream.cpp,
 * CompressedLineNumberWriteStream in oops/method.hpp). */
uint32_t java_line(const uint8_t *table, size_t n, uint8_t excluded, int32_t bci, uint32_t *ret_lowest);
/* How many bytes of a table that begins here, or 0: it does not end in n bytes. */
size_t java_lines_length(const uint8_t *table, size_t n, uint8_t excluded);

#endif
