/*
 * test_conf.c - the configuration, by data: each file of tests/cases/conf/bad gives exactly the
 * diagnostics beside it (NAME.expect), each file of good loads, gives what NAME.expect says, and
 * the same from its own bundle. UPDATE=1 writes the expectations anew; look at the difference.
 *
 * Comments at the head of a case: "# check: --offline", "# root: yes", "# env: NAME=value".
 */
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <glob.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "conf/conf.h"
#include "conf/explain.h"
#include "conf/source.h"

#define CASES     "tests/cases/conf/"
#define CASES_MAX 400

struct head {
    unsigned flags;
    bool root;
};

static struct arena *arena;
static bool update; /* UPDATE=1: write the expectations anew */

static struct str read_all(const char *path)
{
    struct str text = STR_NULL;
    const char *err = file_read(arena, path, 1 << 20, &text);
    return err ? STR_NULL : text;
}

static bool take(struct str line, struct str word, struct str *value)
{
    if (!str_starts(line, word))
        return false;
    *value = str_trim(str_sub(line, word.n, line.n));
    return true;
}

/* The comments before the first line that is none. */
static struct head read_head(const char *path)
{
    struct head h = {0};
    struct str rest = read_all(path), line, v;
    while (rest.n && str_split(&rest, '\n', &line) && str_starts(line, STR("#"))) {
        if (take(line, STR("# check:"), &v))
            h.flags = str_eq(v, STR("--offline")) ? CONF_OFFLINE : 0;
        else if (take(line, STR("# root:"), &v))
            h.root = str_eq(v, STR("yes"));
        else if (take(line, STR("# env:"), &v))
            putenv((char *)(uintptr_t)arena_strz(arena, v));
    }
    return h;
}

static struct conf_source *source_of(const char *path, const struct head *h)
{
    struct conf_source *s = conf_source_fs(path);
    source_preset_fact(s, FACT_ROOT, h->root);
    source_preset_fact(s, FACT_CPUS, 2);
    return s;
}

/* Absolute paths of this machine have no place in expectations. */
static struct str without_folder(struct str text)
{
    char cwd[4096];
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    struct str here = str_of(cwd);
    struct out o = out_on(arena_alloc(arena, text.n + 1), text.n);
    for (size_t i = 0; i < text.n;) {
        if (str_starts(str_sub(text, i, text.n), here)) {
            out_lit(&o, "/HERE");
            i += here.n;
        } else {
            out_char(&o, text.p[i++]);
        }
    }
    return out_done(&o);
}

static void compare(const char *yaml, struct str got)
{
    struct str base = str_sub(str_of(yaml), 0, strlen(yaml) - strlen("yaml"));
    struct str path = arena_fmt(arena, STR_FMT "expect", STR_ARG(base));
    if (update) {
        assert_null(file_write(arena, path.p, got, 0644));
        return;
    }
    struct str want = read_all(path.p);
    if (str_eq(want, got))
        return;
    fail_msg("%s: expected\n" STR_FMT "\ngot\n" STR_FMT, yaml, STR_ARG(want), STR_ARG(got));
}

static struct str printed(const struct diags *d, enum diag_format f, bool colour)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    diags_print(d, f, colour, out);
    if (f == DIAG_TEXT)
        diags_summary(d, out);
    assert_int_equal(fclose(out), 0);
    struct str s = without_folder(arena_str(arena, (struct str){text, n}));
    free(text);
    return s;
}

/* ---- what is wrong ---- */

static void test_bad(void **state)
{
    const char *path = *state;
    struct head h = read_head(path);
    struct diags *d = diags_new();
    struct conf_source *s = source_of(path, &h);
    struct conf *c = conf_load(s, h.flags, d);
    compare(path, printed(d, DIAG_TEXT, false));
    assert_true(diags_errors(d) + diags_warnings(d) > 0);
    assert_int_equal(c == NULL, diags_errors(d) > 0);
    conf_unref(&c);
    conf_source_close(&s);
    diags_free(&d);
}

/* ---- what is right ---- */

