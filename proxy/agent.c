/*
 * agent.c - the agent process: makes the certificates of the local CA for the hosts that want them,
 * sends them to the master, and renews them in time; those of ACME are agent_acme.c's, backends'
 * names agent_names.c's. It knows
 * no worker and serves nobody.
 */
#include "base/base.h" /* first: it says which C library we want */

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acme/local_ca.h"
#include "base/fetch.h"
#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/msg.h"
#include "base/proc.h"
#include "base/resolve.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "conf/conf.h"
#include "proxy/agent_acme.h"
#include "proxy/agent_certs.h"
#include "proxy/agent_challenges.h"
#include "proxy/agent_names.h"
#include "proxy/roles.h"
#include "proxy/tls.h"

#define RETRY_S 15
/* A deadline at most this far away: clocks are set, machines sleep; looking again costs nothing. */
#define LOOK_MAX_S 3600

static struct agent_self {
    struct msg_peer *peer;
    struct conf *conf;
    struct local_ca *ca;
    struct deadline renew;
    bool sandboxed;
} self;

/* What one round over all hosts found. */
struct round {
    struct arena *arena;
    struct tls_cert **given; /* tls.certificates of the site at hand, parsed */
    unsigned n_given;
    struct str *seen; /* hosts done already */
    unsigned n_seen, cap_seen;
    struct str *acme; /* hosts of the ACME issuer */
    unsigned n_acme;
    struct str *meanwhile; /* those of them that show the local CA's until theirs is there */
    unsigned n_meanwhile;
    unsigned sent;
    int64_t next; /* when to look again */
    const char *err;
};

/* ---- configuration ---- */

static struct conf *conf_from(int fd, uint64_t generation, const char **err)
{
    struct str bundle;
    struct conf *c = NULL;
    *err = file_map_sealed(fd, &bundle);
    if (*err)
        return NULL;
    struct conf_source *src = conf_source_bundle(bundle, err);
    if (src) {
        struct diags *d = diags_new();
        c = conf_load(src, 0, d);
        if (c)
            c->generation = generation;
        else
            *err = "the bundle does not load";
        diags_free(&d);
        conf_source_close(&src);
    }
    munmap((void *)(uintptr_t)bundle.p, bundle.n);
    return c;
}

/* ---- certificates ---- */

/*
 * Our working folder is the state folder: the way to it may be closed to us (below /root). Its full
 * name reads better where it can be used.
 */
static const char *state_folder(void)
{
    struct stat here, there;
    const char *path = self.conf->state.p;
    bool same = stat(".", &here) == 0 && stat(path, &there) == 0 && here.st_dev == there.st_dev &&
                here.st_ino == there.st_ino;
    return same ? path : ".";
}

static void round_failed(struct round *r, struct str host, const char *why)
{
    log_error("no certificate", "host", "%s", arena_strz(r->arena, host), "cause", "%s", why);
    if (!r->err)
        r->err = arena_fmt(r->arena, STR_FMT ": %s", STR_ARG(host), why).p;
    r->next = MIN(r->next, wall_s() + RETRY_S);
}

/* `name`: what the certificate is for; `host`: under which name workers look for it. */
static void issue(struct round *r, struct str name, struct str host)
{
    struct local_leaf leaf;
    const char *err = NULL;
    if (!self.ca) /* made when the first host needs it */
        self.ca = local_ca_open(r->arena, state_folder(), &err);
    if (self.ca)
        err = local_ca_leaf(self.ca, r->arena, name, &leaf);
    if (!err)
        err = agent_cert_send(self.peer, host, leaf.pem, leaf.not_after, AGENT_ISSUER_LOCAL);
    if (err) {
        round_failed(r, host, err);
        return;
    }
    r->sent++;
    r->next = MIN(r->next, leaf.renew_at);
}

static bool seen_before(struct round *r, struct str host)
{
    for (unsigned i = 0; i < r->n_seen; i++)
        if (str_eq(r->seen[i], host))
            return true;
    ASSERT(r->n_seen < r->cap_seen);
    r->seen[r->n_seen++] = host;
    return false;
}

static bool is_given(const struct round *r, struct str host)
{
    for (unsigned i = 0; i < r->n_given; i++)
        if (tls_cert_covers(r->given[i], host))
            return true;
    return false;
}

static void look_at_host(struct round *r, const struct conf_tls *tls, struct str host)
{
    if (conf_issuer_for(tls, host) == CONF_ISSUER_ACME && self.conf->acme.on &&
        !str_eq(host, STR("*"))) {
        if (is_given(r, host) || seen_before(r, host))
            return;
        r->acme[r->n_acme++] = host;
        if (tls->unknown_sni_local)
            r->meanwhile[r->n_meanwhile++] = host;
        return;
    }
    /* "*" names nobody: who comes by a name that no site has is shown what covers this machine. */
    bool any = str_eq(host, STR("*"));
    struct str name = any ? STR("localhost") : host;
    bool local = conf_issuer_for(tls, name) == CONF_ISSUER_LOCAL &&
                 (!any || tls->issuer != CONF_ISSUER_ACME);
    if (local && !(any ? r->n_given > 0 : is_given(r, host)) && !seen_before(r, host))
        issue(r, name, host);
}

static void look_at_site(struct round *r, const struct conf_site *site)
{
    const struct conf_tls *tls = &site->tls;
    r->given = arena_zarray(r->arena, struct tls_cert *, tls->n_certs + 1);
    r->n_given = 0;
    for (unsigned i = 0; i < tls->n_certs; i++) {
        const char *err;
        struct tls_cert *c = tls_cert_parse(tls->certs[i].cert_pem, tls->certs[i].key_pem, &err);
        if (c)
            r->given[r->n_given++] = c;
        else
            log_error("certificate is not usable", "file", "%s", tls->certs[i].cert_path.p, "cause",
                      "%s", err);
    }
    for (unsigned i = 0; i < conf_site_hosts(site); i++)
        look_at_host(r, tls, conf_site_host(site, i));
    while (r->n_given)
        tls_cert_unref(&r->given[--r->n_given]);
}

