/*
 * log.h - structured log: one event a line, JSON to a file or pipe, short text to a terminal, on
 * stderr. An object prints its own prefix by passing its fields first. Never blocks: a worker's or
 * agent's line that the reader does not take is dropped and counted (log_dropped).
 */
#ifndef HG_LOG_H
#define HG_LOG_H

#include "base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* `role`: "master", "worker 0", "agent", …: kept, not copied. */
void log_init(const char *role, enum log_level level);
void log_set_level(enum log_level level);
bool log_level_parse(struct str s, enum log_level *out) MUST_USE;
bool log_enabled(enum log_level level);

/*
 * log_event(LOG_INFO, "instance ready", "service", "%s", name, "pid", "%d", pid, NULL):
 * `what` then triples of key, printf format with exactly one conversion, and its value (const
 * char *, int, unsigned, long, size_t, uint64_t as PRIu64 …), NULL last. Values are escaped.
 */
void log_event(enum log_level level, const char *what, ...) __attribute__((sentinel));
#define log_debug(...) (log_enabled(LOG_DEBUG) ? log_event(LOG_DEBUG, __VA_ARGS__, NULL) : (void)0)
#define log_info(...)  log_event(LOG_INFO, __VA_ARGS__, NULL)
#define log_warn(...)  log_event(LOG_WARN, __VA_ARGS__, NULL)
#define log_error(...) log_event(LOG_ERROR, __VA_ARGS__, NULL)
uint64_t log_dropped(void);

#endif
