/* Who of the status socket's clients makes way for whom, apart from the socket: so that it can be tested. */
#include "supervisor.h"

enum { PLACES_OF_A_USER = 4 /* at once, of STATUS_CLIENTS_MAX; not for root */ };

/* Free ones first, root's last. */
static int rank(const struct status_place *p)
{
	return !p->taken ? 0 : p->uid ? 1 : 2;
}

static bool goes_before(const struct status_place *p, const struct status_place *other)
{
	return rank(p) != rank(other) ? rank(p) < rank(other) : p->heard_ns < other->heard_ns;
}

unsigned status_place(const struct status_place *places, unsigned n, uid_t uid)
{
	unsigned best = n, own_best = n, own = 0;
	for (unsigned i = 0; i < n; i++) {
		const struct status_place *p = &places[i];
		if (p->taken && p->uid == uid) {
			own++;
			if (own_best == n || goes_before(p, &places[own_best]))
				own_best = i;
		}
		if (uid && rank(p) == 2)
			continue;
		if (best == n || goes_before(p, &places[best]))
			best = i;
	}
	return uid && own >= PLACES_OF_A_USER ? own_best : best;
}
