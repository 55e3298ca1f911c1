/*
 * cli_table.c - the verbs and options, each once: names, values, help. man/headgate.8 has the long
 * form of the same and must name all of it (tests/cases/test_cli.py).
 */
#include "proxy/cli_table.h"

#define BIT(id) (UINT32_C(1) << CLI_OPT_##id)
#define SERVER  (BIT(CONFIG) | BIT(SOCKET) | BIT(JSON))
#define AT(f)   .field = offsetof(struct cli, f)

static const char *const formats[] = {
    [CLI_TEXT] = "text", [CLI_SHORT] = "short", [CLI_JSON] = "json", NULL};

const struct cli_option cli_options[CLI_N_OPTIONS] = {
    [CLI_OPT_HOST] = {"host", .kind = CLI_TEXT_VALUE, .value = "NAME", AT(host),
                      .help = "what clients ask for; localhost"},
    [CLI_OPT_STATIC] = {"static", .kind = CLI_FOLDER, .value = "DIR", AT(folder),
                        .help = "serve the files of a folder"},
    [CLI_OPT_PROXY] = {"proxy", .kind = CLI_TEXT_VALUE, .value = "URL", AT(url),
                       .help = "a server to pass requests on to; 3000 is a port here"},
    [CLI_OPT_RUN] = {"run", .kind = CLI_COMMAND, .value = "PROGRAM [ARG]...", AT(command),
                     .help = "a server to start and pass requests on to; stands last"},
    [CLI_OPT_HTTP] = {"http", .kind = CLI_TEXT_VALUE, .value = "ADDRESS", AT(http),
                      .help = "where HTTP is served; `:80`, as a user `:8080`"},
    [CLI_OPT_HTTPS] = {"https", .kind = CLI_TEXT_VALUE, .value = "ADDRESS", AT(https),
                       .help = "where HTTPS is served; `:443`, as a user `:8443`"},
    [CLI_OPT_EMAIL] = {"email", .kind = CLI_TEXT_VALUE, .value = "ADDRESS", AT(email),
                       .help = "where the CA of a public name's certificate writes"},
    [CLI_OPT_STRICT] = {"strict", AT(strict), .help = "warnings count as errors"},
    [CLI_OPT_OFFLINE] = {"offline", AT(offline),
                         .help = "look at the file alone: not at paths, users, ports"},
    [CLI_OPT_ONLINE] = {"online", AT(online),
                        .help = "ask the network too: would a CA find the hosts?"},
    [CLI_OPT_FORMAT] = {"format", .kind = CLI_CHOICE, .value = "text|short|json",
                        .choices = formats, AT(format),
                        .help = "short is a line each, for editors"},
    [CLI_OPT_PLAN] = {"plan", AT(plan), .help = "only say what it would touch"},
    [CLI_OPT_WATCH] = {"watch", AT(watch), .help = "show it anew each second"},
    [CLI_OPT_FOLLOW] = {"follow", .letter = 'f', AT(follow),
                        .help = "go on with what they print from now on"},
    [CLI_OPT_LINES] = {"lines", .letter = 'n', .kind = CLI_COUNT, .value = "N", AT(lines),
                       .help = "so many of the last lines; 100"},
    [CLI_OPT_UNINSTALL] = {"uninstall", AT(uninstall), .help = "take it out again"},
    [CLI_OPT_MDOC] = {"mdoc", AT(mdoc)},
    [CLI_OPT_METRICS] = {"metrics", AT(metrics)},
    [CLI_OPT_CONFIG] = {"config", .kind = CLI_FILE, .value = "FILE", AT(config),
                        .help = "the configuration file"},
    [CLI_OPT_SOCKET] = {"socket", .kind = CLI_FILE, .value = "PATH", AT(socket),
                        .help = "the admin socket of the server to ask"},
    [CLI_OPT_JSON] = {"json", AT(json), .help = "output for programs"},
    [CLI_OPT_HELP] = {"help", .letter = 'h', AT(help), .help = "this text"},
};

static const struct cli_action certs_actions[] = {
    {"show", CLI_HOST_WORD, "HOST", "one host, with all that is kept of its history"},
    {"renew", CLI_HOST_WORD, "HOST", "order a new certificate now"},
    {"revoke", CLI_HOST_WORD, "HOST", "revoke the certificate at its CA and order another one"},
    {"roll-key", CLI_NO_WORD, NULL, "new keys for the accounts at all CAs"},
    {0}};