static void dump_strs(struct out *o, const char *label, const struct str *v, unsigned n)
{
    if (!n)
        return;
    out_fmt(o, "    %s:", label);
    for (unsigned i = 0; i < n; i++)
        out_fmt(o, " [" STR_FMT "]", STR_ARG(v[i]));
    out_char(o, '\n');
}

static void dump_service(struct out *o, const struct conf_service *s)
{
    out_fmt(o, "service " STR_FMT "\n", STR_ARG(s->name));
    dump_strs(o, "run", s->argv, s->n_argv);
    dump_strs(o, "env", s->env, s->n_env);
    for (unsigned i = 0; i < s->n_backends; i++)
        out_fmt(o, "    url " STR_FMT " (" STR_FMT ")%s%s\n", STR_ARG(s->backends[i].addr.text),
                STR_ARG(s->backends[i].authority), s->backends[i].addr.len ? "" : " by name",
                s->backends[i].tls ? " tls" : "");
    if (s->host_header != CONF_HOST_CLIENT)
        out_fmt(o, "    host %d [" STR_FMT "]\n", s->host_header, STR_ARG(s->host_name));
    if (s->tls)
        out_fmt(o, "    tls [" STR_FMT "] ca %zu own %zu\n", STR_ARG(s->tls->name),
                s->tls->ca_pem.n, s->tls->cert_pem.n);
    if (!s->n_argv && s->health_interval)
        out_fmt(o, "    looks %d [" STR_FMT "] every %llu\n", s->ready, STR_ARG(s->ready_path),
                (unsigned long long)s->health_interval);
    if (!s->n_argv)
        return;
    out_fmt(o, "    program " STR_FMT " cwd " STR_FMT "%s user [" STR_FMT "]\n",
            STR_ARG(s->program), STR_ARG(s->cwd), s->cwd_is_data ? " (data)" : "",
            STR_ARG(s->user));
    out_fmt(o, "    listen %d fixed [" STR_FMT "] ready %d [" STR_FMT STR_FMT "]\n", s->listen,
            STR_ARG(s->fixed.text), s->ready, STR_ARG(s->ready_path), STR_ARG(s->ready_service));
    out_fmt(o, "    health %llu %llu %u start %llu stop %d %llu restart %llu %llu wait %llu\n",
            (unsigned long long)s->health_interval, (unsigned long long)s->health_timeout,
            s->health_failures, (unsigned long long)s->start_timeout, s->stop_signal,
            (unsigned long long)s->stop_timeout, (unsigned long long)s->restart_min,
            (unsigned long long)s->restart_max, (unsigned long long)s->wait_ready);
    for (unsigned i = 0; i < s->n_ports; i++)
        out_fmt(o, "    port " STR_FMT " %u%s\n", STR_ARG(s->ports[i].name), s->ports[i].number,
                i == s->ready_port ? " (asked)" : "");
    if (s->memory)
        out_fmt(o, "    memory %llu\n", (unsigned long long)s->memory);
    if (s->instances > 1 || s->balance || s->open_files || s->exclusive)
        out_fmt(o, "    instances %u balance %d open_files %u%s%s\n", s->instances, s->balance,
                s->open_files, s->exclusive ? " exclusive" : "", s->handover ? " handover" : "");
}

static void dump_fields(struct out *o, const char *label, const struct conf_fields *f)
{
    for (unsigned i = 0; i < f->n; i++)
        out_fmt(o, "        %s %s" STR_FMT "%s" STR_FMT "%s\n", label, f->v[i].remove ? "-" : "",
                STR_ARG(f->v[i].name), f->v[i].remove ? "" : ": ", STR_ARG(f->v[i].value),
                f->v[i].https_only ? " (https)" : "");
}

static void dump_answers(struct out *o, const struct conf_site *s)
{
    static const char *const codings[] = {"br", "zstd", "gzip"};
    out_lit(o, "    compress");
    for (unsigned i = 0; i < s->n_compress; i++)
        out_fmt(o, " %s", codings[s->compress[i]]);
    out_fmt(o, "%s\n", s->dotfiles ? " dotfiles" : "");
    for (unsigned i = 0; i < s->n_error_pages; i++) {
        const struct conf_error_page *p = &s->error_pages[i];
        out_fmt(o, "    page %u-%u " STR_FMT " [" STR_FMT "]\n", p->from, p->to, STR_ARG(p->type),
                STR_ARG(str_sub(p->body, 0, p->body.n - 1)));
    }
    dump_fields(o, "answer", &s->answer_fields);
    dump_fields(o, "backend", &s->backend_fields);
}

