/* The flat list of what a worker gives up, in order, each step fatal unless it says otherwise. See lockdown.c. */
#ifndef KIT_LOCKDOWN_H
#define KIT_LOCKDOWN_H

#include <sys/types.h>

/* All but the last step. NULL, or the name of the step that failed (errno tells why). */
const char *lockdown(uid_t uid, unsigned *ret_landlock_abi);

/* The last step (kit/seccomp.c), for all threads. needs: enum kit_need. */
const char *lockdown_seccomp(unsigned needs);

#endif
