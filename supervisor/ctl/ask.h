/* One question to a supervisor, on its status socket. */
#ifndef CTL_ASK_H
#define CTL_ASK_H

#include "common/buf.h"
#include "proto/messages.h"

/* Appends the answer's bytes to `out` (cleared first). 0; -ENOENT or -ECONNREFUSED: no supervisor is there; -EACCES:
 * not permitted; -ETIMEDOUT; -EBADMSG: not an answer; -errno. */
int ask(const char *socket_path, enum ask question, int timeout_ms, struct buf *out);
/* Likewise an order. */
int ask_operate(const char *socket_path, enum operate order, const char *argument, struct buf *out);

#define ASK_DEFAULT_SOCKET "/run/bulkhead/status.sock"
enum { ASK_PATIENCE_MS = 5000 /* the supervisor's loop never stalls this long */ };
/* Says what an error of these means. The exit code. */
int ask_explain(const char *socket_path, int error);

#endif
