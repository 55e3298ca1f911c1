/*
 * cli_check.c - `headgate check`: every error of a configuration, and the addresses that could not
 * be listened on now.
 */
#include "proxy/cli.h"

#include <stdlib.h>

#include "conf/conf.h"
#include "proxy/admin.h"
#include "proxy/listeners.h"

/*
 * Warnings only: the program that holds a port may be the one that this configuration replaces. Not
 * asked when its own server runs; what only a privileged user may bind is no fault of the file.
 */
static void check_ports(struct cli *c, const struct conf *conf, struct diags *d)
{
    const char *err;
    json_t *ask = json_pack("{s:s}", "verb", "status");
    json_t *status = admin_call(c->arena, conf->admin.socket.p, ask, false, &err);
    json_decref(ask);
    json_decref(status);
    for (unsigned i = 0; !status && i < conf->n_listens; i++) {
        struct list opened;
        struct conf_listen listen = conf->listens[i];
        /* A try at a path would leave a trace; fd:NAME is there only when systemd starts us. */
        if (listen.addr.sa.ss_family != AF_INET && listen.addr.sa.ss_family != AF_INET6)
            continue;
        list_init(&opened);
        listen.place.line = 0; /* the diagnostic names it, the sentence need not */
        err = listener_open(c->arena, &listen, 1, false, &opened);
        if (!err)
            listener_close(&(struct listener *){container_of(opened.next, struct listener, link)});
        else if (errno == EADDRINUSE || errno == EADDRNOTAVAIL)
            diags_add(d, "W006", conf->listens[i].place, "%s", err);
    }
}

struct conf *cli_load(struct cli *c, struct conf_source *src, unsigned flags, struct diags *d)
{
    struct conf *conf = conf_load(src, flags, d);
    if (conf && !(flags & CONF_OFFLINE))
        check_ports(c, conf, d);
    return conf;
}

/* What is left of the CAs' limits, as text of which the length is returned; to be freed. */
static size_t look_online(struct cli *c, const struct conf *conf, struct diags *d, char **text)
{
    size_t n = 0;
    FILE *f = open_memstream(text, &n);
    ASSERT(f);
    cli_check_online(c, conf, d, f);
    ASSERT(fclose(f) == 0);
    return n;
}

int cli_verb_check(struct cli *c)
{
    if (c->offline && c->online)
        return cli_usage_error("--offline and --online contradict each other");
    static const enum diag_format formats[] = {
        [CLI_TEXT] = DIAG_TEXT, [CLI_SHORT] = DIAG_SHORT, [CLI_JSON] = DIAG_JSON};
    enum cli_format format = c->json ? CLI_JSON : c->format;
    struct diags *d = diags_new();
    /* As the user wrote it: diagnostics show it so. */
    const char *file = c->config ? c->config : cli_config_file(c);
    struct conf_source *src = conf_source_fs(file);
    struct conf *conf = cli_load(c, src, c->offline ? CONF_OFFLINE : 0, d);
    char *left = NULL;
    size_t n = 0;
    if (c->online && conf)
        n = look_online(c, conf, d, &left);
    diags_print(d, formats[format], cli_wants_colour(stdout), stdout);
    if (format == CLI_TEXT) {
        fwrite(left, 1, n, stdout);
        diags_summary(d, stdout);
    }
    free(left);
    bool fine = conf && !(c->strict && diags_warnings(d));
    if (conf)
        conf_unref(&conf);
    conf_source_close(&src);
    diags_free(&d);
    return fine ? ADMIN_FINE : ADMIN_FAILED;
}