static void dump_route(struct out *o, const struct conf *c, const struct conf_route *r)
{
    out_fmt(o, "    route " STR_FMT "%s body %llu gap %llu: ", STR_ARG(r->path),
            r->prefix ? " (prefix)" : "", (unsigned long long)r->limits.body,
            (unsigned long long)r->timeouts.body_gap);
    switch (r->handler) {
    case CONF_PROXY:
        out_fmt(o, "proxy " STR_FMT "%s\n", STR_ARG(r->service->name),
                r->strip_prefix ? " stripped" : "");
        return;
    case CONF_FILES:
        out_fmt(o, "files " STR_FMT " [" STR_FMT "]%s [" STR_FMT "]\n",
                STR_ARG(c->roots[r->root].path), STR_ARG(r->index), r->listing ? " listing" : "",
                STR_ARG(r->fallback));
        return;
    case CONF_REDIRECT:
        out_fmt(o, "redirect %u " STR_FMT "\n", r->status, STR_ARG(r->target));
        return;
    case CONF_RESPOND:
        out_fmt(o, "respond %u [" STR_FMT "]\n", r->status, STR_ARG(r->body));
        return;
    }
}

static void dump_rate(struct out *o, const struct conf_rate *r)
{
    if (r->rate.interval_us)
        out_fmt(o, "    rate [" STR_FMT "] every %llu us, burst %llu\n", STR_ARG(r->name),
                (unsigned long long)r->rate.interval_us, (unsigned long long)r->rate.burst);
}

static void dump_acme(struct out *o, const struct conf_acme *acme)
{
    if (!acme->on)
        return;
    out_fmt(o,
            "acme [" STR_FMT "] root %zu hook [" STR_FMT "] key %d eab [" STR_FMT ":" STR_FMT "]\n",
            STR_ARG(acme->email), acme->root_pem.n, STR_ARG(acme->dns_hook), acme->key,
            STR_ARG(acme->eab_kid), STR_ARG(acme->eab_hmac));
    out_fmt(o, "    profile [" STR_FMT "] chain [" STR_FMT "] renew %llu challenges",
            STR_ARG(acme->profile), STR_ARG(acme->chain), (unsigned long long)acme->renew_before);
    for (unsigned i = 0; i < acme->n_challenges; i++)
        out_fmt(o, " %d", acme->challenges[i]);
    out_char(o, '\n');
    for (unsigned i = 0; i < acme->n_cas; i++) {
        const struct conf_ca *ca = &acme->cas[i];
        out_fmt(o, "    ca [" STR_FMT "] " STR_FMT " staging [" STR_FMT "] " STR_FMT "%s%s%s\n",
                STR_ARG(ca->name), STR_ARG(ca->url), STR_ARG(ca->staging_name),
                STR_ARG(ca->staging), ca->known ? " known" : "", ca->takes_eab ? " eab" : "",
                ca->le_limits ? " limits" : "");
    }
}

static void dump_wanted(struct out *o, const struct conf *c, const struct conf_site *s)
{
    struct str hosts[64];
    unsigned n = 0;
    for (unsigned i = 0; i < 1 + s->n_aliases + s->n_redirect_from; i++) {
        struct str host = i == 0              ? s->host
                          : i <= s->n_aliases ? s->aliases[i - 1]
                                              : s->redirect_from[i - 1 - s->n_aliases];
        if (n < ARRAY_LEN(hosts) && conf_wants_acme(c, s, host))
            hosts[n++] = host;
    }
    dump_strs(o, "by ACME", hosts, n);
}

