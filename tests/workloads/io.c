/* Bound by input and output, as find is: walks /usr, reads the beginning of files, drops what it read from the page
 * cache, and syncs a scratch file in argv[2] (default: the working directory; the file is unlinked at once). Chains:
 * main; walk; walk...; libc. main; sync_scratch; libc. */
#include "workload.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

static int scratch;

static NOINLINE void sync_scratch(void)
{
	static char bytes[4096];
	if (pwrite(scratch, bytes, sizeof bytes, 0) != sizeof bytes || fdatasync(scratch))
		abort();
	STAYS_ON_THE_STACK();
}

static NOINLINE void read_some(int directory, const char *name)
{
	char bytes[16384];
	int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	if (read(fd, bytes, sizeof bytes) > 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	STAYS_ON_THE_STACK();
}

static NOINLINE void walk(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	if (!directory)
		return;
	struct dirent *entry;
	int files = 0;
	while (!workload_done && (entry = readdir(directory))) {
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			walk(fd, entry->d_name);
		else if (entry->d_type == DT_REG && ++files % 4 == 0)
			read_some(fd, entry->d_name);
	}
	closedir(directory);
	sync_scratch();
	STAYS_ON_THE_STACK();
}

int main(int argc, char **argv)
{
	workload_begin(argc, argv);
	scratch = open(argc > 2 ? argv[2] : ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (scratch < 0)
		abort();
	while (!workload_done)
		walk(AT_FDCWD, "/usr");
	return 0;
}
