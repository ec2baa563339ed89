/* Log lines of every process: "<level> <process>: text" on standard error, one line each, control bytes escaped.
 * errno is preserved. Workers replace the sink so that lines travel to the supervisor as LOG frames. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_MAX };

/* A log line longer than this many bytes is cut. */
enum { LOG_LINE_MAX = 512 };

typedef void log_sink(enum log_level level, const char *text);

void log_process(const char *name);     /* name shown in each line; borrowed */
void log_set_level(enum log_level max); /* default: info */
enum log_level log_get_level(void);
void log_set_sink(log_sink *sink);         /* NULL: standard error */
int log_level_from_name(const char *name); /* -EINVAL when unknown */
const char *log_level_name(enum log_level level);

__attribute__((format(printf, 2, 3))) void log_at(enum log_level level, const char *format, ...);

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
