/* Law 3: do the books say what the kernel says? A worker that holds more than was lent to it leaks; one that holds less
 * closes without saying so. Some are always under way, so a small difference is none. */
#include "supervisor.h"

#include "usage.h"

#include <inttypes.h>

enum {
	UNLENT_FDS = 4, /* 0 to 3; eventfds of its own are within the tolerance */
};

static void reconcile(struct worker *w)
{
	int fds = usage_fds(w->pid);
	if (fds < 0)
		return; /* it is ending */
	int64_t difference = fds - (int64_t)w->supervisor->ledger.fds[w->owner] - UNLENT_FDS;
	bool before = w->fd_difference > RECONCILE_TOLERANCE || w->fd_difference < -RECONCILE_TOLERANCE;
	bool now = difference > RECONCILE_TOLERANCE || difference < -RECONCILE_TOLERANCE;
	w->fd_difference = difference;
	if (!now || !before)
		return; /* a burst that was under way */
	w->fd_mismatches++;
	log_warn("%s: has %d fds open where the ledger has %" PRIu32, w->row->name, fds,
		w->supervisor->ledger.fds[w->owner] + UNLENT_FDS);
}

void reconcile_workers(struct supervisor *s)
{
	for (unsigned i = 0; i < s->workers_count; i++)
		if (worker_running(&s->workers[i]))
			reconcile(&s->workers[i]);
}
