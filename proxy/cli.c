/*
 * cli.c - the command line: options, verbs, exit statuses. What a verb does beyond asking the
 * server or the configuration is elsewhere.
 */
#include "proxy/cli.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "conf/conf.h"
#include "proxy/admin.h"
#include "proxy/listeners.h"
#include "proxy/metrics.h"
#include "proxy/roles.h"

/* Which options a verb takes besides none: bits, one for each entry of `options`. */
enum {
    OPT_CONFIG = 1 << 0,
    OPT_SOCKET = 1 << 1,
    OPT_JSON = 1 << 2,
    OPT_STRICT = 1 << 3,
    OPT_OFFLINE = 1 << 4,
    OPT_ONLINE = 1 << 5,
    OPT_FORMAT = 1 << 6,
    OPT_PLAN = 1 << 7,
    OPT_WATCH = 1 << 8,
    OPT_MDOC = 1 << 9,
    OPT_METRICS = 1 << 10,
    OPT_FOLLOW = 1 << 20,
    OPT_LINES = 1 << 21,
    OPT_SERVER = OPT_CONFIG | OPT_SOCKET | OPT_JSON,
};

static const struct option {
    const char *name;
    unsigned bit;
    bool value;
} options[] = {
    {"--config", OPT_CONFIG, true},    {"--socket", OPT_SOCKET, true},
    {"--json", OPT_JSON, false},       {"--strict", OPT_STRICT, false},
    {"--offline", OPT_OFFLINE, false}, {"--online", OPT_ONLINE, false},
    {"--format", OPT_FORMAT, true},    {"--plan", OPT_PLAN, false},
    {"--watch", OPT_WATCH, false},     {"--mdoc", OPT_MDOC, false},
    {"--metrics", OPT_METRICS, false}, {"--follow", OPT_FOLLOW, false},
    {"-f", OPT_FOLLOW, false},         {"--lines", OPT_LINES, true},
    {"-n", OPT_LINES, true},
};

static int usage_error(const char *text, const char *detail)
{
    fprintf(stderr, "headgate: %s%s\n", text, detail);
    fputs("`headgate --help` lists the verbs and their options.\n", stderr);
    return ADMIN_USAGE;
}

static bool wants_colour(FILE *f)
{
    const char *term = getenv("TERM");
    return isatty(fileno(f)) == 1 && !getenv("NO_COLOR") && !(term && strcmp(term, "dumb") == 0);
}

/* ---- verbs that need no server ---- */

static int verb_run(struct cli *c)
{
    /* The program's memory keeps the arguments only until its title is set. */
    return master_main(cli_config_file(c));
}

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

static int verb_check(struct cli *c)
{
    static const enum diag_format formats[] = {
        [CLI_TEXT] = DIAG_TEXT, [CLI_SHORT] = DIAG_SHORT, [CLI_JSON] = DIAG_JSON};
    if (c->online)
        return usage_error("check --online is not available in this version", "");
    enum cli_format format = c->json ? CLI_JSON : c->format;
    struct diags *d = diags_new();
    /* As the user wrote it: diagnostics show it so. */
    const char *file = c->config ? c->config : cli_config_file(c);
    struct conf_source *src = conf_source_fs(file);
    struct conf *conf = conf_load(src, c->offline ? CONF_OFFLINE : 0, d);
    if (conf && !c->offline)
        check_ports(c, conf, d);
    diags_print(d, formats[format], wants_colour(stdout), stdout);
    if (format == CLI_TEXT)
        diags_summary(d, stdout);
    bool fine = conf && !(c->strict && diags_warnings(d));
    if (conf)
        conf_unref(&conf);
    conf_source_close(&src);
    diags_free(&d);
    return fine ? ADMIN_FINE : ADMIN_FAILED;
}

static int verb_explain(struct cli *c)
{
    int rc = conf_explain(c->word, stdout); /* says itself what codes there are */
    return rc == 0 ? ADMIN_FINE : ADMIN_FAILED;
}