static void dump_site(struct out *o, const struct conf *c, const struct conf_site *s)
{
    out_fmt(o, "%s " STR_FMT "\n    host " STR_FMT " https %d issuer %d tls %x certs %u\n",
            s->is_channel ? "channel" : "site", STR_ARG(s->name), STR_ARG(s->host), s->https,
            s->tls.issuer, s->tls.min_version, s->tls.n_certs);
    if (s->pass)
        out_fmt(o, "    passed on to " STR_FMT " proxy %d idle %llu\n",
                STR_ARG(s->pass->service->name), s->pass->send_proxy,
                (unsigned long long)s->pass->idle);
    dump_strs(o, "aliases", s->aliases, s->n_aliases);
    dump_strs(o, "redirect_from", s->redirect_from, s->n_redirect_from);
    dump_wanted(o, c, s);
    dump_answers(o, s);
    dump_rate(o, &s->rate);
    for (unsigned i = 0; i < s->n_routes; i++) {
        const struct conf_route *r = &s->routes[i];
        dump_route(o, c, r);
        dump_rate(o, &r->rate);
        dump_fields(o, "answer", &r->answer_fields);
        dump_fields(o, "backend", &r->backend_fields);
    }
}

static void dump_ranges(struct out *o, const char *name, struct net_ranges ranges)
{
    char buf[NET_TEXT_MAX];
    if (!ranges.n)
        return;
    out_fmt(o, "%s:", name);
    for (unsigned i = 0; i < ranges.n; i++)
        out_fmt(o, " %s/%u", net_ip_text(ranges.v[i].ip, buf).p, ranges.v[i].bits);
    out_char(o, '\n');
}

static struct str dump(const struct conf *c)
{
    struct out o = out_on(arena_alloc(arena, 65536), 65536);
    out_fmt(&o, "state " STR_FMT " runtime " STR_FMT " user [" STR_FMT "] uids %u-%u workers %u\n",
            STR_ARG(c->state), STR_ARG(c->runtime), STR_ARG(c->user), c->service_uid_first,
            c->service_uid_last, c->workers);
    for (unsigned i = 0; i < c->n_listens; i++)
        out_fmt(&o, "listen %s " STR_FMT "\n",
                c->listens[i].kind == CONF_LISTEN_HTTP     ? "http"
                : c->listens[i].kind == CONF_LISTEN_HTTPS  ? "https"
                : c->listens[i].kind == CONF_LISTEN_STREAM ? "stream"
                                                           : "metrics",
                STR_ARG(c->listens[i].addr.text));
    out_fmt(&o, "public %u %u\nlog " STR_FMT " %d " STR_FMT " %s\n", c->public_http,
            c->public_https, STR_ARG(c->log.level), c->log.format, STR_ARG(c->log.to),
            c->log.query ? "query" : "no query");
    dump_strs(&o, "exclude", c->log.exclude, c->log.n_exclude);
    out_fmt(&o, "admin " STR_FMT " %o\n", STR_ARG(c->admin.socket), c->admin.mode);
    dump_acme(&o, &c->acme);
    dump_ranges(&o, "trusted_proxies", c->trusted_proxies);
    dump_ranges(&o, "proxy_protocol", c->proxy_protocol);
    if (c->limits.per_ip != 200)
        out_fmt(&o, "per_ip %llu\n", (unsigned long long)c->limits.per_ip);
    const struct conf_limits *l = &c->limits;
    const struct conf_timeouts *t = &c->timeouts;
    const uint64_t numbers[] = {l->connections, l->header,   l->uri,   l->headers,  l->body,
                                t->handshake,   t->header,   t->idle,  t->body_gap, t->write_gap,
                                t->connect,     t->response, t->drain, t->shutdown};
    out_lit(&o, "numbers");
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        out_fmt(&o, " %llu", (unsigned long long)numbers[i]);
    out_char(&o, '\n');
    for (unsigned i = 0; i < c->n_sites; i++)
        dump_site(&o, c, &c->sites[i]);
    for (unsigned i = 0; i < c->n_services; i++)
        dump_service(&o, &c->services[i]);
    for (unsigned i = 0; i < c->n_streams; i++) {
        const struct conf_stream *s = &c->streams[i];
        out_fmt(&o,
                "stream " STR_FMT " to " STR_FMT " port [" STR_FMT "] tls %d host " STR_FMT
                " proxy %d idle %llu",
                STR_ARG(s->address), STR_ARG(s->service->name), STR_ARG(s->port), s->tls,
                STR_ARG(s->host), s->send_proxy, (unsigned long long)s->idle);
        for (size_t k = 0; k < s->alpn.n; k += 1 + (size_t)s->alpn.p[k])
            out_fmt(&o, " alpn " STR_FMT,
                    STR_ARG(str_sub(s->alpn, k + 1, k + 1 + (size_t)s->alpn.p[k])));
        out_char(&o, '\n');
    }
    assert_false(o.over);
    return without_folder(out_done(&o));
}

