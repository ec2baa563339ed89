/* A file system that stops answering: fuse_stall MOUNTPOINT SOURCE serves the one file /file, a copy of SOURCE, and obeys
 * the lines on its standard input. After "stall" it takes READ requests from the kernel and answers none; after "go" it
 * answers those too. It says on its standard output: "ready" when mounted, "stalled" and "gone on" when it obeyed, and
 * "holding N" with each request that it holds. Its death, or the end of its input, ends the connection: the kernel then
 * fails what waits.
 *
 * The kernel must have handed a request over: one that still waits in its queue ends with SIGKILL. */
#define FUSE_USE_VERSION 31
#include <fuse3/fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_INODE = 2, HELD_MAX = 1024 };

static const double forever = 86400; /* what the kernel was told stays true */
static const char *bytes;
static size_t size;
static bool stalled;
static struct {
	fuse_req_t request;
	size_t n;
	off_t at;
} held[HELD_MAX];
static size_t nheld;

static void say(const char *what)
{
	puts(what);
	fflush(stdout);
}

static bool attributes(fuse_ino_t inode, struct stat *st)
{
	*st = (struct stat) { .st_ino = inode, .st_nlink = 1, .st_mode = S_IFDIR | 0755 };
	if (inode == FILE_INODE) {
		st->st_mode = S_IFREG | 0755;
		st->st_size = (off_t)size;
	}
	return inode == FUSE_ROOT_ID || inode == FILE_INODE;
}

static void on_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .ino = FILE_INODE, .attr_timeout = forever, .entry_timeout = forever };
	if (parent != FUSE_ROOT_ID || strcmp(name, "file")) {
		fuse_reply_err(request, ENOENT);
		return;
	}
	attributes(FILE_INODE, &entry.attr);
	fuse_reply_entry(request, &entry);
}

static void on_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
	struct stat st;
	(void)info;
	if (attributes(inode, &st))
		fuse_reply_attr(request, &st, forever);
	else
		fuse_reply_err(request, ENOENT);
}

static void on_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *info)
{
	if (inode != FILE_INODE) {
		fuse_reply_err(request, EISDIR);
		return;
	}
	info->keep_cache = 1;
	fuse_reply_open(request, info);
}

static void reply(fuse_req_t request, size_t n, off_t at)
{
	size_t begin = at < (off_t)size ? (size_t)at : size;
	fuse_reply_buf(request, bytes + begin, n < size - begin ? n : size - begin);
}

static void on_read(fuse_req_t request, fuse_ino_t inode, size_t n, off_t at, struct fuse_file_info *info)
{
	(void)inode;
	(void)info;
	if (!stalled || nheld == HELD_MAX) {
		reply(request, n, at);
		return;
	}
	held[nheld].request = request;
	held[nheld].n = n;
	held[nheld++].at = at;
	printf("holding %zu\n", nheld);
	fflush(stdout);
}

/* False: nobody tells us anything any more. */
static bool obey(void)
{
	char line[64];
	ssize_t n = read(STDIN_FILENO, line, sizeof line - 1);
	if (n <= 0)
		return false;
	line[n] = 0;
	if (strstr(line, "stall")) {
		stalled = true;
		say("stalled");
	}
	if (strstr(line, "go")) {
		stalled = false;
		for (size_t i = 0; i < nheld; i++)
			reply(held[i].request, held[i].n, held[i].at);
		nheld = 0;
		say("gone on");
	}
	return true;
}

static char *contents(const char *path, size_t *ret_size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *to = fd < 0 || fstat(fd, &st) ? NULL : malloc((size_t)st.st_size);
	if (!to || read(fd, to, (size_t)st.st_size) != st.st_size)
		return NULL;
	close(fd);
	*ret_size = (size_t)st.st_size;
	return to;
}

static void serve(struct fuse_session *session)
{
	struct fuse_buf buffer = { 0 };
	struct pollfd fds[] = { { fuse_session_fd(session), POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 } };
	while (!fuse_session_exited(session)) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents && !obey())
			return;
		if (!fds[0].revents)
			continue;
		int n = fuse_session_receive_buf(session, &buffer);
		if (n > 0)
			fuse_session_process_buf(session, &buffer);
		else if (n != -EINTR && n != -EAGAIN)
			return;
	}
}

int main(int argc, char **argv)
{
	static const struct fuse_lowlevel_ops operations = {
		.lookup = on_lookup, .getattr = on_getattr, .open = on_open, .read = on_read
	};
	char *options[] = { argv[0], (char *)"-oallow_other,default_permissions" };
	struct fuse_args args = FUSE_ARGS_INIT(2, options);
	if (argc != 3 || !(bytes = contents(argv[2], &size)))
		return 2;
	struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, NULL);
	if (!session || fuse_session_mount(session, argv[1]))
		return 1;
	say("ready");
	serve(session);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return 0;
}
