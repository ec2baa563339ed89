#include "record.h"

#include "common/log.h"
#include "output.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	DEFAULT_DURATION_MS = 10000,
	DEFAULT_FREQUENCY = 99, /* not 100: samples should not fall into step with timers */
	FREQUENCY_MAX = 1000,   /* above, the profiler is the load */
	DURATION_MAX_S = 86400,
};

#define DURATION_MIN_S 0.1

void record_help(void)
{
	puts("usage: bulkhead record [OPTION]... [-o FILE]... [-- COMMAND [ARG]...]\n"
	     "\n"
	     "Profiles the whole machine, or the given processes and their children, without a running service.\n"
	     "\n"
	     "  -d, --duration SECONDS  how long (0.1 to 86400; default 10; with a command: until it ends)\n"
	     "  -F, --frequency HZ      samples a second on each CPU (1 to 1000; default 99)\n"
	     "  -p, --pid PID[,PID]...  only these processes and their children; may be repeated\n"
	     "  -o, --output FILE       may be repeated; the ending chooses the format: .html (flame graph), .pb.gz "
	     "(pprof),\n"
	     "                          .folded (default: bulkhead.html and bulkhead.pb.gz in the current directory)\n"
	     "      --no-realtime       do not read samples at real-time priority\n"
	     "      --no-pin            do not pin readers to CPUs\n"
	     "      --log-level LEVEL   error, warning (default), info or debug\n"
	     "  -h, --help              this text\n"
	     "\n"
	     "Ctrl-C ends the recording early and still writes. Everything else: bulkhead(1).");
}

static int wrong(int *ret_exit)
{
	fputs("Try: bulkhead record --help\n", stderr);
	*ret_exit = CTL_USAGE;
	return -1;
}

static int parse_duration(struct record_options *o, const char *text)
{
	char *end;
	double seconds = strtod(text, &end);
	if (end == text || (*end && strcmp(end, "s")) || !(seconds >= DURATION_MIN_S && seconds <= DURATION_MAX_S)) {
		ctl_error("-d %s: not a number of seconds from 0.1 to 86400", text);
		return -EINVAL;
	}
	o->duration_ms = (int64_t)(seconds * 1000 + 0.5);
	return 0;
}

static int parse_frequency(struct record_options *o, const char *text)
{
	char *end;
	errno = 0;
	long hz = strtol(text, &end, 10);
	if (errno || end == text || *end || hz < 1 || hz > FREQUENCY_MAX) {
		ctl_error("-F %s: not a whole number of Hz from 1 to 1000", text);
		return -EINVAL;
	}
	o->frequency = (unsigned)hz;
	return 0;
}

static int parse_pids(struct record_options *o, const char *text)
{
	for (const char *at = text;; at++) {
		char *end;
		errno = 0;
		long pid = strtol(at, &end, 10);
		if (errno || end == at || (*end && *end != ',') || pid < 1 || pid > INT32_MAX) {
			ctl_error("-p %s: not a process id, or several with commas between", text);
			return -EINVAL;
		}
		if (o->named_count == RECORD_NAMED_MAX) {
			ctl_error("-p: more than %d processes: profile the whole machine instead", RECORD_NAMED_MAX);
			return -EINVAL;
		}
		o->named[o->named_count++] = (pid_t)pid;
		at = end;
		if (!*at)
			return 0;
	}
}

static int add_file(struct record_options *o, const char *path)
{
	if (output_format_of(path) < 0) {
		ctl_error("-o %s: the ending chooses the format: .html (flame graph), .pb.gz (pprof) or .folded", path);
		return -EINVAL;
	}
	for (unsigned i = 0; i < o->files_count; i++)
		if (!strcmp(o->files[i], path)) {
			ctl_error("-o %s: given twice", path);
			return -EINVAL;
		}
	if (o->files_count == RECORD_FILES_MAX) {
		ctl_error("-o: more than %d files", RECORD_FILES_MAX);
		return -EINVAL;
	}
	o->files[o->files_count++] = path;
	return 0;
}

static int set_log_level(struct record_options *o, const char *level)
{
	if (log_level_from_name(level) < 0) {
		ctl_error("--log-level %s: not one of error, warning, info, debug", level);
		return -EINVAL;
	}
	o->log_level = level;
	return 0;
}

int record_options_parse(int argc, char **argv, struct record_options *ret, int *ret_exit)
{
	static const struct option options[] = { { "duration", required_argument, NULL, 'd' },
		{ "frequency", required_argument, NULL, 'F' }, { "pid", required_argument, NULL, 'p' },
		{ "output", required_argument, NULL, 'o' }, { "no-realtime", no_argument, NULL, 'R' },
		{ "no-pin", no_argument, NULL, 'P' }, { "log-level", required_argument, NULL, 'L' },
		{ "help", no_argument, NULL, 'h' }, { 0 } };
	struct record_options o = { .frequency = DEFAULT_FREQUENCY, .log_level = "warning" };
	int err = 0;
	for (int c; !err && (c = getopt_long(argc, argv, "+d:F:p:o:h", options, NULL)) != -1;) {
		switch (c) {
		case 'd':
			err = parse_duration(&o, optarg);
			break;
		case 'F':
			err = parse_frequency(&o, optarg);
			break;
		case 'p':
			err = parse_pids(&o, optarg);
			break;
		case 'o':
			err = add_file(&o, optarg);
			break;
		case 'R':
			o.no_realtime = true;
			break;
		case 'P':
			o.no_pin = true;
			break;
		case 'L':
			err = set_log_level(&o, optarg);
			break;
		case 'h':
			record_help();
			*ret_exit = CTL_OK;
			return -1;
		default:
			return wrong(ret_exit);
		}
	}
	if (err)
		return wrong(ret_exit);
	if (argv[optind])
		o.command = argv + optind;
	if (!o.duration_ms && !o.command)
		o.duration_ms = DEFAULT_DURATION_MS;
	if (!o.files_count) {
		o.files[o.files_count++] = "bulkhead.html";
		o.files[o.files_count++] = "bulkhead.pb.gz";
	}
	*ret = o;
	return 0;
}