static void test_good(void **state)
{
    const char *path = *state, *err;
    struct head h = read_head(path);
    struct diags *d = diags_new();
    struct conf_source *s = source_of(path, &h);
    struct conf *c = conf_load(s, h.flags, d);
    if (!c || diags_warnings(d))
        fail_msg("%s does not load:\n" STR_FMT, path, STR_ARG(printed(d, DIAG_TEXT, false)));
    compare(path, dump(c));
    /* Elsewhere: none of what the load looked at is there. */
    struct str bundle = conf_bundle(arena, s);
    clearenv();
    assert_int_equal(chdir("/"), 0);
    struct conf_source *copy = conf_source_bundle(bundle, &err);
    assert_non_null(copy);
    struct conf *again = conf_load(copy, h.flags, d);
    assert_non_null(again);
    assert_true(str_eq(c->digest, again->digest));
    assert_true(str_eq(dump(c), dump(again)));
    for (unsigned i = 0; i < c->n_services; i++)
        assert_true(str_eq(c->services[i].digest, again->services[i].digest));
    assert_true(str_eq(conf_bundle(arena, copy), bundle));
    conf_unref(&again);
    conf_source_close(&copy);
    conf_unref(&c);
    conf_source_close(&s);
    diags_free(&d);
}

/* ---- the whole ---- */

static void test_every_code_has_a_case(void **state)
{
    (void)state;
    glob_t g = {0};
    assert_int_equal(glob(CASES "bad/*.expect", 0, NULL, &g), 0);
    assert_true(g.gl_pathc >= 60);
    for (unsigned i = 0; explain_code(i); i++) {
        static const char *const of_check[] = {"W006", "W008", "W009"};
        bool skip = false; /* the check verb's, not the load's: cli/check_… */
        for (size_t k = 0; k < ARRAY_LEN(of_check); k++)
            skip = skip || strcmp(explain_code(i), of_check[k]) == 0;
        if (skip)
            continue;
        struct str tag = arena_fmt(arena, "[%s]: ", explain_code(i));
        bool found = false;
        for (size_t k = 0; k < g.gl_pathc && !found; k++) {
            struct str text = read_all(g.gl_pathv[k]);
            found = memmem(text.p, text.n, tag.p, tag.n) != NULL;
        }
        if (!found)
            fail_msg("no case in " CASES "bad has %s", explain_code(i));
    }
    globfree(&g);
}

static void test_explain(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    for (unsigned i = 0; explain_code(i); i++) {
        assert_int_equal(conf_explain(explain_code(i), f), 0);
        if (i)
            assert_true(strcmp(explain_code(i - 1), explain_code(i)) < 0);
    }
    assert_int_equal(conf_explain("E999", f), 1);
    fclose(f);
    assert_non_null(strstr(text, "E020"));
    free(text);
}

static void test_schema(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_int_equal(conf_print_schema(f), 0);
    fclose(f);
    json_t *j = json_loadb(text, n, 0, NULL);
    assert_non_null(j);
    assert_non_null(json_object_get(json_object_get(j, "properties"), "channels"));
    assert_null(json_object_get(json_object_get(j, "properties"), "users")); /* not available yet */
    json_decref(j);
    free(text);
    f = open_memstream(&text, &n);
    assert_int_equal(conf_print_keys_mdoc(f), 0);
    fclose(f);
    assert_non_null(strstr(text, ".It Ic \"wait_ready\""));
    free(text);
}

