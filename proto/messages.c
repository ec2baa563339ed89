#include "proto/messages.h"

#include <stddef.h>

enum { S = PHASE_S, V = PHASE_V, R = PHASE_R, D = PHASE_D };
enum { ONCE = MESSAGE_ONCE, FD = MESSAGE_FD, MAYBE_FD = MESSAGE_MAYBE_FD };

static const struct message_row rows[] = {
#define MESSAGE(name, number, from, to, phases, signature, flags, max_bytes, max_per_s, words)                         \
	{ #name, number, PARTY_##from, PARTY_##to, phases, flags, signature, max_bytes, max_per_s, words },
#include "proto/messages.def"
#undef MESSAGE
	{ 0 },
};

#define MESSAGE(name, number, from, to, phases, signature, flags, max_bytes, max_per_s, words)                         \
	_Static_assert(number < MESSAGE_NUMBER_MAX, #name " has a number out of range");                               \
	_Static_assert(max_bytes <= MESSAGE_MAX_BYTES, #name " is larger than any frame may be");                      \
	_Static_assert(sizeof signature - 1 <= MESSAGE_MAX_FIELDS, #name " has too many fields");
#include "proto/messages.def"
#undef MESSAGE

const struct message_row *message_rows(void)
{
	return rows;
}

const struct message_row *message_row(unsigned number)
{
	for (const struct message_row *row = rows; row->name; row++)
		if (row->number == number)
			return row;
	return NULL;
}
