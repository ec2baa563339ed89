#include "kit/lockdown.h"

#include "common/clock.h"
#include "kit/kit.h"

#include <errno.h>
#include <grp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* An empty, read-only root. Refused in some containers: then Landlock and the filter stand alone, and the supervisor
 * reports the missing layer. The mount namespace is made here, so that no mistake of a caller's can change the
 * host. */
static void empty_root(void)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		mount("none", "/proc", "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") || chdir("/proc") ||
		syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		return;
	(void)mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY | flags, NULL);
}

static int drop_bounding_set(void)
{
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return -1;
	return 0;
}

static int drop_capabilities(void)
{
	cap_t none = cap_init(), left = NULL;
	int r = -1;
	if (none && !cap_set_proc(none)) {
		left = cap_get_proc();
		r = left && !cap_compare(left, none) ? 0 : -1;
	}
	cap_free(left);
	cap_free(none);
	return r;
}

/* Landlock, https://docs.kernel.org/userspace-api/landlock.html; the structure up to ABI 6 (kernel 6.12). An ABI that
 * the kernel lacks is no failure: the level reached is reported. */
static unsigned landlock(void)
{
	struct {
		uint64_t handled_access_fs, handled_access_net, scoped;
	} rules = { 0 };
	const uint32_t version_flag = 1;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, version_flag);
	if (abi < 1)
		return 0;
	unsigned rights = abi >= 5 ? 16 : abi >= 3 ? 15 : abi == 2 ? 14 : 13; /* file system rights, lowest bits */
	rules.handled_access_fs = (1ULL << rights) - 1;
	rules.handled_access_net = abi >= 4 ? 3 : 0; /* bind, connect */
	rules.scoped = abi >= 6 ? 3 : 0;             /* abstract sockets, signals */
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
	if (fd < 0)
		return 0;
	long r = syscall(SYS_landlock_restrict_self, fd, 0);
	close(fd);
	return r ? 0 : (unsigned)abi;
}

/* A reader is at real-time priority by now, and on a leash. */
const char *lockdown(uid_t uid, unsigned *ret_landlock_abi)
{
	const int64_t head_start_ns = 1000 * 1000; /* where this takes two milliseconds nobody waits */
	int64_t rested_ns = monotonic_ns() + head_start_ns;
	empty_root();
	kit_breathe(&rested_ns);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return "no-new-privileges";
	if (drop_bounding_set())
		return "bounding set";
	kit_breathe(&rested_ns);
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return "ambient capabilities";
	if (prctl(PR_SET_SECUREBITS,
		    SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
			    SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
		    0, 0, 0))
		return "secure bits";
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		return "user id";
	if (drop_capabilities())
		return "capabilities";
	if (!setuid(0) || !unshare(CLONE_NEWNS)) {
		errno = EPERM;
		return "proof: root came back";
	}
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return "not dumpable";
	kit_breathe(&rested_ns);
	/* The change of user cleared it. The supervisor may have died in between: then the channel is at its end. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		return "parent-death signal";
	*ret_landlock_abi = landlock();
	return NULL;
}