static void test_damaged_bundle(void **state)
{
    (void)state;
    struct conf_source *s = source_memory(
        "a.yaml", STR("sites: { a: { host: a.localhost, routes: { /: { respond: a } } } }\n"));
    source_preset_fact(s, FACT_ROOT, 0);
    struct diags *d = diags_new();
    struct conf *c = conf_load(s, CONF_OFFLINE, d);
    assert_null(c); /* without HOME there is no place for the state */
    diags_free(&d);
    struct str b = conf_bundle(arena, s);
    char *copy = arena_alloc(arena, b.n);
    const char *err;
    for (size_t i = 0; i < b.n; i++) {
        memcpy(copy, b.p, b.n);
        copy[i] = (char)(copy[i] ^ 1);
        assert_null(conf_source_bundle((struct str){copy, b.n}, &err));
        assert_non_null(err);
        assert_null(conf_source_bundle((struct str){b.p, i}, &err));
    }
    conf_source_close(&s);
}

static void test_formats(void **state)
{
    (void)state;
    struct diags *d = diags_new();
    struct diag_place at = {.file = STR("a.yaml"), .line = 2, .col = 3, .len = 4};
    diags_source(d, STR("a.yaml"), STR("x: 1\n  password: hunter2\n"));
    unsigned id = diags_add(d, "E003", at, "unknown key `%s`", "pass\033word");
    diags_hint(d, id, "a hint");
    diags_also(d, id, (struct diag_place){.file = STR("a.yaml"), .line = 1, .col = 1, .len = 1},
               "there");
    diags_add(d, "E003", at, "unknown key `%s`", "pass\033word"); /* said once */
    assert_int_equal(diags_errors(d), 1);
    struct str s = printed(d, DIAG_SHORT, false);
    assert_true(str_eq(s, STR("a.yaml:2:3: error[E003]: unknown key `pass?word` (a hint)\n")));
    struct str text = printed(d, DIAG_TEXT, true);
    assert_null(memmem(text.p, text.n, "hunter2", 7));
    assert_non_null(memmem(text.p, text.n, "password: *******", 17));
    assert_non_null(memmem(text.p, text.n, "\033[1;31m", 7));
    struct str js = printed(d, DIAG_JSON, false);
    json_t *j = json_loadb(js.p, js.n, 0, NULL);
    assert_non_null(j);
    json_t *one = json_array_get(json_object_get(j, "diagnostics"), 0);
    assert_string_equal(json_string_value(json_object_get(one, "code")), "E003");
    assert_int_equal(json_integer_value(json_object_get(one, "line")), 2);
    json_decref(j);
    diags_free(&d);
}

/* "permission denied: user nobody cannot read /srv/x (drwx------ root)" */
static void test_permission(void **state)
{
    (void)state;
    char dir[] = "/tmp/headgate-conf-XXXXXX";
    if (geteuid() != 0)
        skip();
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0700), 0);
    struct str yaml = arena_fmt(arena, "%s/a.yaml", dir);
    struct str text = arena_fmt(
        arena, "user: nobody\nsites: { a: { host: a.localhost, routes: { /: { files: %s } } } }\n",
        dir);
    assert_null(file_write(arena, yaml.p, text, 0644));
    struct head h = {.root = true};
    struct conf_source *s = source_of(yaml.p, &h);
    struct diags *d = diags_new();
    assert_null(conf_load(s, 0, d));
    struct str got = printed(d, DIAG_SHORT, false);
    struct str want =
        arena_fmt(arena, "permission denied: user nobody cannot read %s (drwx------ root)", dir);
    assert_non_null(memmem(got.p, got.n, want.p, want.n));
    conf_source_close(&s);
    diags_free(&d);
    unlink(yaml.p);
    rmdir(dir);
}

static void test_issuer(void **state)
{
    (void)state;
    static const char *const local[] = {"localhost", "www.localhost", "a.local", "b.internal",
                                        "c.lan",     "d.home.arpa",   "box",     "127.0.0.1",
                                        "[::1]",     "*.localhost",   "*.lan"};
    static const char *const acme[] = {
        "example.org", "localhost.example.org", "xlocal.org", "*.example.org", "*", "notlan.x-lan"};
    struct conf_tls tls = {0};
    for (size_t i = 0; i < ARRAY_LEN(local); i++)
        assert_int_equal(conf_issuer_for(&tls, str_of(local[i])), CONF_ISSUER_LOCAL);
    for (size_t i = 0; i < ARRAY_LEN(acme); i++)
        assert_int_equal(conf_issuer_for(&tls, str_of(acme[i])), CONF_ISSUER_ACME);
    tls.issuer = CONF_ISSUER_LOCAL;
    assert_int_equal(conf_issuer_for(&tls, STR("example.org")), CONF_ISSUER_LOCAL);
}

