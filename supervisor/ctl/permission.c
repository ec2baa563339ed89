#include "record.h"

#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <unistd.h>

/* What no recording can do without. The supervisor itself names what else it would have liked. */
static const struct {
	cap_value_t capability;
	const char *name, *why;
} needed[] = {
	{ CAP_PERFMON, "CAP_PERFMON", "to take samples" },
	{ CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "to read stacks" },
	{ CAP_SETUID, "CAP_SETUID", "to give workers uids of their own" },
	{ CAP_SETGID, "CAP_SETGID", "to give workers gids of their own" },
};

bool record_permitted(void)
{
	if (geteuid()) {
		ctl_error("needs root, because it sees every process: try `sudo bulkhead record ...`");
		return false;
	}
	cap_t caps = cap_get_proc();
	if (!caps)
		return true; /* the supervisor will find out */
	bool permitted = true;
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
		cap_flag_value_t has = CAP_SET, admin = CAP_CLEAR;
		cap_get_flag(caps, needed[i].capability, CAP_EFFECTIVE, &has);
		/* the capability of which CAP_PERFMON was once a part */
		if (needed[i].capability == CAP_PERFMON)
			cap_get_flag(caps, CAP_SYS_ADMIN, CAP_EFFECTIVE, &admin);
		if (has == CAP_SET || admin == CAP_SET)
			continue;
		ctl_error("lacks %s, needed %s: in a container, add it (--cap-add)", needed[i].name, needed[i].why);
		permitted = false;
	}
	cap_free(caps);
	return permitted;
}