static int verb_schema(struct cli *c)
{
    if (c->metrics)
        return metrics_print_mdoc(stdout);
    return c->mdoc ? conf_print_keys_mdoc(stdout) : conf_print_schema(stdout);
}

static int verb_version(struct cli *c)
{
    if (c->json)
        printf("{\"version\":\"%s\"}\n", HG_VERSION);
    else
        printf("headgate %s\n", HG_VERSION);
    return ADMIN_FINE;
}

/* ---- verbs that ask the server ---- */

/* NULL when there is no server; said so then. */
static json_t *ask(struct cli *c, json_t *request, bool till_exit)
{
    const char *err = NULL;
    json_t *reply = admin_call(c->arena, cli_socket_path(c), request, till_exit, &err);
    json_decref(request);
    if (reply)
        return reply;
    const char *file = cli_config_file(c);
    if (c->config && !c->socket && access(file, F_OK) < 0)
        fprintf(stderr, "headgate: there is no %s, and no server that runs with it\n", file);
    else
        fprintf(stderr, "headgate: %s\n", err);
    return NULL;
}

static int status_of(const json_t *reply)
{
    json_int_t status = json_integer_value(json_object_get(reply, "status"));
    return status >= 0 && status <= ADMIN_REFUSED ? (int)status : ADMIN_FAILED;
}