static void test_expand(void **state)
{
    (void)state;
    const struct conf_port ports[] = {{STR("a"), 80}, {STR("b-c"), 65535}};
    struct conf_vars v = {.listen = STR("127.0.0.1:9"),
                          .port = STR("9"),
                          .instance = STR("2"),
                          .ports = ports,
                          .n_ports = 2};
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"plain", "plain"},
        {"$listen", "127.0.0.1:9"},
        {"http://$listen/", "http://127.0.0.1:9/"},
        {"${port}x", "9x"},
        {"$$listen", "$listen"},
        {"$$$port", "$9"},
        {"a$instance:$port", "a2:9"},
        {"$release", ""},
        {"$port:a", "80"},
        {"$port:b-c,${port:a}0", "65535,800"},
        {"$port:none", ""},
        {"", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str got = conf_expand(arena, str_of(cases[i].text), &v);
        if (!str_eq(got, str_of(cases[i].want)))
            fail_msg("%s: got " STR_FMT, cases[i].text, STR_ARG(got));
    }
}

/* What is shipped is right, with no warning. */
static void test_shipped(void **state)
{
    static const char *const files[] = {"conf/demo.yaml", "conf/example.yaml"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct head h = {.root = true};
        struct diags *d = diags_new();
        struct conf_source *s = source_of(files[i], &h);
        struct conf *c = conf_load(s, CONF_OFFLINE, d);
        if (!c || diags_warnings(d))
            fail_msg("%s:\n" STR_FMT, files[i], STR_ARG(printed(d, DIAG_TEXT, false)));
        conf_unref(&c);
        conf_source_close(&s);
        diags_free(&d);
    }
}

/* ---- cases become tests ---- */

static char home[4096];

static int case_setup(void **state)
{
    (void)state;
    /* Each case has the same small environment, whoever runs the tests. */
    char *const path = getenv("PATH");
    struct str kept = path ? arena_str(arena, str_of(path)) : STR("/usr/bin:/bin");
    clearenv();
    setenv("PATH", kept.p, 1);
    setenv("HOME", "/home/ops", 1);
    setenv("XDG_RUNTIME_DIR", "/run/user/1000", 1);
    return chdir(home);
}

static unsigned add_cases(struct CMUnitTest *tests, unsigned n, const char *kind,
                          CMUnitTestFunction run)
{
    glob_t g = {0};
    struct str pattern = arena_fmt(arena, CASES "%s/*.yaml", kind);
    if (glob(pattern.p, 0, NULL, &g) == 0)
        for (size_t i = 0; i < g.gl_pathc && n < CASES_MAX; i++) {
            const char *path = arena_strz(arena, str_of(g.gl_pathv[i]));
            tests[n++] = (struct CMUnitTest){.name = path + strlen(CASES),
                                             .test_func = run,
                                             .setup_func = case_setup,
                                             .initial_state = (void *)(uintptr_t)path};
        }
    globfree(&g);
    return n;
}

int main(void)
{
    static struct CMUnitTest tests[CASES_MAX + 16];
    const struct CMUnitTest whole[] = {
        cmocka_unit_test(test_every_code_has_a_case),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_damaged_bundle),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_permission),
        cmocka_unit_test(test_issuer),
        cmocka_unit_test(test_expand),
        cmocka_unit_test(test_shipped),
    };
    unsigned n = 0;
    if (!getcwd(home, sizeof(home)))
        return 1;
    update = getenv("UPDATE") != NULL;
    arena = arena_new(65536);
    n = add_cases(tests, n, "bad", test_bad);
    n = add_cases(tests, n, "good", test_good);
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        tests[n] = whole[i];
        tests[n++].setup_func = case_setup;
    }
    int failed = _cmocka_run_group_tests("conf", tests, n, NULL, NULL);
    arena_free(&arena);
    return failed;
}
