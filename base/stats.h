/*
 * stats.h - the shared segment: one slot of counters a process, so that metrics cost no message.
 * The table below is the one list that status, metrics and docs read.
 */
#ifndef HG_STATS_H
#define HG_STATS_H

#include "base/base.h"

/*
 * name, kind (counter only grows | gauge), help. A new one is told to Prometheus as headgate_NAME,
 * counters with _total behind it; metrics_families.c has those that are called otherwise. What the
 * master alone knows it keeps in its own slot (master_metrics.c). Labelled ones: proxy/rows.h.
 */
#define STATS_TABLE(X)                                                                           \
    X(connections_total, counter, "client connections accepted")                                 \
    X(connections, gauge, "client connections open now")                                         \
    X(connections_refused, counter, "connections refused at once by reason")                     \
    X(proxy_headers_bad, counter, "connections refused at once by reason")                       \
    X(connections_handshake, gauge, "client connections open now by protocol and transport")     \
    X(connections_h1, gauge, "client connections open now by protocol and transport")            \
    X(connections_h1_tls, gauge, "client connections open now by protocol and transport")        \
    X(connections_h2, gauge, "client connections open now by protocol and transport")            \
    X(connections_h2_tls, gauge, "client connections open now by protocol and transport")        \
    X(connections_tcp, gauge, "client connections open now by protocol and transport")           \
    X(connections_tcp_tls, gauge, "client connections open now by protocol and transport")       \
    X(handshakes_full, counter, "TLS handshakes by result")                                      \
    X(handshakes_resumed, counter, "TLS handshakes by result")                                   \
    X(handshakes_failed, counter, "TLS handshakes by result")                                    \
    X(requests_total, counter, "requests begun")                                                 \
    X(requests_limited, counter, "requests refused by rate_limit")                               \
    X(requests, gauge, "requests under way now")                                                 \
    X(requests_http, gauge, "requests and streams under way now by kind")                        \
    X(requests_grpc, gauge, "requests and streams under way now by kind")                        \
    X(requests_grpc_web, gauge, "requests and streams under way now by kind")                    \
    X(requests_websocket, gauge, "requests and streams under way now by kind")                   \
    X(requests_sse, gauge, "requests and streams under way now by kind")                         \
    X(answers_2xx, counter, "answers by class of status")                                        \
    X(answers_3xx, counter, "answers by class of status")                                        \
    X(answers_4xx, counter, "answers by class of status")                                        \
    X(answers_5xx, counter, "answers by class of status")                                        \
    X(requests_aborted, counter, "requests whose client or backend went away in the middle")     \
    X(requests_waiting, gauge, "requests that wait for a ready instance now")                    \
    X(bytes_in, counter, "bytes read from clients")                                              \
    X(bytes_out, counter, "bytes written to clients")                                            \
    X(backend_connects, counter, "connections opened to backends")                               \
    X(backend_connect_failures, counter, "connections to backends that failed")                  \
    X(backend_connections, gauge, "connections to backends open now")                            \
    X(backend_idle, gauge, "kept connections to backends that are idle now")                     \
    X(backend_retries, counter, "requests sent again after a stale kept connection")             \
    X(held_bytes, gauge, "memory held for clients now: bodies that wait, heads, protocol state") \
    X(held_bytes_peak, gauge, "the most that was held for clients at once")                      \
    X(promised_bytes, gauge, "what clients may send now without being asked again")              \
    X(budget_waits, counter, "clients that had to wait because memory for them was used up")     \
    X(streams_refused, counter, "streams refused because memory for them was used up")           \
    X(access_dropped, counter, "access log lines dropped because the reader was slow")           \
    X(log_dropped, counter, "log lines dropped because the reader was slow")                     \
    X(config_generation, gauge, "generation of the configuration in use")                        \
    X(serving, gauge, "1 while the server serves, 0 while it starts or stops")                   \
    X(reloading, gauge, "1 while a reload is under way")                                         \
    X(reloads_done, counter, "reloads by outcome; certificate files read again count too")       \
    X(reloads_refused, counter, "reloads by outcome")                                            \
    X(reload_ok, gauge, "1 when the last reload was applied, 0 when it was refused")             \
    X(reload_at, gauge, "when the last reload that was applied ended")                           \
    X(workers_wanted, gauge, "workers that the configuration asks for")                          \
    X(workers_serving, gauge, "workers that serve now")                                          \
    X(worker_restarts, counter, "own processes that ended by themselves and were restarted")     \
    X(agent_restarts, counter, "own processes that ended by themselves and were restarted")

enum stats_id {
#define X(name, kind, help) STAT_##name,
    STATS_TABLE(X)
#undef X
        STAT_COUNT
};

#define STATS_SLOTS 260 /* 256 workers, master, agent, and room */

struct stats_slot {
    int64_t v[STAT_COUNT];
} __attribute__((aligned(64)));

extern struct stats_slot *stats_self; /* never NULL: a private slot until stats_attach */
static inline void stats_add(enum stats_id s, int64_t n)
{
    __atomic_store_n(&stats_self->v[s], stats_self->v[s] + n, __ATOMIC_RELAXED);
}
#define stats_inc(name) stats_add(STAT_##name, 1)
#define stats_dec(name) stats_add(STAT_##name, -1)

int stats_create(void); /* master: a sealed-size memfd; dies on failure */
const char *stats_attach(int fd, unsigned slot) MUST_USE; /* maps it, takes the slot */
int64_t stats_sum(enum stats_id s);                       /* over all slots */
int64_t stats_slot_get(unsigned slot, enum stats_id s);
void stats_slot_died(unsigned slot); /* gauges of a dead process go to zero */
const char *stats_name(enum stats_id s);
const char *stats_help(enum stats_id s);
bool stats_is_gauge(enum stats_id s);

#endif
