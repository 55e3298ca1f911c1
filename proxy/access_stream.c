/*
 * access_stream.c - the access log's line of a connection of raw bytes, written when it is over:
 * JSON, or a form that log analysers read as a request. Requests have access_line.c.
 */
#include <time.h>

#include "proxy/access_log.h"

static void put(struct out *o, const char *key, struct str value)
{
    if (!value.n)
        return;
    out_fmt(o, ",\"%s\":", key);
    out_json(o, value);
}

static void line_json(struct out *o, const struct access_stream *s, const struct timespec *now,
                      const struct tm *tm)
{
    char clock[32];
    ASSERT(strftime(clock, sizeof(clock), "%Y-%m-%dT%H:%M:%S", tm) > 0);
    out_fmt(o, "{\"ts\":\"%s.%03ldZ\",\"kind\":\"stream\"", clock, now->tv_nsec / 1000000);
    put(o, "client", s->client);
    put(o, "address", s->address);
    put(o, "host", s->host);
    out_fmt(o, ",\"status\":%u,\"bytes_in\":%llu,\"bytes_out\":%llu,\"duration_ms\":%llu.%03u",
            s->status, (unsigned long long)s->bytes_in, (unsigned long long)s->bytes_out,
            (unsigned long long)(s->us / 1000), (unsigned)(s->us % 1000));
    put(o, "service", s->service);
    put(o, "instance", s->instance);
    put(o, "tls", s->tls);
    put(o, "error", s->error);
    out_lit(o, "}\n");
}

/* client - - [time] "STREAM address host" status bytes "-" "-" */
static void line_combined(struct out *o, const struct access_stream *s, const struct tm *tm)
{
    char clock[64];
    ASSERT(strftime(clock, sizeof(clock), "%d/%b/%Y:%H:%M:%S +0000", tm) > 0);
    out_fmt(o, STR_FMT " - - [%s] \"STREAM " STR_FMT " %s\" %u %llu \"-\" \"-\"\n",
            STR_ARG(s->client), clock, STR_ARG(s->address), s->tls.n ? "TLS" : "TCP", s->status,
            (unsigned long long)s->bytes_out);
}

size_t access_stream_line(const struct access_stream *s, enum conf_access_format format,
                          char mem[static ACCESS_LINE_MAX])
{
    struct out o = out_on(mem, ACCESS_LINE_MAX);
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    ASSERT(gmtime_r(&now.tv_sec, &tm));
    if (format == CONF_ACCESS_COMBINED)
        line_combined(&o, s, &tm);
    else
        line_json(&o, s, &now, &tm);
    ASSERT(!o.over); /* all of it is bounded: names by the schema, the host by tls_conn */
    return o.n;
}
