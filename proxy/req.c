/*
 * req.c - a request's whole way, in named steps: the file to read first.
 *
 *   req_begin:   step_forwarded → step_target → step_authority → step_challenge → step_certificate
 *                → step_site → step_https → step_preflight → step_grpc → step_route, step_rate →
 *                step_websocket → step_limits → step_filters → step_handler
 *   body in:     req_body, req_body_end → filters → handler
 *   answer out:  req_answer, req_send, req_send_trailers → step_fields → filters → codec
 *   a switch:    req_tunnel, req_body, req_send, … → req_tunnel_over
 *   the end:     codec → req_close → access log
 *
 * A step answers true to go on; false when it has answered or failed the request itself. Framing is
 * the codec's, answers are the handlers', and every failure is judged in req_fail alone.
 */
#include "proxy/req.h"

#include <stdlib.h>

#include "base/stats.h"
#include "proxy/access_log.h"
#include "proxy/challenges.h"
#include "proxy/client.h"
#include "proxy/error_page.h"
#include "proxy/field_rules.h"
#include "proxy/filter.h"
#include "proxy/forwarded.h"
#include "proxy/grpc_call.h"
#include "proxy/grpc_web.h"
#include "proxy/metrics.h"
#include "proxy/redirect.h"
#include "proxy/uri.h"
#include "proxy/websocket.h"

#define REQ_ARENA 4096
#define REQ_HOME  1536 /* of a tunnel: it, and what the log says of it */

static struct arena *spare;

struct arena *req_arena_spare(void)
{
    if (!spare)
        spare = arena_new(REQ_ARENA);
    return spare;
}

/*
 * Ids are a counter mixed by a secret of the process: unique, without a look at the clock, and
 * nobody learns from one how many requests there are.
 */