static void look_at_all(struct round *r)
{
    const struct conf *c = self.conf;
    r->cap_seen = conf_hosts(c) + 1; /* "*" for unknown names */
    r->seen = arena_zarray(r->arena, struct str, r->cap_seen);
    r->acme = arena_zarray(r->arena, struct str, r->cap_seen);
    r->meanwhile = arena_zarray(r->arena, struct str, r->cap_seen);
    for (unsigned i = 0; i < c->n_sites; i++)
        look_at_site(r, &c->sites[i]);
    bool unknown = c->tls.unknown_sni_local;
    for (unsigned i = 0; i < c->n_sites; i++)
        unknown = unknown || c->sites[i].tls.unknown_sni_local;
    if (unknown && !seen_before(r, STR("*")))
        issue(r, STR("localhost"), STR("*"));
}

static bool any_tls(const struct conf *c)
{
    return conf_ends_tls(c) && c->n_sites > 0;
}

static void on_renew(struct deadline *d);

static void do_round(bool first_of_generation)
{
    struct round r = {.arena = arena_new(64 * 1024), .next = wall_s() + LOOK_MAX_S};
    if (any_tls(self.conf))
        look_at_all(&r);
    if (first_of_generation)
        agent_acme_use(self.conf, r.acme, r.n_acme, self.peer, state_folder());
    for (unsigned i = 0; i < r.n_meanwhile; i++)
        if (!agent_acme_serves(r.meanwhile[i]))
            issue(&r, r.meanwhile[i], r.meanwhile[i]);
    if (first_of_generation || r.err) {
        struct msg_done done = {self.conf->generation, r.err == NULL, 0};
        msg_send(self.peer, MSG_CERTS_DONE, &done, str_sub(str_of(r.err), 0, 4096), -1);
    }
    log_debug("certificates sent", "count", "%u", r.sent);
    int64_t wait = MAX(r.next - wall_s(), 1);
    deadline_set(&self.renew, (uint64_t)MIN(wait, LOOK_MAX_S) * 1000, on_renew);
    arena_free(&r.arena);
}

static void on_renew(struct deadline *d)
{
    (void)d;
    do_round(false);
}

/* ---- messages ---- */

static void enter_sandbox(void)
{
    if (self.sandboxed)
        return;
    self.sandboxed = true;
    const char *err = self.conf->acme.on ? fetch_setup() : NULL;
    if (!err)
        err = sandbox_agent(".");
    if (!err)
        return;
    log_error("the agent's sandbox failed", "cause", "%s", err);
    loop_stop();
}

static void on_config(uint64_t generation, int fd)
{
    const char *err = NULL;
    struct conf *c = conf_from(fd, generation, &err);
    struct msg_done done = {generation, c != NULL, 0};
    msg_send(self.peer, MSG_CONFIG_DONE, &done, str_sub(str_of(err), 0, 4096), -1);
    if (!c)
        return;
    bool first = self.conf == NULL;
    if (self.conf)
        conf_unref(&self.conf);
    self.conf = c;
    enum log_level level;
    if (log_level_parse(c->log.level, &level))
        log_set_level(level);
    enter_sandbox();
    if (first) {
        struct msg_empty ready = {0};
        msg_send(self.peer, MSG_READY, &ready, STR_NULL, -1);
    }
    agent_names_use(c, self.peer);
    do_round(true);
}

static void on_msg(void *ctx, struct msg *m)
{
    (void)ctx;
    if (m->type == MSG_SETUP) {
        const struct msg_setup *s = m->fixed;
        const char *err = stats_attach(m->fd, s->slot);
        if (err)
            log_error("counters are not shared", "cause", "%s", err);
    } else if (m->type == MSG_CONFIG) {
        on_config(((const struct msg_generation *)m->fixed)->generation, m->fd);
    } else if (m->type == MSG_CERTS_ASK) {
        agent_acme_ask(m->fixed, m->tail);
    } else if (m->type == MSG_RESOLVE) {
        agent_names_again(m->tail);
    } else if (m->type == MSG_CHALLENGE_DONE) {
        agent_challenge_said(m->fixed, m->tail);
    } else if (m->type != MSG_HELLO) {
        log_warn("message that is not for the agent", "message", "%s", msg_name(m->type));
    }
    if (m->fd >= 0)
        close(m->fd);
}

static void on_gone(void *ctx, const char *why)
{
    (void)ctx;
    (void)why;
    agent_challenges_stop();
    msg_peer_close(&self.peer);
    loop_stop();
}

int agent_main(int msg_fd)
{
    log_init("agent", LOG_INFO);
    proc_set_title("headgate: agent");
    signal(SIGPIPE, SIG_IGN);
    loop_init();
    self.peer = msg_peer_new(msg_fd, NULL, on_msg, on_gone);
    agent_challenges_start(self.peer);
    struct msg_hello hello = {MSG_VERSION, ROLE_AGENT, 0, (uint32_t)getpid()};
    msg_send(self.peer, MSG_HELLO, &hello, STR_NULL, -1);
    loop_run();
    deadline_cancel(&self.renew);
    agent_names_stop();
    agent_acme_stop();
    fetch_fini();
    agent_challenges_stop();
    resolve_fini();
    local_ca_close(&self.ca);
    if (self.conf)
        conf_unref(&self.conf);
    msg_peer_close(&self.peer);
    return 0;
}
