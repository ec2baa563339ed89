#include "status.h"

#include "ask.h"
#include "ctl.h"
#include "json.h"

#include <getopt.h>
#include <string.h>

struct status_options {
	const char *socket;
	bool json;
	enum ask ask;
};

void status_help(void)
{
	puts("usage: bulkhead status [OPTION]...\n"
	     "\n"
	     "Asks the running service what it runs and whether it is healthy.\n"
	     "\n"
	     "      --json           the whole answer as JSON\n"
	     "      --ledger         every fd and process that is lent out, instead\n"
	     "      --targets        every profiled process: whose lane it is in, its runtime and version, what became "
	     "of\n"
	     "                       its samples, and why where it has no frames of its runtime\n"
	     "  -s, --socket SOCKET  another one than /run/bulkhead/status.sock\n"
	     "  -h, --help           this text\n"
	     "\n"
	     "Exit code 0: it runs and is healthy; 1: not; 2: wrong arguments; 3: not permitted.");
}

static int parse(int argc, char **argv, struct status_options *o, int *ret_exit)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
		{ "ledger", no_argument, NULL, 'l' }, { "targets", no_argument, NULL, 't' },
		{ "socket", required_argument, NULL, 's' }, { "help", no_argument, NULL, 'h' }, { 0 } };
	for (int c; (c = getopt_long(argc, argv, "s:h", options, NULL)) != -1;) {
		switch (c) {
		case 'j':
			o->json = true;
			break;
		case 'l':
			o->ask = ASK_LEDGER;
			break;
		case 't':
			o->ask = ASK_TARGETS;
			break;
		case 's':
			o->socket = optarg;
			break;
		case 'h':
			status_help();
			*ret_exit = CTL_OK;
			return -1;
		default:
			*ret_exit = CTL_USAGE;
			return -1;
		}
	}
	if (argv[optind]) {
		ctl_error("status takes no argument '%s'", argv[optind]);
		*ret_exit = CTL_USAGE;
		return -1;
	}
	return 0;
}

static void print_json(const pack *answer)
{
	struct buf text = { 0 };
	json_put(&text, answer);
	buf_put_u8(&text, '\n');
	if (!text.failed)
		fwrite(text.data, 1, text.len, stdout);
	buf_free(&text);
}

int status_main(int argc, char **argv)
{
	struct status_options o = { .socket = ASK_DEFAULT_SOCKET, .ask = ASK_STATUS };
	int result = CTL_OK;
	if (parse(argc, argv, &o, &result))
		return result;
	struct buf answer = { .limit = PACK_MAX_BYTES };
	msgpack_unpacked tree;
	int err = ask(o.socket, o.ask, ASK_PATIENCE_MS, &answer);
	if (!err)
		err = pack_unpack(answer.data, answer.len, &tree);
	if (err) {
		buf_free(&answer);
		return ask_explain(o.socket, err);
	}
	if (o.json)
		print_json(&tree.data);
	else if (o.ask != ASK_STATUS)
		status_print_generic(&tree.data, stdout);
	else
		status_print(&tree.data, stdout);
	if (o.ask == ASK_STATUS && !pack_bool(&tree.data, "healthy", true))
		result = CTL_FAILED;
	msgpack_unpacked_destroy(&tree);
	buf_free(&answer);
	return result;
}