const struct cli_verb cli_verbs[] = {
    {"run", cli_verb_run, BIT(CONFIG), .summary = "the server, in the foreground",
     .text =
         "Serves until SIGTERM, SIGINT or `headgate stop`. The log and the output of services go "
         "to stderr; under systemd it is a unit of Type=notify. SIGHUP reloads the file."},
    {"init", cli_verb_init,
     BIT(HOST) | BIT(STATIC) | BIT(PROXY) | BIT(RUN) | BIT(HTTP) | BIT(HTTPS) | BIT(EMAIL) |
         BIT(CONFIG),
     .summary = "write a configuration to begin with",
     .text =
         "Asks a few questions on a terminal, unless --static, --proxy or --run say what it shall "
         "serve. With --static and one of the others, the server gets /api/. $listen in the "
         "arguments of --run is the address to listen at, $port its port; without them the "
         "program finds the port in the environment, as PORT.\nA file that is there is never "
         "overwritten."},
    {"check", cli_verb_check,
     BIT(STRICT) | BIT(OFFLINE) | BIT(ONLINE) | BIT(FORMAT) | BIT(CONFIG) | BIT(JSON),
     .summary = "every error of a configuration, in one run",
     .text =
         "Prints every error and warning with its place and its cure. Starts nothing and touches "
         "no running server."},
    {"reload", cli_verb_reload, BIT(PLAN) | SERVER,
     .summary = "apply the changed file to the running server",
     .text = "Returns when the new configuration serves, or prints its errors; a file with errors "
             "changes nothing. No request is lost and no connection cut; services whose definition "
             "did not change run on."},
    {"status", cli_verb_status, BIT(WATCH) | SERVER,
     .summary = "services, listeners, processes, certificates, last reload"},
    {"logs", cli_verb_logs, BIT(FOLLOW) | BIT(LINES) | SERVER, CLI_CHANNEL_WORD,
     .word_name = "CHANNEL[/SERVICE]", .summary = "what the services of a channel printed",
     .text = "The running server keeps up to 256 KiB of each service's output."},
    {"restart", cli_verb_restart, SERVER, CLI_SERVICE_WORD, .word_name = "CHANNEL/SERVICE",
     .summary = "a new instance of a service",
     .text = "The old one drains and stops when the new one is ready; where two cannot run at a "
             "time, it stops first, while requests wait."},
    {"stop", cli_verb_stop, SERVER, .summary = "finish what is under way, end the services, exit",
     .text = "Returns when the server has ended."},
    {"certs", cli_verb_certs, SERVER, .actions = certs_actions,
     .summary = "each host's certificate: until when, what comes next, what went wrong",
     .text =
         "Without more words: all hosts, the CAs with their accounts and what is left of their "
         "rate limits. Why a host has no certificate is said in the CA's words, with what to do "
         "about it. `renew` does not wait for backoff, but for rate limits."},
    {"trust", cli_verb_trust, BIT(UNINSTALL) | BIT(CONFIG),
     .summary = "let this machine trust the local CA's certificates",
     .text =
         "Puts the root certificate of headgate's own CA into the system's store, and into those "
         "of Chromium and Firefox of the user who asks. What needs rights that the user lacks is "
         "not tried, but said."},
    {"explain", cli_verb_explain, 0, CLI_CODE_WORD, .word_name = "CODE",
     .summary = "an error of `check` in full, such as E003"},
    {"schema", cli_verb_schema, BIT(MDOC) | BIT(METRICS),
     .summary = "the configuration's JSON Schema, for editors"},
    {"version", cli_verb_version, BIT(JSON), .summary = "the version"},
    {"help", cli_verb_help, BIT(JSON), CLI_VERB_WORD, .word_optional = true, .word_name = "VERB",
     .summary = "this list, or more about a verb",
     .text = "With --json: all verbs and options, for programs."},
};
const unsigned cli_n_verbs = ARRAY_LEN(cli_verbs);

const char *const cli_later_verbs[] = {
    "deploy",  "rollback",      "promote",  "hold",   "resume",  "releases", "history",
    "publish", "hash-password", "selftest", "backup", "restore", "upgrade",  NULL};

const struct cli_verb *cli_verb_find(const char *name)
{
    for (unsigned i = 0; i < cli_n_verbs; i++)
        if (strcmp(cli_verbs[i].name, name) == 0)
            return &cli_verbs[i];
    return NULL;
}

const struct cli_action *cli_action_find(const struct cli_verb *v, const char *name)
{
    for (const struct cli_action *x = v->actions; x && x->name; x++)
        if (strcmp(x->name, name) == 0)
            return x;
    return NULL;
}

struct str cli_words_text(struct arena *a, const struct cli_verb *v)
{
    struct str text = v->word != CLI_NO_WORD ? str_of(v->word_name) : STR("");
    for (const struct cli_action *x = v->actions; x && x->name; x++)
        text = arena_fmt(a, STR_FMT "%s%s%s%s", STR_ARG(text), text.n ? " | " : "", x->name,
                         x->word_name ? " " : "", x->word_name ? x->word_name : "");
    return text;
}