static uint64_t id_next(void)
{
    static uint64_t secret[2], counter;
    if (!counter)
        random_bytes(secret, sizeof(secret));
    uint64_t x = ++counter + secret[0];
    /* a bijection, so ids never repeat: the finaliser of splitmix64 keyed by the secret */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ secret[1] ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The arena has grown: the client's budget learns of it. */
static void account(struct req *r)
{
    size_t apart = r->home == r->arena ? 0 : arena_used(r->home);
    budget_recount(&r->client->budget, &r->counted, arena_used(r->arena) + apart);
}

/* Questions about headgate itself are none of its sites' requests: not logged, not counted. */
static bool internal(const struct req *r)
{
    return r->client->kind == LISTENER_METRICS;
}

_Static_assert(STAT_requests_sse == STAT_requests_http + REQ_EVENTS, "a gauge a kind");

static void add_kind(const struct req *r, int64_t n)
{
    stats_add((enum stats_id)(STAT_requests_http + r->kind_counted), n);
}

/* The gauges follow what the steps, and the answer's head, found it to be. */
static void count_kind(struct req *r)
{
    if (r->kind == r->kind_counted || internal(r))
        return;
    add_kind(r, -1);
    r->kind_counted = r->kind;
    add_kind(r, 1);
}

static struct req *new_in(struct arena *home, struct client *c, const struct codec *codec,
                          void *stream)
{
    struct req *r = arena_znew(home, struct req);
    r->home = home;
    r->arena = req_arena_spare();
    spare = NULL;
    r->client = c;
    r->codec = codec;
    r->stream = stream;
    r->snap = snapshot_ref(snapshot_current());
    r->id = id_next();
    r->started_us = now_us();
    r->answer.length = REQ_LENGTH_UNKNOWN;
    r->ip = c->pass.ip;
    r->ip_text = str_of(c->pass.ip_text);
    r->scheme = c->kind == LISTENER_HTTPS ? STR("https") : STR("http");
    account(r);
    if (!internal(r)) {
        stats_inc(requests_total);
        stats_inc(requests);
        add_kind(r, 1);
    }
    return r;
}

struct req *req_new(struct client *c, const struct codec *codec, void *stream)
{
    return new_in(req_arena_spare(), c, codec, stream);
}

struct req *req_new_apart(struct client *c, const struct codec *codec, void *stream)
{
    return new_in(arena_new(REQ_HOME), c, codec, stream);
}

struct str req_id_text(const struct req *r, char buf[static 17])
{
    struct out o = out_on(buf, 17);
    out_hex(&o, r->id, 16);
    buf[16] = '\0';
    return out_done(&o);
}

const char *req_kind_text(enum req_kind k)
{
    static const char *const names[] = {[REQ_HTTP] = "http",
                                        [REQ_GRPC] = "grpc",
                                        [REQ_GRPC_WEB] = "grpc-web",
                                        [REQ_WEBSOCKET] = "websocket",
                                        [REQ_EVENTS] = "sse"};
    return names[k];
}

const struct conf_timeouts *req_timeouts(const struct req *r)
{
    const struct snapshot *s = r->snap ? r->snap : snapshot_current();
    return r->route ? &r->route->timeouts : &s->conf->timeouts;
}

/* ---- the steps of req_begin ---- */

static bool step_target(struct req *r)
{
    struct uri u;
    const char *err = uri_parse(r->arena, r->target, &u);
    if (err) {
        req_fail(r, 400, err);
        return false;
    }
    r->path = u.path;
    if (u.has_query)
        r->query = u.query.p ? u.query : STR("");
    if (u.authority.n)
        r->authority = u.authority;
    return true;
}

static bool step_authority(struct req *r)
{
    struct uri_host h = {0};
    /* HTTP/1.0 may come without Host: it then means what "*" serves. */
    const char *err = r->authority.n ? uri_host_parse(r->arena, r->authority, &h) : NULL;
    if (err) {
        req_fail(r, 400, err);
        return false;
    }
    r->host = h.name;
    return true;
}

/*
 * RFC 8555 8.3: a CA looks at what a name's owner put there. It is answered before anything that
 * redirects or refuses; a token that is not ours to show goes its usual way, perhaps to a backend
 * with challenges of its own.
 */
static bool step_challenge(struct req *r)
{
    static const struct str prefix = {"/.well-known/acme-challenge/", 28};
    if (likely(!challenges_any()) || !str_starts(r->path, prefix) ||
        (r->method != METHOD_GET && r->method != METHOD_HEAD))
        return true;
    struct str answer = challenges_answer(r->host, str_sub(r->path, prefix.n, r->path.n));
    if (!answer.p)
        return true;
    fields_add_token(r->arena, &r->answer.fields, FIELD_cache_control, STR("no-store"));
    req_answer_text(r, 200, STR("application/octet-stream"), arena_str(r->arena, answer));
    return false;
}

static bool step_certificate(struct req *r)
{
    if (r->client->kind != LISTENER_HTTPS)
        return true;
    struct tls_conn *tls = &r->client->tls;
    tls->names = r->snap->names;
    bool serves = tls_conn_serves(tls, r->host);
    tls->names = NULL;
    if (!serves)
        req_fail(r, 421, "the connection's certificate is not this host's");
    return serves;
}

/* Between the client and whoever ends its TLS. */
static bool secure(const struct req *r)
{
    return str_eq(r->scheme, STR("https"));
}

static bool step_site(struct req *r, struct route_match *m)
{
    if (!router_host(r->snap->router, r->host, m)) {
        req_fail(r, r->client->kind == LISTENER_HTTPS ? 421 : 404, "no site has this host");
        return false;
    }
    r->site = m->site;
    if (!m->redirect_host)
        return true;
    bool tls = secure(r) || m->site->https != CONF_HTTPS_BOTH;
    const struct conf *c = r->snap->conf;
    redirect_answer(r, 308,
                    redirect_absolute(r, tls ? STR("https") : STR("http"), m->site->host,
                                      tls ? c->public_https : c->public_http));
    return false;
}

static bool step_https(struct req *r)
{
    if (secure(r) || r->site->https == CONF_HTTPS_BOTH)
        return true;
    if (r->site->https == CONF_HTTPS_ONLY || !r->snap->conf->public_https) {
        req_fail(r, 403, "this host is served over https only");
        return false;
    }
    redirect_answer(r, 308,
                    redirect_absolute(r, STR("https"), r->host, r->snap->conf->public_https));
    return false;
}

/* One address has a share; who comes by a Unix socket has no address. */
static bool step_rate(struct req *r)
{
    static const uint64_t second = 1000000;
    const struct conf_rate *limit = r->route ? &r->route->rate : &r->site->rate;
    if (likely(!limit->rate.interval_us) || r->ip.family == NET_UNIX)
        return true;
    uint64_t wait = rate_take(rate_key(limit->name, r->ip), limit->rate, r->started_us);
    if (!wait)
        return true;
    stats_inc(requests_limited);
    fields_add_token(
        r->arena, &r->answer.fields, FIELD_retry_after,
        arena_fmt(r->arena, "%llu", (unsigned long long)((wait + second - 1) / second)));
    req_fail(r, 429, "more requests from one address than rate_limit lets through");
    return false;
}

static bool step_route(struct req *r, struct route_match *m)
{
    if (r->path.n == 1 && r->path.p[0] == '*') { /* OPTIONS *: about the server, not a resource */
        if (r->method != METHOD_OPTIONS) {
            req_fail(r, 400, "\"*\" is a target for OPTIONS only");
            return false;
        }
        r->answer.status = 204;
        req_answer(r, true);
        return false;
    }
    r->route = r->grpc ? grpc_route(r) : NULL;
    if (!r->route && router_path(r->snap->router, r->site, r->path, m)) {
        r->route = m->route;
        r->rest = m->rest;
    }
    if (!step_rate(r))
        return false;
    if (!r->route) {
        req_fail(r, 404, "no route has this path");
        return false;
    }
    if (m->add_slash) {
        redirect_answer(r, 308, redirect_add_slash(r));
        return false;
    }
    return true;
}

/* A version that we do not know: say which we do (RFC 6455 4.4; RFC 9110 15.5.22). */
static void refuse_version(struct req *r, bool upgrade, const char *err)
{
    fields_add(r->arena, &r->answer.fields, STR("sec-websocket-version"), STR("13"));
    if (upgrade)
        fields_add(r->arena, &r->answer.fields, STR("upgrade"), STR("websocket"));
    req_fail(r, upgrade ? 426 : 400, err);
}

/*
 * Upgrade may be ignored (RFC 9110 7.8), and is where no backend could take it up; CONNECT may not
 * (RFC 8441 4). `websocket: off` is said, since nothing else would explain it to who looks for it.
 */
static bool step_websocket(struct req *r)
{
    struct websocket_request asked;
    const char *err = NULL;
    bool connect = r->method == METHOD_CONNECT;
    if (!r->protocol.p)
        return true;
    if (r->route->handler != CONF_PROXY) {
        if (connect && r->route->handler != CONF_REDIRECT)
            req_fail(r, 403, "this route has no backend for WebSockets");
        return !req_over(r);
    }
    if (!r->route->websocket) {
        req_fail(r, 403, "WebSocket is off for this route");
        return false;
    }
    err = websocket_request_check(&r->fields, !connect, &asked);
    if (asked.other_version)
        refuse_version(r, !connect, err);
    else if (err)
        req_fail(r, 400, err);
    r->kind = REQ_WEBSOCKET;
    return !err;
}

static bool step_limits(struct req *r)
{
    r->body_max = r->route->limits.body;
    if (r->body_max && r->body_length != REQ_LENGTH_UNKNOWN && r->body_length > r->body_max) {
        req_fail(r, 413, "the request body is larger than limits.body");
        return false;
    }
    return true;
}

static bool step_filters(struct req *r)
{
    return r->kind == REQ_WEBSOCKET || filters_begin(r);
}

static void step_internal(struct req *r)
{
    r->handler = &metrics_handler;
    r->handler->start(r);
}

static void step_handler(struct req *r)
{
    static const struct handler *const handlers[] = {
        [CONF_PROXY] = &proxy_handler,
        [CONF_FILES] = &files_handler,
        [CONF_REDIRECT] = &redirect_handler,
        [CONF_RESPOND] = &respond_handler,
    };
    count_kind(r);
    r->handler = handlers[r->route->handler];
    r->handler->start(r);
}

void req_begin(struct req *r)
{
    struct route_match m = {0};
    r->state = REQ_BEGUN;
    account(r);
    if (r->body_length == 0)
        r->body_ended = true;
    if (internal(r)) {
        if (step_target(r))
            step_internal(r);
        return;
    }
    step_forwarded(r);
    if (step_target(r) && step_authority(r) && step_challenge(r) && step_certificate(r) &&
        step_site(r, &m) && step_https(r) && step_preflight(r) && step_grpc(r) &&
        step_route(r, &m) && step_websocket(r) && step_limits(r) && step_filters(r))
        step_handler(r);
}

/* ---- the request's body ---- */

static void body_filtered(struct req *r, struct piece p)
{
    const char *err = filters_request_body(r, &p);
    if (err) {
        req_fail(r, 400, err);
        return;
    }
    for (unsigned i = 0; i < p.n; i++)
        if (r->handler && r->handler->body)
            r->handler->body(r, p.v[i]);
    if (p.end && r->handler && r->handler->body_end)
        r->handler->body_end(r, p.trailers);
}

void req_body(struct req *r, struct slice data)
{
    if (req_over(r))
        return;
    r->body_in += data.n;
    if (r->body_max && r->body_in > r->body_max) {
        req_fail(r, 413, "the request body is larger than limits.body");
        return;
    }
    if (!data.n)
        return;
    if (unlikely(r->filters))
        body_filtered(r, (struct piece){.v = &data, .n = 1});
    else if (r->handler && r->handler->body)
        r->handler->body(r, data);
}

void req_body_end(struct req *r, const struct fields *trailers)
{
    r->body_ended = true;
    r->body_wanted = false;
    if (unlikely(r->filters))
        body_filtered(r, (struct piece){.end = true, .trailers = trailers});
    else if (r->handler && r->handler->body_end)
        r->handler->body_end(r, trailers);
}

void req_want_body(struct req *r, bool on)
{
    if (r->body_ended || req_over(r) || r->body_wanted == on)
        return;
    r->body_wanted = on;
    if (on && r->expect_continue) {
        r->expect_continue = false;
        if (r->state < REQ_ANSWERING)
            r->codec->info(r, 100);
    }
    r->codec->want_body(r, on);
}

/* ---- the answer ---- */

static void count_answer(const struct req *r)
{
    unsigned class = r->answer.status / 100;
    if (class >= 2 && class <= 5 && !internal(r))
        stats_add((enum stats_id)(STAT_answers_2xx + class - 2), 1);
}

static void count_aborted(const struct req *r)
{
    if (!internal(r))
        stats_inc(requests_aborted);
}

static bool has_no_body(const struct req *r)
{
    return r->method == METHOD_HEAD || http_status_bodyless(r->answer.status);
}

/* What the configuration sets and removes, whoever answers. */
static void step_fields(struct req *r)
{
    if (r->site)
        field_rules_apply(r->route ? &r->route->answer_fields : &r->site->answer_fields, secure(r),
                          r->arena, &r->answer.fields);
}

static void head_out(struct req *r, bool end)
{
    r->state = end ? REQ_DONE : REQ_ANSWERING;
    account(r);
    count_kind(r);
    count_answer(r);
    r->codec->head(r, end);
}

void req_answer(struct req *r, bool end)
{
    if (req_over(r))
        return;
    ASSERT(r->state < REQ_ANSWERING && r->answer.status >= 200);
    end = end || has_no_body(r);
    bool last = end;
    step_fields(r);
    if (unlikely(r->filters)) {
        filters_answer_head(r, NULL, &last);
        last = last || has_no_body(r);
    }
    head_out(r, last);
    if (end && !last) /* a filter puts something in the place of no body */
        req_send(r, NULL, 0, true);
}

/* What the filters left of a send, to the codec. */
static void send_out(struct req *r, const struct piece *p)
{
    for (unsigned i = 0; i < p->n; i++)
        r->body_out += p->v[i].n;
    if (r->answer.length != REQ_LENGTH_UNKNOWN &&
        (r->body_out > r->answer.length || (p->end && r->body_out != r->answer.length))) {
        req_fail(r, 502, "the answer's body is not as long as announced");
        return;
    }
    if (p->end && r->state != REQ_TUNNEL)
        r->state = REQ_DONE;
    r->send_pending = !p->end;
    if (p->trailers) {
        if (p->n)
            r->codec->data(r, p->v, p->n, false);
        r->codec->trailers(r, p->trailers);
    } else if (p->n || p->end || !r->filters) {
        r->codec->data(r, p->v, p->n, p->end);
    } else {
        filters_again(r);
    }
}

static void send_filtered(struct req *r, struct piece p)
{
    if (req_over(r))
        return;
    ASSERT(r->state == REQ_ANSWERING || r->state == REQ_TUNNEL);
    const char *err = r->filters ? filters_answer_body(r, NULL, &p) : NULL;
    if (unlikely(err))
        req_fail(r, 502, err);
    else
        send_out(r, &p);
}

void req_send(struct req *r, const struct slice *v, unsigned n, bool end)
{
    send_filtered(r, (struct piece){.v = v, .n = n, .end = end});
}

void req_send_trailers(struct req *r, const struct fields *t)
{
    send_filtered(r, (struct piece){.end = true, .trailers = t});
}

size_t req_room(struct req *r, bool at_once)
{
    size_t n = r->codec->room ? r->codec->room(r, at_once) : IO_READ_MAX;
    if (!n)
        r->send_pending = true;
    return n;
}

void req_proceed(struct req *r)
{
    if (req_over(r) || !r->send_pending)
        return;
    r->send_pending = false;
    if (r->handler && r->handler->proceed)
        r->handler->proceed(r);
}

void req_answer_text(struct req *r, unsigned status, struct str type, struct str body)
{
    r->answer.status = status;
    r->answer.length = body.n;
    fields_add_token(r->arena, &r->answer.fields, FIELD_content_type, type);
    req_answer(r, body.n == 0);
    if (!req_over(r))
        req_send(r, &(struct slice){.p = (const uint8_t *)body.p, .n = body.n}, 1, true);
}

/* ---- a switch ---- */

/* Some of the head are the configuration's own texts, and HTTP/2 may write it only later. */
static void own_answer(struct req *r)
{
    for (unsigned i = 0; i < r->answer.fields.n; i++) {
        struct field *f = &r->answer.fields.v[i];
        f->name = arena_str(r->arena, f->name);
        f->value = arena_str(r->arena, f->value);
    }
}

/* What the log and the metrics need at its end is kept; the configuration may go. */
static void detach(struct req *r)
{
    own_answer(r);
    r->kept.site = arena_str(r->home, r->site->name);
    r->kept.route = arena_str(r->home, r->route->path);
    r->kept.service = arena_str(r->home, r->route->service->name);
    r->kept.row = metrics_row_keep(r);
    r->kept.answered_us = now_us() - r->started_us;
    r->site = NULL;
    r->route = NULL;
    snapshot_unref(&r->snap);
}

static void arena_drop(void *p)
{
    struct arena *a = p;
    arena_free(&a);
}

static void keep_field(struct req *r, const struct fields *from, enum field_token t)
{
    const struct field *f = fields_get(from, t);
    if (f)
        fields_add_token(r->home, &r->fields, t, arena_str(r->home, f->value));
}

/* The same for what the request itself said: of a head of 30 KiB a tunnel keeps some lines. */
static void leave_head(struct req *r)
{
    struct str *const kept[] = {&r->method_text, &r->ip_text, &r->forwarded_host, &r->scheme,
                                &r->authority,   &r->host,    &r->target,         &r->path,
                                &r->query,       &r->rest,    &r->instance};
    struct fields said = r->fields;
    if (r->home == r->arena)
        return;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        if (kept[i]->p)
            *kept[i] = arena_str(r->home, *kept[i]);
    r->fields = r->answer.fields = (struct fields){0};
    keep_field(r, &said, FIELD_user_agent);
    keep_field(r, &said, FIELD_referer);
    r->protocol = STR("websocket");
    loop_free_later(r->arena, arena_drop);
    r->arena = r->home;
}

void req_tunnel(struct req *r, const struct handler *h, void *state)
{
    ASSERT(r->state < REQ_ANSWERING && !r->filters);
    step_fields(r);
    r->handler = h;
    r->handler_state = state;
    r->body_max = 0;
    r->state = REQ_TUNNEL;
    count_answer(r);
    detach(r);
    r->codec->tunnel(r);
    if (req_over(r))
        return;
    leave_head(r);
    account(r);
}

void req_tunnel_over(struct req *r)
{
    ASSERT(r->state == REQ_TUNNEL);
    r->state = REQ_DONE;
    r->codec->tunnel_over(r);
}

/* ---- failure and the end ---- */

static void handler_cancel(struct req *r)
{
    const struct handler *h = r->handler;
    r->handler = NULL;
    if (h && h->cancel)
        h->cancel(r);
}

static bool belongs_to_failure(struct str name)
{
    return str_eq(name, STR("allow")) || str_eq(name, STR("upgrade")) ||
           str_eq(name, STR("sec-websocket-version"));
}

static void fail_with_page(struct req *r, unsigned status)
{
    char id[17];
    const struct field *accept_field = fields_get(&r->fields, FIELD_accept);
    const struct str accept = accept_field ? accept_field->value : STR("");
    const struct field *retry = fields_get(&r->answer.fields, FIELD_retry_after);
    struct fields fields = {0};
    struct str body;
    /* Of what a handler had prepared only what belongs to a failure is kept. */
    if (retry)
        fields_add_token(r->arena, &fields, FIELD_retry_after, retry->value);
    for (unsigned i = 0; i < r->answer.fields.n; i++)
        if (belongs_to_failure(r->answer.fields.v[i].name))
            fields_add(r->arena, &fields, r->answer.fields.v[i].name, r->answer.fields.v[i].value);
    if (!error_page_of_site(r->arena, r->site, status, accept, &fields, &body))
        error_page_make(r->arena, status, accept, req_id_text(r, id), r->host, &fields, &body);
    fields_add_token(r->arena, &fields, FIELD_x_request_id,
                     arena_str(r->arena, req_id_text(r, id)));
    r->answer.status = status;
    r->answer.fields = fields;
    r->answer.length = body.n;
    req_answer(r, body.n == 0);
    if (!req_over(r))
        req_send(r, &(struct slice){.p = (const uint8_t *)body.p, .n = body.n}, 1, true);
}

static void abort_answer(struct req *r, const char *err)
{
    r->state = REQ_FAILED;
    count_aborted(r);
    r->codec->reset(r, err);
}

/* A filter has a better end for it than a page or a reset; those behind it see that one. */
static void fail_filtered(struct req *r, struct filter_use *u, struct piece last)
{
    bool end = !last.n && !last.trailers;
    if (r->state < REQ_ANSWERING) {
        step_fields(r);
        filters_answer_head(r, u, &end);
        head_out(r, end || has_no_body(r));
    }
    if (req_over(r))
        return;
    const char *err = filters_answer_body(r, u, &last);
    if (err)
        abort_answer(r, err);
    else
        send_out(r, &last);
}

void req_fail(struct req *r, unsigned status, const char *err)
{
    struct piece last = {.end = true};
    if (req_over(r))
        return;
    r->error = err;
    handler_cancel(r);
    if (!r->filters && r->state < REQ_ANSWERING && !internal(r))
        grpc_adopt(r);
    struct filter_use *u = r->filters ? filters_fail(r, status, err, &last) : NULL;
    if (u)
        fail_filtered(r, u, last);
    else if (r->state < REQ_ANSWERING)
        fail_with_page(r, status);
    else
        abort_answer(r, err);
}

void req_refuse(struct req *r, unsigned status, const char *err)
{
    if (r->state < REQ_BEGUN)
        r->state = REQ_BEGUN;
    r->body_ended = true;
    r->expect_continue = false;
    req_fail(r, status, err);
}

void req_gone(struct req *r, const char *err)
{
    if (req_over(r))
        return;
    r->error = err;
    r->state = REQ_FAILED;
    count_aborted(r);
    handler_cancel(r);
}

static void req_free(void *p)
{
    struct req *r = p;
    struct arena *a = r->arena, *home = r->home;
    snapshot_unref(&r->snap);
    if (home != a)
        arena_free(&home);
    arena_free(&a);
}

void req_close(struct req *r)
{
    ASSERT(req_over(r));
    handler_cancel(r);
    filters_close(r);
    r->took_us = now_us() - r->started_us;
    if (!internal(r)) {
        access_log_write(r);
        metrics_count(r);
        stats_dec(requests);
        add_kind(r, -1);
    }
    budget_recount(&r->client->budget, &r->counted, 0);
    loop_free_later(r, req_free);
}
