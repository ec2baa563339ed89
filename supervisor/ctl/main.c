#include "ctl.h"
#include "operate.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	char *title; /* argv[0], for getopt's messages */
	int (*run)(int argc, char **argv);
	void (*help)(void);
	const char *words;
} commands[] = {
	{ "record", (char[]) { "bulkhead record" }, record_main, record_help,
		"profile this machine, some processes or a command, without a running service" },
	{ "status", (char[]) { "bulkhead status" }, status_main, status_help,
		"what the service runs, and whether it is healthy" },
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void help(FILE *out)
{
	fputs("usage: bulkhead COMMAND [OPTION]...\n\n", out);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-15s %s\n", commands[i].name, commands[i].words);
	operate_list(out);
	fputs("\n  -h, --help     this text; bulkhead COMMAND --help for that of a command\n"
	      "  -V, --version  the version\n\nExit codes\n",
		out);
#define EXIT(name, number, words) fprintf(out, "  %d  %s\n", number, words);
	CTL_EXITS(EXIT)
#undef EXIT
}

/* A closed standard fd would become one of our files, and the next message would be written into it. */
static void open_standard_fds(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
		fcntl(i, F_SETFD, 0);
}

int main(int argc, char **argv)
{
	open_standard_fds();
	const char *name = argc > 1 ? argv[1] : "";
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || (!strcmp(name, "help") && argc == 2)) {
		help(stdout);
		return CTL_OK;
	}
	if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
		puts("bulkhead " BULKHEAD_VERSION);
		return CTL_OK;
	}
	bool help_wanted = !strcmp(name, "help");
	if (help_wanted)
		name = argv[2];
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i].name, name))
			continue;
		if (!help_wanted) {
			argv[1] = commands[i].title;
			return commands[i].run(argc - 1, argv + 1);
		}
		commands[i].help();
		return CTL_OK;
	}
	if (operate_known(name)) {
		if (!help_wanted)
			return operate_main(name, argc - 1, argv + 1);
		operate_help(name);
		return CTL_OK;
	}
	if (*name)
		ctl_error("there is no command '%s'", name);
	help(stderr);
	return CTL_USAGE;
}
