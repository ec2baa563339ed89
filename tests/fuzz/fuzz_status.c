/* What a client of the status socket may send: one packet to the question that it is taken for. */
#include "supervisor.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint64_t numbers[FRAME_MAX_ARRAY];
	struct frame f;
	struct status_request request = { 0 };
	const char *why = NULL;
	if (frame_decode(data, size, PARTY_CLIENT, PARTY_SUPERVISOR, false, numbers, &f, &why))
		return 0;
	if (status_request_check(&f, &request))
		return 0;
	bool question = request.ask >= ASK_STATUS && request.ask <= ASK_TARGETS;
	bool order = request.order >= OPERATE_restart && request.order <= OPERATE_loglevel;
	if (question == order || strnlen(request.argument, sizeof request.argument) == sizeof request.argument ||
		(question && request.argument[0]))
		abort();
	return 0;
}