/* The answer's words: to stdout when all is well, else to stderr; with --json the whole of it. */
static int show(struct cli *c, json_t *reply)
{
    if (!reply)
        return ADMIN_NO_SERVER;
    int status = status_of(reply);
    const char *text = json_string_value(json_object_get(reply, "text"));
    if (c->json) {
        json_dumpf(reply, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (text) {
        fputs(text, status == ADMIN_FINE ? stdout : stderr);
    }
    json_decref(reply);
    return status;
}

static int verb_reload(struct cli *c)
{
    bool colour = !c->json && wants_colour(stderr);
    return show(
        c, ask(c, json_pack("{s:s, s:b, s:b}", "verb", "reload", "colour", colour, "plan", c->plan),
               false));
}

static int verb_restart(struct cli *c)
{
    return show(c, ask(c, json_pack("{s:s, s:s}", "verb", "restart", "service", c->word), false));
}

static int verb_logs(struct cli *c)
{
    return cli_logs(c, wants_colour(stdout));
}

static int verb_stop(struct cli *c)
{
    return show(c, ask(c, json_pack("{s:s}", "verb", "stop"), true));
}

static int status_once(struct cli *c, bool clear)
{
    json_t *reply = ask(c, json_pack("{s:s}", "verb", "status"), false);
    if (!reply)
        return ADMIN_NO_SERVER;
    int status = status_of(reply);
    if (clear)
        fputs("\x1b[H\x1b[2J", stdout);
    if (c->json || status != ADMIN_FINE)
        return show(c, reply);
    cli_print_status(reply, wants_colour(stdout), stdout);
    json_decref(reply);
    return status;
}

static int verb_status(struct cli *c)
{
    int status = status_once(c, c->watch && wants_colour(stdout));
    while (c->watch && status == ADMIN_FINE && fflush(stdout) == 0) {
        nanosleep(&(struct timespec){1, 0}, NULL);
        if (!c->json && !wants_colour(stdout))
            putchar('\n');
        status = status_once(c, wants_colour(stdout));
    }
    return status;
}

/* ---- the table of verbs ---- */

static const struct verb {
    const char *name;
    int (*run)(struct cli *c); /* NULL: of a later version */
    unsigned takes;
    const char *word; /* what its word is; NULL: it takes none */
    const char *help;
} verbs[] = {
    {"run", verb_run, OPT_CONFIG, NULL, "the server, in the foreground"},
    {"check", verb_check,
     OPT_CONFIG | OPT_JSON | OPT_STRICT | OPT_OFFLINE | OPT_ONLINE | OPT_FORMAT, NULL,
     "all errors of a configuration: [--strict] [--offline] [--format text|short|json]"},
    {"reload", verb_reload, OPT_SERVER | OPT_PLAN, NULL,
     "apply the changed file; --plan only says what it would touch"},
    {"status", verb_status, OPT_SERVER | OPT_WATCH, NULL,
     "listeners, workers, services, certificates, last reload: [--watch]"},
    {"stop", verb_stop, OPT_SERVER, NULL, "finish what is under way, end the services, exit"},
    {"restart", verb_restart, OPT_SERVER, "CHANNEL/SERVICE",
     "start a service anew: restart CHANNEL/SERVICE"},
    {"logs", verb_logs, OPT_SERVER | OPT_FOLLOW | OPT_LINES, "CHANNEL[/SERVICE]",
     "what services printed last, -n N lines; -f: and what they print from now on"},
    {"explain", verb_explain, 0, "CODE", "more about a diagnostic: explain E003"},
    {"schema", verb_schema, OPT_MDOC | OPT_METRICS, NULL,
     "the configuration's JSON Schema; --mdoc, --metrics: the manuals' references of keys, "
     "metrics"},
    {"version", verb_version, OPT_JSON, NULL, "the version"},
#define LATER(name)               \
    {                             \
        name, NULL, 0, NULL, NULL \
    }
    LATER("init"),
    LATER("deploy"),
    LATER("rollback"),
    LATER("promote"),
    LATER("hold"),
    LATER("resume"),
    LATER("releases"),
    LATER("history"),
    LATER("publish"),
    LATER("certs"),
    LATER("trust"),
    LATER("hash-password"),
    LATER("selftest"),
    LATER("backup"),
    LATER("restore"),
    LATER("upgrade"),
#undef LATER
};

static int print_help(FILE *f)
{
    fputs("usage: headgate VERB [--config FILE] [--socket PATH] [--json]\n\n", f);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (verbs[i].run)
            fprintf(f, "  %-8s  %s\n", verbs[i].name, verbs[i].help);
    fputs("\nFILE is /etc/headgate/headgate.yaml by default, for a user without root\n"
          "~/.config/headgate/headgate.yaml. Exit status: 0 fine, 1 failed, 2 usage,\n"
          "3 no server at the socket, 4 the server refused. More: headgate(8), headgate.yaml(5).\n",
          f);
    return ADMIN_FINE;
}

/* Edit distance, bounded by what a typing error is: small words only. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32], n = strlen(a), m = strlen(b);
    if (n >= ARRAY_LEN(row) || m >= ARRAY_LEN(row))
        return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t before = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t change = before + (a[i - 1] != b[j - 1]);
            before = row[j];
            row[j] = MIN(change, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[m];
}

static int unknown_verb(struct cli *c)
{
    const char *closest = NULL;
    size_t best = 3;
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        size_t d = distance(c->verb, verbs[i].name);
        if (d < best && d < strlen(verbs[i].name)) {
            best = d;
            closest = verbs[i].name;
        }
    }
    if (!closest)
        return usage_error(arena_fmt(c->arena, "there is no verb `%s`", c->verb).p, "");
    return usage_error(
        arena_fmt(c->arena, "there is no verb `%s`; did you mean `%s`?", c->verb, closest).p, "");
}

/* ---- options ---- */

static const char *take_format(struct cli *c, const char *value)
{
    static const char *const names[] = {
        [CLI_TEXT] = "text", [CLI_SHORT] = "short", [CLI_JSON] = "json"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], value) == 0) {
            c->format = (enum cli_format)i;
            return NULL;
        }
    }
    return arena_fmt(c->arena, "--format is text, short or json, not `%s`", value).p;
}

static const char *take_lines(struct cli *c, const char *value)
{
    uint64_t n;
    if (!str_u64(str_of(value), &n) || n > 1000000)
        return arena_fmt(c->arena, "`%s` is no number of lines", value).p;
    c->lines = (unsigned)n;
    return NULL;
}

