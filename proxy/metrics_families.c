/*
 * metrics_families.c - which metrics there are: their names, types, words and what they are made
 * of; and their text for Prometheus and for the manual. Counts nothing itself.
 *
 * Names: headgate_, what is measured, the base unit, _total for counters.
 */
#include <inttypes.h>

#include "base/stats.h"
#include "conf/mdoc.h"
#include "proxy/metrics.h"
#include "proxy/roles.h"

enum type { COUNTER, GAUGE, HISTOGRAM };
enum unit { ONE, MICROSECONDS }; /* shown as seconds */

static const char *const type_names[] = {
    [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram"};

/* ---- the stats table's metrics ---- */

enum where { EVERYWHERE, MASTER, NOWHERE }; /* summed over all, the master's slot, not told */

/* Those that are not called headgate_NAME. One after the other in the stats table: one family. */
static const struct plain {
    const char *name, *labels;
    enum where where;
} plain[STAT_COUNT] = {
    [STAT_connections_total] = {"headgate_connections_total"},
    [STAT_connections_refused] = {"headgate_connections_refused_total", "reason=\"per_ip\""},
    [STAT_proxy_headers_bad] = {"headgate_connections_refused_total", "reason=\"proxy_protocol\""},
    [STAT_connections] = {.where = NOWHERE}, /* the sum of those below */
#define CONNECTIONS(protocol, transport) \
    "headgate_connections", "protocol=\"" protocol "\",transport=\"" transport "\""
    [STAT_connections_handshake] = {CONNECTIONS("none", "handshake")},
    [STAT_connections_h1] = {CONNECTIONS("http/1.1", "plain")},
    [STAT_connections_h1_tls] = {CONNECTIONS("http/1.1", "tls")},
    [STAT_connections_h2] = {CONNECTIONS("h2", "plain")},
    [STAT_connections_h2_tls] = {CONNECTIONS("h2", "tls")},
    [STAT_connections_tcp] = {CONNECTIONS("tcp", "plain")}, /* streams */
    [STAT_connections_tcp_tls] = {CONNECTIONS("tcp", "tls")},
#undef CONNECTIONS
    [STAT_handshakes_full] = {"headgate_tls_handshakes_total", "result=\"full\""},
    [STAT_handshakes_resumed] = {"headgate_tls_handshakes_total", "result=\"resumed\""},
    [STAT_handshakes_failed] = {"headgate_tls_handshakes_total", "result=\"failed\""},
    [STAT_requests_total] = {"headgate_http_requests_begun_total"},
    [STAT_requests_limited] = {"headgate_http_requests_limited_total"},
    [STAT_requests] = {.where = NOWHERE}, /* the sum of those below */
    [STAT_requests_http] = {"headgate_http_requests_in_flight", "kind=\"http\""},
    [STAT_requests_grpc] = {"headgate_http_requests_in_flight", "kind=\"grpc\""},
    [STAT_requests_grpc_web] = {"headgate_http_requests_in_flight", "kind=\"grpc-web\""},
    [STAT_requests_websocket] = {"headgate_http_requests_in_flight", "kind=\"websocket\""},
    [STAT_requests_sse] = {"headgate_http_requests_in_flight", "kind=\"sse\""},
    /* headgate_http_requests_total has them by class */
    [STAT_answers_2xx] = {.where = NOWHERE},
    [STAT_answers_3xx] = {.where = NOWHERE},
    [STAT_answers_4xx] = {.where = NOWHERE},
    [STAT_answers_5xx] = {.where = NOWHERE},
    [STAT_requests_aborted] = {"headgate_http_requests_aborted_total"},
    [STAT_requests_waiting] = {"headgate_http_requests_waiting"},
    [STAT_bytes_in] = {"headgate_received_bytes_total"},
    [STAT_bytes_out] = {"headgate_sent_bytes_total"},
    /* headgate_service_… has them by service */
    [STAT_backend_connects] = {.where = NOWHERE},
    [STAT_backend_connect_failures] = {.where = NOWHERE},
    [STAT_backend_retries] = {.where = NOWHERE},
    [STAT_backend_idle] = {"headgate_backend_idle_connections"},
    [STAT_access_dropped] = {"headgate_access_log_dropped_lines_total"},
    [STAT_log_dropped] = {"headgate_log_dropped_lines_total"},
    [STAT_config_generation] = {.where = MASTER},
    [STAT_serving] = {.where = MASTER},
    [STAT_reloading] = {.where = MASTER},
    [STAT_reloads_done] = {"headgate_reloads_total", "result=\"applied\""},
    [STAT_reloads_refused] = {"headgate_reloads_total", "result=\"refused\""},
    [STAT_reload_ok] = {"headgate_last_reload_successful", NULL, MASTER},
    [STAT_reload_at] = {"headgate_last_reload_success_timestamp_seconds", NULL, MASTER},
    [STAT_worker_restarts] = {"headgate_process_restarts_total", "process=\"worker\""},
    [STAT_agent_restarts] = {"headgate_process_restarts_total", "process=\"agent\""},
};

/* The family's name of a stat, in `mem` when it is made here. */
static const char *plain_name(enum stats_id s, char mem[static 128])
{
    if (plain[s].name)
        return plain[s].name;
    struct str name = str_of(stats_name(s));
    const bool total = !stats_is_gauge(s) && !str_ends(name, STR("_total"));
    struct out o = out_on(mem, 127);
    out_fmt(&o, "headgate_" STR_FMT "%s", STR_ARG(name), total ? "_total" : "");
    mem[o.n] = '\0';
    return mem;
}

/* ---- the rows' metrics ---- */

/* A further label, which counts through an array of values. */
struct dimension {
    const char *label;
    const char *const *values;
    unsigned n;
};

static const char *const methods[ROW_METHODS] = {"other",  "GET",     "HEAD",    "POST",  "PUT",
                                                 "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
static const char *const classes[CLASSES] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
static const char *const states[ROW_STATES] = {"backoff", "starting", "ready",
                                               "unready", "draining", "stopping"};
static const char *const call_kinds[ROW_CALL_KINDS] = {"grpc", "grpc-web"};
static const char *const call_shapes[ROW_CALL_SHAPES] = {"unary", "client_stream", "server_stream",
                                                         "bidi_stream"};
static const char *const call_statuses[ROW_CALL_STATUSES] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};
static const struct dimension by_method = {"method", methods, ROW_METHODS};
static const struct dimension by_class = {"status", classes, CLASSES};
static const struct dimension by_state = {"state", states, ROW_STATES};
static const struct dimension by_call_kind = {"kind", call_kinds, ROW_CALL_KINDS};
static const struct dimension by_call = {"call", call_shapes, ROW_CALL_SHAPES};
static const struct dimension by_call_status = {"grpc_status", call_statuses, ROW_CALL_STATUSES};

#define DIMENSIONS 3

static const struct family {
    const char *name;
    enum row_kind kind;
    enum type type;
    enum unit unit;
    size_t offset; /* in the kind's struct */
    /* NULL after the last; the values of each are an array of the next. */
    const struct dimension *by[DIMENSIONS];
    bool sparse; /* what is 0 is left out */
    const char *help;
} families[] = {
#define ROUTE(field)       ROW_ROUTE, .offset = offsetof(struct route_row, field)
#define SERVICE(field)     ROW_SERVICE, .offset = offsetof(struct service_row, field)
#define LISTENER(field)    ROW_LISTENER, .offset = offsetof(struct listener_row, field)
#define PROCESS(field)     ROW_PROCESS, .offset = offsetof(struct process_row, field)
#define CERTIFICATE(field) ROW_CERTIFICATE, .offset = offsetof(struct certificate_row, field)
    {"headgate_http_requests_total", ROUTE(requests), .type = COUNTER,
     .by = {&by_method, &by_class}, .sparse = true,
     .help = "requests that ended, by method and class of status; none: the client or the backend "
             "went away before an answer"},
    {"headgate_http_request_duration_seconds", ROUTE(seconds), .type = HISTOGRAM,
     .help = "time from a request's head to the end of its answer"},
    {"headgate_http_request_body_bytes_total", ROUTE(body_in), .type = COUNTER,
     .help = "bytes of request bodies"},
    {"headgate_http_response_body_bytes_total", ROUTE(body_out), .type = COUNTER,
     .help = "bytes of answers' bodies"},
    {"headgate_grpc_calls_total", ROUTE(calls), .type = COUNTER,
     .by = {&by_call_kind, &by_call, &by_call_status}, .sparse = true,
     .help = "gRPC and gRPC-Web calls that ended; call: as far as the messages told"},
    {"headgate_grpc_request_messages_total", ROUTE(messages_in), .type = COUNTER, .sparse = true,
     .help = "whole messages from clients in gRPC and gRPC-Web calls that ended"},
    {"headgate_grpc_response_messages_total", ROUTE(messages_out), .type = COUNTER, .sparse = true,
     .help = "whole messages to clients in gRPC and gRPC-Web calls that ended"},
    {"headgate_service_answers_total", SERVICE(answers), .type = COUNTER, .by = {&by_class},
     .sparse = true, .help = "answers of the service's instances by class of status"},
    {"headgate_service_response_duration_seconds", SERVICE(seconds), .type = HISTOGRAM,
     .help = "time from the choice of an instance to the head of its answer"},
    {"headgate_service_connects_total", SERVICE(connects), .type = COUNTER,
     .help = "connections opened to instances"},
    {"headgate_service_connect_failures_total", SERVICE(connect_failures), .type = COUNTER,
     .help = "connections to instances that failed"},
    {"headgate_service_retries_total", SERVICE(retries), .type = COUNTER,
     .help = "requests sent again, on another connection or to another instance"},
    {"headgate_service_failures_total", SERVICE(failures), .type = COUNTER,
     .help = "requests that an instance did not answer, or not to the end"},
    {"headgate_service_unavailable_total", SERVICE(unavailable), .type = COUNTER,
     .help = "requests for which no instance was ready in time"},
    {"headgate_service_requests_in_flight", SERVICE(in_flight), .type = GAUGE,
     .help = "requests that instances work on now"},
    {"headgate_service_requests_waiting", SERVICE(waiting), .type = GAUGE,
     .help = "requests that wait for a ready instance now"},
    {"headgate_service_instances", SERVICE(instances), .type = GAUGE, .by = {&by_state},
     .help = "instances by state"},
    {"headgate_service_restarts_total", SERVICE(restarts), .type = COUNTER,
     .help = "instances that ended by themselves, or did not become ready, and were started again"},
    {"headgate_listener_connections_total", LISTENER(accepted), .type = COUNTER,
     .help = "connections accepted by address"},
    {"headgate_listener_connections", LISTENER(connections), .type = GAUGE,
     .help = "connections open now by address"},
    {"headgate_stream_received_bytes_total", LISTENER(bytes_in), .type = COUNTER, .sparse = true,
     .help = "bytes that raw connections brought from clients, without TLS's own"},
    {"headgate_stream_sent_bytes_total", LISTENER(bytes_out), .type = COUNTER, .sparse = true,
     .help = "bytes that raw connections took to clients, without TLS's own"},
    {"headgate_process_cpu_seconds_total", PROCESS(cpu_us), .type = COUNTER, .unit = MICROSECONDS,
     .help = "CPU time of headgate's own processes, user and system"},
    {"headgate_process_resident_memory_bytes", PROCESS(resident), .type = GAUGE,
     .help = "resident memory"},
    {"headgate_process_virtual_memory_bytes", PROCESS(virtual_size), .type = GAUGE,
     .help = "virtual memory"},
    {"headgate_process_open_fds", PROCESS(fds), .type = GAUGE, .sparse = true,
     .help = "open file descriptors, where the kernel lets the master see them"},
    {"headgate_process_max_fds", PROCESS(max_fds), .type = GAUGE, .sparse = true,
     .help = "most file descriptors that it may open"},
    {"headgate_process_start_time_seconds", PROCESS(started_us), .type = GAUGE,
     .unit = MICROSECONDS, .help = "when it was started, since 1970"},
    {"headgate_certificate_renewal_failures", CERTIFICATE(failures), .type = GAUGE,
     .help = "tries in a row that failed to get the host a certificate by ACME"},
    {"headgate_certificate_next_renewal_timestamp_seconds", CERTIFICATE(next_at), .type = GAUGE,
     .sparse = true,
     .help = "when the next certificate by ACME is ordered for the host, since 1970"},
#undef ROUTE
#undef SERVICE
#undef LISTENER
#undef PROCESS
#undef CERTIFICATE
};

/* ---- metrics of their own ---- */

enum special { BUILD_INFO, CERTIFICATES, ROWS_NAMES, ROWS_ROOM, ROWS_FOLDED };
static const struct {
    const char *name;
    enum type type;
    const char *help, *labels; /* labels: for the manual */
} specials[] = {
    [BUILD_INFO] = {"headgate_build_info", GAUGE, "always 1; the version is in the label",
                    "version"},
    [CERTIFICATES] = {"headgate_certificate_not_after_timestamp_seconds", GAUGE,
                      "when the certificate that is shown for the host ends, since 1970", "host"},
    [ROWS_NAMES] = {"headgate_metric_rows", GAUGE,
                    "names that have a row of counters; those that left the configuration keep "
                    "theirs until it is needed",
                    "rows"},
    [ROWS_ROOM] = {"headgate_metric_rows_max", GAUGE, "rows of counters that there are", "rows"},
    [ROWS_FOLDED] = {"headgate_metric_rows_folded", GAUGE,
                     "names of the configuration without a row: they count into _other", "rows"},
};

static const char *const kind_names[ROW_KIND_COUNT] = {[ROW_ROUTE] = "route",
                                                       [ROW_SERVICE] = "service",
                                                       [ROW_LISTENER] = "listener",
                                                       [ROW_PROCESS] = "process",
                                                       [ROW_CERTIFICATE] = "certificate"};

/* ---- text ---- */

static void write_head(struct out *o, const char *name, const char *help, enum type t)
{
    out_fmt(o, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type_names[t]);
}

static void out_i64(struct out *o, int64_t v)
{
    if (v < 0)
        out_char(o, '-');
    out_u64(o, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

static void out_value(struct out *o, enum unit u, int64_t v)
{
    if (u == ONE) {
        out_i64(o, v);
        return;
    }
    const uint64_t us = v < 0 ? 0 : (uint64_t)v;
    char digits[6];
    out_u64(o, us / 1000000);
    uint64_t rest = us % 1000000;
    if (!rest)
        return;
    for (unsigned i = sizeof(digits); i-- > 0; rest /= 10)
        digits[i] = (char)('0' + rest % 10);
    struct str text = {digits, sizeof(digits)};
    while (text.p[text.n - 1] == '0')
        text.n--;
    out_char(o, '.');
    out_str(o, text);
}

/* Quote, backslash and line end are what can break a label's value. */
static void out_label(struct out *o, const char *name, struct str value)
{
    out_str(o, str_of(name));
    out_lit(o, "=\"");
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] == '\n') {
            out_lit(o, "\\n");
            continue;
        }
        if (value.p[i] == '"' || value.p[i] == '\\')
            out_char(o, '\\');
        out_char(o, value.p[i]);
    }
    out_char(o, '"');
}

struct line {
    struct out *o;
    const char *name;
    struct str labels; /* may be empty */
};

/* name suffix { labels, more } value */
static void write_line(const struct line *l, const char *suffix, struct str more, enum unit u,
                       int64_t v)
{
    out_str(l->o, str_of(l->name));
    out_str(l->o, str_of(suffix));
    if (l->labels.n || more.n) {
        out_char(l->o, '{');
        out_str(l->o, l->labels);
        if (l->labels.n && more.n)
            out_char(l->o, ',');
        out_str(l->o, more);
        out_char(l->o, '}');
    }
    out_char(l->o, ' ');
    out_value(l->o, u, v);
    out_char(l->o, '\n');
}

static void write_histogram(const struct line *l, const struct row_histogram *h)
{
    char mem[40];
    int64_t n = 0;
    for (unsigned i = 0; i <= ROW_BOUNDS; i++) {
        struct out le = out_on(mem, sizeof(mem));
        n += h->bucket[i];
        out_lit(&le, "le=\"");
        if (i < ROW_BOUNDS)
            out_value(&le, MICROSECONDS, row_bounds_us[i]);
        else
            out_lit(&le, "+Inf");
        out_char(&le, '"');
        write_line(l, "_bucket", out_done(&le), ONE, n);
    }
    write_line(l, "_sum", STR_NULL, MICROSECONDS, h->sum_us);
    write_line(l, "_count", STR_NULL, ONE, n);
}

static unsigned values_of(const struct family *f)
{
    unsigned n = 1;
    for (unsigned d = 0; d < DIMENSIONS && f->by[d]; d++)
        n *= f->by[d]->n;
    return n;
}

/* Values along the dimensions, of which there may be none. */
static void write_values(const struct line *l, const struct family *f, const int64_t *v)
{
    char mem[128];
    const unsigned all = values_of(f);
    for (unsigned i = 0; i < all; i++) {
        struct out more = out_on(mem, sizeof(mem));
        unsigned left = all, at = i;
        if (f->sparse && v[i] == 0)
            continue;
        for (unsigned d = 0; d < DIMENSIONS && f->by[d]; d++) {
            left /= f->by[d]->n;
            if (d)
                out_char(&more, ',');
            out_label(&more, f->by[d]->label, str_of(f->by[d]->values[at / left]));
            at %= left;
        }
        ASSERT(!more.over);
        write_line(l, "", out_done(&more), f->unit, v[i]);
    }
}

/* A row that is shown, summed up. */
struct shown {
    struct str labels;
    const char *values; /* the kind's struct */
};
struct shown_rows {
    struct shown *v;
    unsigned n;
};

static bool all_zero(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

static struct shown_rows gather(struct arena *a, enum row_kind k, uint64_t now)
{
    static char text[ROWS_KEY_MAX * 2 + 128];
    char mem[ROWS_KEY_MAX];
    struct row_key key;
    struct shown_rows r = {.v = arena_zarray(a, struct shown, rows_taken(k) + 1)};
    const unsigned most = rows_taken(k);
    for (unsigned row = 0; row < rows_capacity(k) && r.n < most; row++) {
        if (!rows_get(k, row, now, mem, &key))
            continue;
        char *values = arena_alloc(a, rows_size(k));
        rows_total(k, row, values);
        /* What nothing was ever folded into says nothing; unknown hosts are worth a zero. */
        if (row == 0 && k != ROW_ROUTE && all_zero(values, rows_size(k)))
            continue;
        struct out o = out_on(text, sizeof(text));
        for (unsigned i = 0; i < ROWS_LABELS_MAX && rows_label(k, i); i++) {
            if (i)
                out_char(&o, ',');
            out_label(&o, rows_label(k, i), key.label[i]);
        }
        r.v[r.n++] = (struct shown){arena_str(a, out_done(&o)), values};
    }
    return r;
}

static void write_family(struct out *o, const struct family *f, const struct shown_rows *rows)
{
    write_head(o, f->name, f->help, f->type);
    for (unsigned i = 0; i < rows->n; i++) {
        const struct line l = {o, f->name, rows->v[i].labels};
        const char *at = rows->v[i].values + f->offset;
        if (f->type == HISTOGRAM)
            write_histogram(&l, (const struct row_histogram *)(const void *)at);
        else
            write_values(&l, f, (const int64_t *)(const void *)at);
    }
}

static void write_rows(struct out *o, struct arena *a, uint64_t now)
{
    struct shown_rows rows = {0};
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        const struct family *f = &families[i];
        if (i == 0 || f->kind != families[i - 1].kind)
            rows = gather(a, f->kind, now);
        write_family(o, f, &rows);
    }
}

static void write_plain(struct out *o)
{
    char mem[128], mem_before[128];
    const char *before = "";
    for (unsigned i = 0; i < STAT_COUNT; i++) {
        const enum stats_id s = (enum stats_id)i;
        if (plain[i].where == NOWHERE)
            continue;
        const char *name = plain_name(s, mem);
        const struct line l = {o, name, str_of(plain[i].labels)};
        if (strcmp(name, before) != 0)
            write_head(o, name, stats_help(s), stats_is_gauge(s) ? GAUGE : COUNTER);
        write_line(&l, "", STR_NULL, ONE,
                   plain[i].where == MASTER ? stats_slot_get(ROLE_STATS_MASTER, s) : stats_sum(s));
        memcpy(mem_before, name, strlen(name) + 1);
        before = mem_before;
    }
}

static void special_head(struct out *o, enum special s)
{
    write_head(o, specials[s].name, specials[s].help, specials[s].type);
}

static void write_certs(struct out *o, const struct metrics_facts *f)
{
    special_head(o, CERTIFICATES);
    for (unsigned i = 0; i < f->n_certs; i++) {
        out_str(o, str_of(specials[CERTIFICATES].name));
        out_char(o, '{');
        out_label(o, "host", f->certs[i].host);
        out_lit(o, "} ");
        out_i64(o, f->certs[i].not_after);
        out_char(o, '\n');
    }
}

static void write_rows_use(struct out *o, enum special s, unsigned (*number)(enum row_kind k))
{
    special_head(o, s);
    for (unsigned k = 0; k < ROW_KIND_COUNT; k++)
        out_fmt(o, "%s{rows=\"%s\"} %u\n", specials[s].name, kind_names[k],
                number((enum row_kind)k));
}

void metrics_write(struct out *o, struct arena *a, const struct metrics_facts *f)
{
    special_head(o, BUILD_INFO);
    out_fmt(o, "%s{version=\"%s\"} 1\n", specials[BUILD_INFO].name, HG_VERSION);
    write_plain(o);
    write_rows(o, a, f->now);
    write_certs(o, f);
    write_rows_use(o, ROWS_NAMES, rows_taken);
    write_rows_use(o, ROWS_ROOM, rows_capacity);
    write_rows_use(o, ROWS_FOLDED, rows_folded);
}

/* ---- the manual ---- */

static void mdoc_head(FILE *f, const char *name, enum type t)
{
    fprintf(f, ".It Li %s Pq %s", name, type_names[t]);
}

static void mdoc_labels_end(FILE *f, const char *help)
{
    fputc('\n', f);
    mdoc_text(f, help);
    fputs(".\n", f);
}

/* The names alone. */
static void mdoc_plain_labels(FILE *f, struct str labels)
{
    struct str one;
    while (str_split(&labels, ',', &one))
        fprintf(f, " " STR_FMT, STR_ARG(str_sub(one, 0, str_chr(one, '='))));
}

static void mdoc_plain(FILE *f)
{
    char mem[128], mem_before[128] = "";
    for (unsigned i = 0; i < STAT_COUNT; i++) {
        const enum stats_id s = (enum stats_id)i;
        if (plain[i].where == NOWHERE)
            continue;
        const char *name = plain_name(s, mem);
        if (strcmp(name, mem_before) != 0) {
            mdoc_head(f, name, stats_is_gauge(s) ? GAUGE : COUNTER);
            mdoc_plain_labels(f, str_of(plain[i].labels));
            mdoc_labels_end(f, stats_help(s));
        }
        memcpy(mem_before, name, strlen(name) + 1);
    }
}

static void mdoc_rows(FILE *f)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        const struct family *m = &families[i];
        mdoc_head(f, m->name, m->type);
        for (unsigned k = 0; k < ROWS_LABELS_MAX && rows_label(m->kind, k); k++)
            fprintf(f, " %s", rows_label(m->kind, k));
        for (unsigned d = 0; d < DIMENSIONS && m->by[d]; d++)
            fprintf(f, " %s", m->by[d]->label);
        mdoc_labels_end(f, m->help);
    }
}

int metrics_print_mdoc(FILE *f)
{
    fputs(".Bl -tag -width Ds\n", f);
    mdoc_plain(f);
    mdoc_rows(f);
    for (size_t i = 0; i < ARRAY_LEN(specials); i++) {
        mdoc_head(f, specials[i].name, specials[i].type);
        fprintf(f, " %s", specials[i].labels);
        mdoc_labels_end(f, specials[i].help);
    }
    fputs(".El\n", f);
    return ferror(f) ? 1 : 0;
}
