/* The command line of bulkheadd. */
#include "supervisor.h"

#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char default_config[] = "/etc/bulkhead/bulkhead.conf";

static const char help[] =
	"usage: bulkheadd [OPTION]...\n"
	"\n"
	"Profiles this machine, in the foreground, one snapshot after the other. Needs root.\n"
	"\n"
	"  -c, --config FILE            instead of /etc/bulkhead/bulkhead.conf; the defaults hold where there is none\n"
	"      --check-config           say what is wrong in the configuration, and exit\n"
	"      --libexec-directory DIR  where the workers are; else beside bulkheadd, else " BULKHEAD_LIBEXECDIR "\n"
	"      --version                print the version\n"
	"  -h, --help                   this text\n"
	"\n"
	"SIGTERM and SIGINT finish the running snapshot's files; a second one exits at once. SIGHUP is ignored.\n"
	"\n"
	"Internal, for `bulkhead record`: one recording without a configuration.\n"
	"      --record\n"
	"      --runtime-directory DIR  exists already\n"
	"      --frequency HZ\n"
	"      --duration-ms N          0: until SIGTERM or SIGINT\n"
	"      --output FORMAT:FD       pprof, folded, html or summary, to an inherited fd; repeatable\n"
	"      --follow PID             only these and their children; repeatable\n"
	"      --ready-fd FD            gets \"ready\" and a newline when sampling is on\n"
	"      --owner-pid PID          the recording ends when this process does, without files\n"
	"      --no-realtime, --no-pin  as in the section [sampler] of the configuration\n"
	"      --log-level LEVEL        error, warning, info or debug\n"
	"\n"
	"Exit codes: 0 done; 1 failed; 2 wrong arguments or configuration; 3 not permitted; 4 a profile could not be "
	"written.\n";

enum option_id {
	OPTION_CHECK = 256,
	OPTION_LIBEXEC,
	OPTION_VERSION,
	OPTION_RECORD,
	OPTION_RUNTIME,
	OPTION_FREQUENCY,
	OPTION_DURATION,
	OPTION_OUTPUT,
	OPTION_FOLLOW,
	OPTION_READY,
	OPTION_OWNER,
	OPTION_NO_REALTIME,
	OPTION_NO_PIN,
	OPTION_LOG,
};

enum {
	FREQUENCY_MAX = 10000,  /* Hz; perf_event_max_sample_rate may be lower */
	RECORD_DEADLINE_S = 60, /* someone waits for this one file, and it has no successor that it could delay */
};

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "help", no_argument, NULL, 'h' },
	{ "check-config", no_argument, NULL, OPTION_CHECK },
	{ "libexec-directory", required_argument, NULL, OPTION_LIBEXEC },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ "record", no_argument, NULL, OPTION_RECORD },
	{ "runtime-directory", required_argument, NULL, OPTION_RUNTIME },
	{ "frequency", required_argument, NULL, OPTION_FREQUENCY },
	{ "duration-ms", required_argument, NULL, OPTION_DURATION },
	{ "output", required_argument, NULL, OPTION_OUTPUT },
	{ "follow", required_argument, NULL, OPTION_FOLLOW },
	{ "ready-fd", required_argument, NULL, OPTION_READY },
	{ "owner-pid", required_argument, NULL, OPTION_OWNER },
	{ "no-realtime", no_argument, NULL, OPTION_NO_REALTIME },
	{ "no-pin", no_argument, NULL, OPTION_NO_PIN },
	{ "log-level", required_argument, NULL, OPTION_LOG },
	{ 0 },
};

/* What the command line says over the configuration; applied after that is read. */
struct said {
	char *runtime;
	unsigned frequency;
	bool no_realtime, no_pin;
	int log_level;    /* -1: nothing */
	bool record_only; /* an option of the recording was used */
};

