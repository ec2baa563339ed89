/* Any packet, from every sender to every receiver. */
#include "proto/channel.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint64_t numbers[FRAME_MAX_ARRAY];
	static const uint8_t parties[] = { PARTY_SUPERVISOR, PARTY_SAMPLER, PARTY_LANE, PARTY_MERGE, PARTY_OPENER,
		PARTY_CLIENT };
	if (!size)
		return 0;
	uint8_t from = parties[data[0] % 6], to = parties[data[0] / 6 % 6];
	struct frame f;
	const char *why = NULL;
	if (!frame_decode(data + 1, size - 1, from, to, data[0] & 1, numbers, &f, &why)) {
		for (size_t i = 0; f.row->signature[i]; i++)
			if (f.row->signature[i] == 'b' && f.field[i].n && f.field[i].data[f.field[i].n - 1] == 0xff)
				numbers[0]++; /* reads the last byte: the sanitizer would see it outside */
	} else if (!why) {
		abort(); /* every refusal has a reason */
	}
	return 0;
}
