/* What a client may say, apart from the socket: so that it can be fuzzed. */
#include "supervisor.h"

#include <errno.h>
#include <string.h>

struct order {
	uint64_t number;
	const char *argument; /* NULL: none */
};

/* NULL: there is no such order. */
static const struct order *find_order(uint64_t number)
{
	static const struct order orders[] = {
#define OPERATE(name, number, argument, words) { number, argument },
		OPERATES(OPERATE)
#undef OPERATE
	};
	for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
		if (orders[i].number == number)
			return &orders[i];
	return NULL;
}

int status_request_check(const struct frame *f, struct status_request *ret)
{
	struct status_request request = { 0 };
	uint64_t what = f->field[0].u;
	size_t n = f->field[1].n;
	if (f->row->number == MSG_ASK) {
		if (!what || what > ASK_TARGETS || n)
			return -EBADMSG;
		request.ask = (unsigned)what;
	} else if (f->row->number == MSG_OPERATE) {
		const struct order *order = find_order(what);
		bool takes = order && order->argument;
		if (!order || takes != (n > 0) || n >= sizeof request.argument || memchr(f->field[1].data, 0, n))
			return -EBADMSG;
		request.order = (unsigned)what;
		if (n)
			memcpy(request.argument, f->field[1].data, n);
	} else {
		return -EBADMSG;
	}
	*ret = request;
	return 0;
}
