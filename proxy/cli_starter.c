/*
 * cli_starter.c - how the configuration that `headgate init` writes reads: what was answered as
 * keys, and beside it, as comments, what one is likely to want next.
 */
#include "conf/conf.h"
#include "conf/yaml_write.h"
#include "proxy/cli_init.h"

static bool usual_ports(const struct starter *s)
{
    return str_eq(s->http, STR("\":80\"")) && str_eq(s->https, STR("\":443\""));
}

static void write_globals(const struct starter *s, FILE *f)
{
    if (s->no_user)
        fputs(
            "# Who the workers run as. Better is an account of their own; then leave this away:\n"
            "#   useradd --system --home-dir /var/lib/headgate --shell /usr/sbin/nologin headgate\n"
            "user: nobody\n\n",
            f);
    if (s->high_ports)
        fputs("# The usual ports, 80 and 443, are root's; others may have them from a systemd "
              "unit.\n",
              f);
    if (usual_ports(s)) {
        fputs("# listen: { http: \":80\", https: \":443\" }   # the default; HTTP redirects to "
              "HTTPS\n\n",
              f);
        return;
    }
    fprintf(f, "listen: { http: " STR_FMT ", https: " STR_FMT, STR_ARG(s->http), STR_ARG(s->https));
    if (s->https_port && s->http_port && s->https_port != 443)
        fprintf(f, ", public: { http: %u, https: %u }", s->http_port, s->https_port);
    fputs(s->http_port && s->https_port ? " }   # HTTP redirects to HTTPS\n\n" : " }\n\n", f);
}

static bool is_local(const struct starter *s)
{
    const struct conf_tls by_default = {.issuer = CONF_ISSUER_AUTO};
    return conf_issuer_for(&by_default, s->host) == CONF_ISSUER_LOCAL;
}

/* A public CA comes to port 80 or 443, whatever the configuration says. */
bool starter_by_acme(const struct starter *s)
{
    return !is_local(s) && s->host.p[0] != '*' && (s->http_port == 80 || s->https_port == 443);
}

static void write_acme(const struct starter *s, FILE *f)
{
    if (!starter_by_acme(s))
        return;
    fputs(
        "# A certificate of Let's Encrypt for each host; this agrees to its terms of service. The "
        "names\n"
        "# have to lead here. `headgate certs` says how it stands with them.\n",
        f);
    if (s->email.n)
        fprintf(f, "acme: { email: " STR_FMT " }\n\n", STR_ARG(s->email));
    else
        fputs("acme: {}   # { email: you@example.org } lets the CA write to you\n\n", f);
}

static void write_tls(const struct starter *s, FILE *f)
{
    if (starter_by_acme(s)) {
        fputs("\n"
              "    # A given certificate goes before the one of `acme`:\n"
              "    #   tls: { certificates: [{ cert: /path/to/fullchain.pem, key: /path/to/key.pem "
              "}] "
              "}\n",
              f);
        return;
    }
    fputs("\n"
          "    # Its certificate is of headgate's own CA: `headgate trust` makes this machine "
          "believe it,\n"
          "    # others need ca/root.crt of the state folder. With one of a public CA, this "
          "instead:\n"
          "    #   tls: { certificates: [{ cert: /path/to/fullchain.pem, key: /path/to/key.pem }] "
          "}\n",
          f);
    if (is_local(s))
        return;
    fputs("    # On ports 80 and 443 `acme: {}` at the top level gets one of Let's Encrypt.\n"
          "    tls: { issuer: local }\n",
          f);
}

static void write_run(const struct starter *s, FILE *f)
{
    fputs("        # Started, watched, and started again when it ends. $listen is the address "
          "where it\n"
          "        # is to listen, another for each instance; $port is its port alone.\n"
          "        run: [",
          f);
    for (size_t i = 0; i < s->n_run; i++)
        fprintf(f, "%s" STR_FMT, i ? ", " : "", STR_ARG(s->run[i]));
    fputs("]\n", f);
    if (s->cwd.n)
        fprintf(f, "        cwd: " STR_FMT "\n", STR_ARG(s->cwd));
    fputs(s->told ? "        # env: { LOG_LEVEL: info }\n" : "        env: { PORT: $port }\n", f);
    fputs("        # ready: { http: /healthz }     # it gets requests when this answers, not "
          "before\n",
          f);
}

static void write_services(const struct starter *s, FILE *f)
{
    fputs("\n    services:\n      app:\n", f);
    if (s->n_run)
        write_run(s, f);
    else
        fprintf(f,
                "        # A list of addresses shares the requests out: [URL, URL].\n"
                "        url: " STR_FMT "\n",
                STR_ARG(s->url));
}

static void write_routes(const struct starter *s, FILE *f)
{
    bool app = s->n_run || s->url.n;
    fputs("\n    # The longest path that fits wins, whatever the order.\n    routes:\n", f);
    if (s->folder.n)
        fprintf(f, "      /: { files: " STR_FMT " }\n", STR_ARG(s->folder));
    if (app)
        fprintf(f, "      %s: { proxy: app }\n", s->folder.n ? "/api/" : "/");
    if (!app)
        fputs("      # /api/: { proxy: app }         # with services: { app: http://127.0.0.1:3000 "
              "}\n",
              f);
    if (!s->folder.n)
        fputs("      # /static/: { files: /srv/www }\n", f);
    fputs("      # /old/: { redirect: /new/ }\n", f);
}

void starter_write(struct starter *s, FILE *f)
{
    fputs("# headgate's configuration, begun by `headgate init`. After a change: `headgate check`, "
          "then\n"
          "# `headgate reload`. All keys are in headgate.yaml(5), the release channels of an app "
          "too.\n\n",
          f);
    write_globals(s, f);
    write_acme(s, f);
    const char *below = is_local(s) ? "localhost" : "example.org";
    struct str host = yaml_scalar_literal(s->arena, s->host);
    fprintf(f,
            "sites:\n"
            "  main:\n"
            "    host: " STR_FMT "\n"
            "    # aliases: [other.%s]           # answered likewise\n"
            "    # redirect_from: [www.%s]       # redirected to the host\n",
            STR_ARG(host), below, below);
    write_tls(s, f);
    if (s->n_run || s->url.n)
        write_services(s, f);
    write_routes(s, f);
}
