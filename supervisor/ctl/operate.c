/* Orders of the operator's to the running service: `bulkhead restart native`, and the like. The list is proto/messages.h's. */
#include "operate.h"

#include "ask.h"
#include "ctl.h"
#include "pack.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *argument, *words;
	enum operate order;
} orders[] = {
#define OPERATE(name, number, argument, words) { #name, argument, words, OPERATE_##name },
	OPERATES(OPERATE)
#undef OPERATE
};

enum { ORDERS = sizeof orders / sizeof *orders };

static int find(const char *name)
{
	for (int i = 0; i < ORDERS; i++)
		if (!strcmp(orders[i].name, name))
			return i;
	return -1;
}

bool operate_known(const char *name)
{
	return find(name) >= 0;
}

void operate_list(FILE *out)
{
	for (size_t i = 0; i < ORDERS; i++) {
		char usage[64];
		snprintf(usage, sizeof usage, "%s%s%s", orders[i].name, orders[i].argument ? " " : "",
			orders[i].argument ? orders[i].argument : "");
		fprintf(out, "  %-15s %s\n", usage, orders[i].words);
	}
}

void operate_help(const char *name)
{
	int i = find(name);
	printf("usage: bulkhead %s [OPTION]...%s%s\n\nTells the running service to %s. Only root may.\n\n"
	       "  -s, --socket SOCKET  another one than " ASK_DEFAULT_SOCKET "\n"
	       "  -h, --help           this text\n\n"
	       "Exit code 0: done; 1: not done, standard error says why; 2: wrong arguments; 3: not permitted.\n",
		name, orders[i].argument ? " " : "", orders[i].argument ? orders[i].argument : "", orders[i].words);
}

static int give(const char *socket, enum operate order, const char *argument)
{
	struct buf answer = { .limit = PACK_MAX_BYTES };
	msgpack_unpacked tree;
	char words[512];
	int err = ask_operate(socket, order, argument, &answer);
	if (!err)
		err = pack_unpack(answer.data, answer.len, &tree);
	if (err) {
		buf_free(&answer);
		return ask_explain(socket, err);
	}
	bool done = pack_bool(&tree.data, "done", false);
	pack_text(&tree.data, "words", words, sizeof words);
	if (done)
		puts(words);
	else
		ctl_error("%s", words);
	msgpack_unpacked_destroy(&tree);
	buf_free(&answer);
	return done ? CTL_OK : CTL_FAILED;
}

int operate_main(const char *name, int argc, char **argv)
{
	static const struct option options[] = { { "socket", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' }, { 0 } };
	const char *socket = ASK_DEFAULT_SOCKET;
	int i = find(name);
	for (int c; (c = getopt_long(argc, argv, "s:h", options, NULL)) != -1;) {
		switch (c) {
		case 's':
			socket = optarg;
			break;
		case 'h':
			operate_help(name);
			return CTL_OK;
		default:
			return CTL_USAGE;
		}
	}
	int wanted = orders[i].argument ? 1 : 0;
	if (argc - optind != wanted) {
		if (wanted)
			ctl_error("%s takes one argument: %s", name, orders[i].argument);
		else
			ctl_error("%s takes no argument '%s'", name, argv[optind]);
		return CTL_USAGE;
	}
	return give(socket, orders[i].order, wanted ? argv[optind] : "");
}
