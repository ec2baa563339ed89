#include "supervisor.h"

static const struct worker_row rows[] = {
#define WORKER(name, party, uid, needs, mib, mib_per_cpu, oom_score)                                                   \
	{ #name, PARTY_##party, needs, uid, mib, mib_per_cpu, oom_score },
#include "workers.def"
#undef WORKER
};

_Static_assert(sizeof rows / sizeof *rows <= WORKERS_MAX, "every row has its post");
_Static_assert((int)OWNERS <= (int)LEDGER_MAX_OWNERS, "every post, heir and quarantined process has its account");

const struct worker_row *worker_rows(unsigned *ret_count)
{
	*ret_count = sizeof rows / sizeof *rows;
	return rows;
}