static const char *take_option(struct cli *c, unsigned bit, const char *value)
{
    switch (bit) {
    case OPT_CONFIG:
        c->config = value;
        break;
    case OPT_SOCKET:
        c->socket = value;
        break;
    case OPT_FORMAT:
        return take_format(c, value);
    case OPT_JSON:
        c->json = true;
        break;
    case OPT_STRICT:
        c->strict = true;
        break;
    case OPT_OFFLINE:
        c->offline = true;
        break;
    case OPT_ONLINE:
        c->online = true;
        break;
    case OPT_PLAN:
        c->plan = true;
        break;
    case OPT_WATCH:
        c->watch = true;
        break;
    case OPT_METRICS:
        c->metrics = true;
        break;
    case OPT_FOLLOW:
        c->follow = true;
        break;
    case OPT_LINES:
        return take_lines(c, value);
    default:
        c->mdoc = true;
    }
    return NULL;
}

/* One option with its value, as "--name value" or "--name=value". Returns how many words it took.
 */
static int parse_option(struct cli *c, char **argv, unsigned *given, const char **err)
{
    size_t n = strcspn(argv[0], "=");
    const char *value = argv[0][n] ? argv[0] + n + 1 : NULL;
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        const struct option *o = &options[i];
        if (!str_eq(str_of(o->name), (struct str){argv[0], n}))
            continue;
        int took = 1;
        if (o->value && !value) {
            value = argv[1];
            took = 2;
        }
        if (o->value ? !value || !*value : value != NULL) {
            *err =
                arena_fmt(c->arena, o->value ? "%s needs a value" : "%s takes no value", o->name).p;
            return 0;
        }
        *given |= o->bit;
        *err = take_option(c, o->bit, value);
        return took;
    }
    *err = arena_fmt(c->arena, "there is no option `%s`", argv[0]).p;
    return 0;
}

static const char *parse(struct cli *c, int argc, char **argv, unsigned *given)
{
    for (int i = 1; i < argc;) {
        const char *err = NULL;
        if (argv[i][0] == '-' && argv[i][1]) {
            i += parse_option(c, argv + i, given, &err);
        } else if (!c->verb) {
            c->verb = argv[i++];
        } else if (!c->word) {
            c->word = argv[i++];
        } else {
            err = arena_fmt(c->arena, "`%s` is one word too many", argv[i]).p;
        }
        if (err)
            return err;
    }
    return NULL;
}

static const char *option_name(unsigned bits)
{
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (bits & options[i].bit)
            return options[i].name;
    return "";
}

static int dispatch(struct cli *c, unsigned given)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        const struct verb *v = &verbs[i];
        if (strcmp(v->name, c->verb) != 0)
            continue;
        if (!v->run)
            return usage_error(
                arena_fmt(c->arena, "`%s` is not available in this version", c->verb).p, "");
        if (given & ~v->takes)
            return usage_error(arena_fmt(c->arena, "`%s` does not take ", c->verb).p,
                               option_name(given & ~v->takes));
        if (!v->word && c->word)
            return usage_error(arena_fmt(c->arena, "`%s` takes no further word: ", c->verb).p,
                               c->word);
        if (v->word && !c->word)
            return usage_error(arena_fmt(c->arena, "what shall `%s` work on? headgate %s %s",
                                         c->verb, c->verb, v->word)
                                   .p,
                               "");
        return v->run(c);
    }
    return unknown_verb(c);
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0 ||
            (i == 1 && strcmp(argv[i], "help") == 0))
            return true;
    return false;
}

int cli_main(int argc, char **argv)
{
    if (asks_for_help(argc, argv))
        return print_help(stdout);
    struct cli c = {.arena = arena_new(16 * 1024), .lines = 100};
    unsigned given = 0;
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        c.verb = "version";
    const char *err = c.verb ? NULL : parse(&c, argc, argv, &given);
    int status;
    if (err) {
        status = usage_error(err, "");
    } else if (!c.verb) {
        print_help(stderr);
        status = ADMIN_USAGE;
    } else {
        status = dispatch(&c, given);
    }
    /* What was printed must have got somewhere: a full disk is a failure. */
    if (fflush(stdout) != 0 && status == ADMIN_FINE) {
        perror("headgate: cannot write the output");
        status = ADMIN_FAILED;
    }
    arena_free(&c.arena);
    return status;
}
