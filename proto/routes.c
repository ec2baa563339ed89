#include "proto/routes.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const int routes_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

int routes_create(void)
{
	int fd = memfd_create("bulkhead-routes", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, sizeof(struct routes)) || fcntl(fd, F_ADD_SEALS, routes_seals)) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

struct routes *routes_open(int fd)
{
	struct stat st;
	if (fstat(fd, &st) || st.st_size != sizeof(struct routes))
		return NULL;
	void *map = mmap(NULL, sizeof(struct routes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return map == MAP_FAILED ? NULL : map;
}
