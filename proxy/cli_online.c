/*
 * cli_online.c - `headgate check --online`: would a CA find the hosts whose certificates come by
 * ACME, and what is left of its rate limits? Asks name servers and the hosts themselves, no CA.
 */
#include "proxy/cli.h"

#include <time.h>

#include "acme/ledger.h"
#include "acme/preflight.h"
#include "base/loop.h"
#include "base/resolve.h"
#include "proxy/admin.h"

struct online {
    struct cli *cli;
    const struct conf *conf;
    struct diags *diags;
    struct host *hosts;
    unsigned n, under_way;
    uint16_t ports[2];
};

struct host {
    struct online *all;
    struct str name;
    const struct conf_site *site;
    struct preflight_verdict verdict;
};

/* ---- looks at hosts ---- */

static void on_verdict(void *ctx, const struct preflight_verdict *v)
{
    struct host *h = ctx;
    h->verdict = *v;
    if (--h->all->under_way == 0)
        loop_stop();
}

static void add_host(struct online *o, const struct conf_site *site, struct str name)
{
    if (name.n && conf_wants_acme(o->conf, site, name))
        o->hosts[o->n++] = (struct host){.all = o, .name = name, .site = site};
}

static void gather(struct online *o)
{
    o->hosts = arena_zarray(o->cli->arena, struct host, conf_hosts(o->conf) + 1);
    for (unsigned i = 0; i < o->conf->n_sites; i++) {
        const struct conf_site *s = &o->conf->sites[i];
        for (unsigned k = 0; k < conf_site_hosts(s); k++)
            add_host(o, s, conf_site_host(s, k));
    }
}

/* Ports are asked only where a server answers them already. */
static void choose_ports(struct online *o)
{
    const char *err;
    json_t *ask = json_pack("{s:s}", "verb", "status");
    json_t *status = admin_call(o->cli->arena, o->conf->admin.socket.p, ask, false, &err);
    for (unsigned i = 0; status && i < o->conf->acme.n_challenges; i++) {
        if (o->conf->acme.challenges[i] == CONF_HTTP_01 && conf_listens(o->conf, CONF_LISTEN_HTTP))
            o->ports[0] = 80;
        if (o->conf->acme.challenges[i] == CONF_TLS_ALPN_01 &&
            conf_listens(o->conf, CONF_LISTEN_HTTPS))
            o->ports[1] = 443;
    }
    json_decref(ask);
    json_decref(status);
}

static bool by_dns_alone(const struct conf_acme *acme)
{
    return acme->n_challenges == 1 && acme->challenges[0] == CONF_DNS_01;
}

static void look(struct online *o)
{
    if (by_dns_alone(&o->conf->acme))
        return; /* no CA comes to the hosts */
    choose_ports(o);
    loop_init();
    for (unsigned i = 0; i < o->n; i++) {
        const struct preflight_spec spec = {.host = o->hosts[i].name,
                                            .ports = {o->ports[0], o->ports[1]}};
        if (str_chr(spec.host, '*') < spec.host.n)
            continue;
        (void)preflight_start(&spec, on_verdict, &o->hosts[i]);
        o->under_way++;
    }
    if (o->under_way)
        loop_run();
    resolve_fini();
    for (unsigned i = 0; i < o->n; i++)
        if (o->hosts[i].verdict.result != PREFLIGHT_FINE)
            diags_add(o->diags, "W008", o->hosts[i].site->place, "%s", o->hosts[i].verdict.text);
}

/* ---- what is left ---- */

static void ledger_line(FILE *f, const struct ledger *l, enum ledger_kind k, struct str host,
                        struct str of)
{
    const struct ledger_left left = ledger_left(l, k, host, time(NULL));
    if (!left.limit || (!left.used && k != LEDGER_ORDERS))
        return;
    fprintf(f, "  %s" STR_FMT STR_FMT ": %u of %u used\n", ledger_kind_text(k),
            STR_ARG(of.n ? STR(", ") : STR("")), STR_ARG(of), left.used, left.limit);
}

/* The registered domains of hosts before this one. */
static bool domain_seen(const struct online *o, unsigned i, struct str domain)
{
    for (unsigned k = 0; k < i; k++)
        if (str_eq(ledger_domain(o->cli->arena, o->hosts[k].name), domain))
            return true;
    return false;
}

static void ledger_show(struct online *o, const struct conf_ca *ca, FILE *f)
{
    const char *err = NULL;
    struct str path = arena_fmt(o->cli->arena, STR_FMT "/acme/" STR_FMT "/ledger",
                                STR_ARG(o->conf->state), STR_ARG(ca->name));
    struct ledger *l =
        ledger_open(o->cli->arena, path.p, ledger_limits(ca->name, ca->le_limits), &err);
    if (f)
        fprintf(f, STR_FMT " (" STR_FMT ")%s\n", STR_ARG(ca->name), STR_ARG(ca->url),
                ca->le_limits ? "" : ": no limits are known");
    if (f && err)
        fprintf(f, "  %s\n", err);
    if (f)
        ledger_line(f, l, LEDGER_ORDERS, STR(""), STR(""));
    for (unsigned i = 0; i < o->n; i++) {
        const struct host *h = &o->hosts[i];
        const struct ledger_verdict v = ledger_ask(l, h->name, false, time(NULL));
        struct str domain = ledger_domain(o->cli->arena, h->name);
        if (v.until)
            diags_add(o->diags, "W009", h->site->place, "no order for `" STR_FMT "` now: %s",
                      STR_ARG(h->name), v.text);
        if (f && !domain_seen(o, i, domain))
            ledger_line(f, l, LEDGER_DOMAIN, h->name, domain);
        if (f)
            ledger_line(f, l, LEDGER_DUPLICATES, h->name, h->name);
        if (f)
            ledger_line(f, l, LEDGER_FAILURES, h->name, h->name);
    }
    ledger_close(&l);
}

void cli_check_online(struct cli *c, const struct conf *conf, struct diags *d, FILE *text)
{
    struct online o = {.cli = c, .conf = conf, .diags = d};
    gather(&o);
    if (!o.n && text)
        fputs("No host gets its certificate by ACME.\n", text);
    if (!o.n)
        return;
    look(&o);
    for (unsigned i = 0; i < conf->acme.n_cas; i++)
        ledger_show(&o, &conf->acme.cas[i], text);
}