__attribute__((format(printf, 1, 2))) static int wrong(const char *format, ...)
{
	va_list args;
	fputs("bulkheadd: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("\n", stderr);
	return EXIT_USAGE;
}

static bool number(const char *text, int64_t least, int64_t most, int64_t *ret)
{
	char *end;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (errno || end == text || *end || value < least || value > most)
		return false;
	*ret = value;
	return true;
}

/* An inherited fd becomes ours: it must not travel to the workers. */
static int take_fd(const char *text, int *ret)
{
	int64_t fd;
	if (!number(text, 3, INT_MAX, &fd) || fcntl((int)fd, F_SETFD, FD_CLOEXEC))
		return -EBADF;
	*ret = (int)fd;
	return 0;
}

static int add_output(struct recording *r, char *text)
{
	char *colon = strchr(text, ':');
	if (!colon || r->outputs_count == OUTPUTS_MAX)
		return wrong("--output takes FORMAT:FD, at most %d times", OUTPUTS_MAX);
	*colon = 0;
	int format = output_format_from_name(text);
	if (format < 0)
		return wrong("'%s' is no format: pprof, folded, html or summary", text);
	if (take_fd(colon + 1, &r->outputs[r->outputs_count].fd) < 0)
		return wrong("--output %s: '%s' is no open file descriptor from 3 on", text, colon + 1);
	r->outputs[r->outputs_count++].format = (enum output_format)format;
	return -1;
}

static int parse_record(struct supervisor *s, struct said *said, int option)
{
	struct recording *r = &s->record;
	int64_t value;
	said->record_only = option != OPTION_RECORD || said->record_only;
	switch (option) {
	case OPTION_RECORD:
		r->on = true;
		return -1;
	case OPTION_RUNTIME:
		said->runtime = optarg;
		return -1;
	case OPTION_FREQUENCY:
		if (!number(optarg, 1, FREQUENCY_MAX, &value))
			return wrong("--frequency takes a number from 1 to %d", FREQUENCY_MAX);
		said->frequency = (unsigned)value;
		return -1;
	case OPTION_DURATION:
		if (!number(optarg, 0, INT64_MAX / NS_PER_S, &value))
			return wrong("--duration-ms takes a number");
		r->duration_ns = value * NS_PER_MS;
		return -1;
	case OPTION_OUTPUT:
		return add_output(r, optarg);
	case OPTION_FOLLOW:
		if (r->follow_count == FOLLOW_MAX || !number(optarg, 1, INT_MAX, &value))
			return wrong("--follow takes a process id, at most %d times", FOLLOW_MAX);
		r->follow[r->follow_count++] = (int32_t)value;
		return -1;
	case OPTION_READY:
		return take_fd(optarg, &r->ready_fd) < 0 ? wrong("--ready-fd: '%s' is no open file descriptor", optarg)
							 : -1;
	case OPTION_OWNER:
		if (!number(optarg, 1, INT_MAX, &value))
			return wrong("--owner-pid takes a process id");
		r->owner = (pid_t)value;
		return -1;
	case OPTION_NO_REALTIME:
		said->no_realtime = true;
		return -1;
	case OPTION_NO_PIN:
		said->no_pin = true;
		return -1;
	case OPTION_LOG:
		said->log_level = log_level_from_name(optarg);
		return said->log_level < 0 ? wrong("'%s' is no log level: error, warning, info or debug", optarg) : -1;
	default:
		return EXIT_USAGE;
	}
}

static int parse(struct supervisor *s, struct said *said, int argc, char **argv)
{
	for (int option; (option = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
		int r = -1;
		switch (option) {
		case 'c':
			s->config_path = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_OK;
		case '?':
			return EXIT_USAGE;
		case OPTION_VERSION:
			puts("bulkheadd " BULKHEAD_VERSION);
			return EXIT_OK;
		case OPTION_CHECK:
			s->check_only = true;
			break;
		case OPTION_LIBEXEC:
			s->libexec = optarg;
			break;
		default:
			r = parse_record(s, said, option);
		}
		if (r >= 0)
			return r;
	}
	if (optind < argc)
		return wrong("'%s' means nothing here, see --help", argv[optind]);
	if (said->record_only && !s->record.on)
		return wrong("that option goes with --record only, see --help");
	if (s->record.on && (s->config_path || s->check_only))
		return wrong("--record takes no configuration");
	if (s->record.on && (!said->runtime || !s->record.outputs_count))
		return wrong("--record needs --runtime-directory and --output");
	return -1;
}

static int load_config(struct supervisor *s)
{
	bool usual = !s->config_path;
	if (usual)
		s->config_path = default_config;
	if (usual && access(default_config, F_OK) && errno == ENOENT)
		return -1;
	return config_load(&s->config, s->config_path, stderr) < 0 ? EXIT_USAGE : -1;
}

static int apply(struct supervisor *s, const struct said *said)
{
	struct config *c = &s->config;
	if (said->runtime) {
		free(c->runtime_directory);
		c->runtime_directory = strdup(said->runtime);
		if (!c->runtime_directory)
			return EXIT_RUNTIME;
	}
	if (said->frequency)
		c->frequency = said->frequency;
	if (said->log_level >= 0)
		c->log_level = (enum log_level)said->log_level;
	c->realtime = c->realtime && !said->no_realtime;
	c->pin = c->pin && !said->no_pin;
	if (s->record.on)
		c->deadline_ns = RECORD_DEADLINE_S * NS_PER_S;
	return -1;
}

int options_parse(struct supervisor *s, int argc, char **argv)
{
	struct said said = { .log_level = -1 };
	s->record.ready_fd = s->record.owner_pidfd = -1;
	config_defaults(&s->config);
	int r = parse(s, &said, argc, argv);
	if (r < 0 && !s->record.on)
		r = load_config(s);
	if (r < 0)
		r = apply(s, &said);
	if (r < 0 && s->check_only) {
		printf("%s is fine\n", s->config_path);
		return EXIT_OK;
	}
	return r;
}
