#include "supervisor.h"

#include "common/clock.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un address;
static socklen_t address_size; /* 0: nobody listens */
static int socket_fd = -1;
static int64_t watchdog_ns, watchdog_said_ns;

void notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET"), *watchdog = getenv("WATCHDOG_USEC");
	size_t n = path ? strlen(path) : 0;
	if (n > 1 && n < sizeof address.sun_path && (*path == '/' || *path == '@')) {
		address.sun_family = AF_UNIX;
		memcpy(address.sun_path, path, n);
		if (*path == '@')
			address.sun_path[0] = 0; /* abstract */
		address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
		socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	if (watchdog)
		watchdog_ns = strtoll(watchdog, NULL, 10) * NS_PER_US;
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void notify_say(const char *format, ...)
{
	char text[256];
	va_list args;
	if (socket_fd < 0)
		return;
	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (n > 0 && n < (int)sizeof text)
		(void)sendto(socket_fd, text, (size_t)n, MSG_NOSIGNAL, (struct sockaddr *)&address, address_size);
}

bool notify_watchdog(void)
{
	int64_t now = monotonic_ns();
	if (watchdog_ns <= 0 || now - watchdog_said_ns < watchdog_ns / 3)
		return false;
	watchdog_said_ns = now;
	notify_say("WATCHDOG=1");
	return true;
}
