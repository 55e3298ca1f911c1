/*
 * cli_init.c - `headgate init`: a starter configuration from a few answers or options. Each answer
 * is checked when it is given; the file is loaded as `run` would load it before it is said to be
 * written. How the file reads is cli_starter.c's.
 */
#include "proxy/cli_init.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"
#include "conf/value.h"
#include "conf/yaml_write.h"
#include "proxy/admin.h"

#define WORDS_MAX 256 /* of a command */

/* ---- what an answer may be: each returns NULL or a sentence ---- */

static const char *sentence(struct arena *a, const struct value_error *e)
{
    return e->hint[0] ? arena_fmt(a, "%s: %s", e->what, e->hint).p : arena_fmt(a, "%s", e->what).p;
}

static const char *take_host(struct starter *s, const char *text)
{
    struct value_error e;
    return value_host(s->arena, str_of(text), &s->host, &e) ? NULL : sentence(s->arena, &e);
}

static struct str absolute(struct arena *a, const char *path)
{
    char *cwd = getcwd(NULL, 0);
    struct str full = file_resolve(a, str_of(cwd ? cwd : "/"), str_of(path));
    free(cwd);
    return full;
}

static const char *not_text(struct arena *a, const char *what)
{
    return arena_fmt(a, "the %s is not UTF-8: a configuration cannot name it", what).p;
}

static const char *take_folder(struct starter *s, const char *text)
{
    struct stat st;
    struct str path = absolute(s->arena, text);
    if (stat(path.p, &st) < 0)
        return file_error(s->arena, errno, "read", path.p);
    if (!S_ISDIR(st.st_mode))
        return arena_fmt(s->arena, "%s is no folder", path.p).p;
    s->folder = yaml_scalar_literal(s->arena, path);
    return s->folder.p ? NULL : not_text(s->arena, "name of the folder");
}

/* "3000", ":3000" and "localhost:3000" are what one has at hand. */
static struct str whole_url(struct arena *a, struct str t)
{
    uint64_t port;
    if (str_u64(t, &port))
        return arena_fmt(a, "http://127.0.0.1:" STR_FMT, STR_ARG(t));
    if (str_starts(t, STR(":")))
        return arena_fmt(a, "http://127.0.0.1" STR_FMT, STR_ARG(t));
    if (str_starts(t, STR("unix:")) || (t.n && memmem(t.p, t.n, "://", 3)))
        return t;
    return arena_fmt(a, "http://" STR_FMT, STR_ARG(t));
}

static const char *take_url(struct starter *s, const char *text)
{
    struct value_error e;
    struct conf_backend backend;
    struct str url = whole_url(s->arena, str_of(text));
    if (!value_url(s->arena, url, &backend, &e))
        return sentence(s->arena, &e);
    s->url = yaml_scalar_literal(s->arena, url);
    return s->url.p ? NULL : not_text(s->arena, "URL");
}

static const char *find_program(struct starter *s, const char *name)
{
    struct stat st;
    const char *path =
        strchr(name, '/') ? absolute(s->arena, name).p : proc_which(s->arena, name, getenv("PATH"));
    if (!path)
        return arena_fmt(s->arena, "there is no program `%s` in PATH: name it with its folder",
                         name)
            .p;
    if (access(path, X_OK) < 0)
        return file_error(s->arena, errno, "execute", path);
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return arena_fmt(s->arena, "%s is no program", path).p;
    s->run[0] = yaml_scalar_literal(s->arena, str_of(path));
    return s->run[0].p ? NULL : not_text(s->arena, "name of the program");
}

/* What its dollars mean is looked at here, where one can still be asked. */
static const char *take_argument(struct starter *s, const char *word, struct str *out)
{
    struct placeholder_at p;
    struct str text = str_of(word);
    for (size_t at = 0; placeholder_next(text, at, &p); at = p.to) {
        s->told = s->told || p.kind == PH_LISTEN || p.kind == PH_PORT;
        if (p.kind == PH_UNKNOWN)
            return arena_fmt(s->arena,
                             "`" STR_FMT "` stands for nothing; a dollar sign is written $$",
                             STR_ARG(str_sub(text, p.from, p.to)))
                .p;
    }
    if (word[0] != '/' && access(word, F_OK) == 0)
        s->cwd = yaml_scalar_literal(s->arena, absolute(s->arena, "."));
    *out = yaml_scalar(s->arena, text);
    return out->p ? NULL : not_text(s->arena, "command");
}

static const char *take_command(struct starter *s, const char *const *words, size_t n)
{
    if (!n || !*words[0])
        return "the command names no program";
    if (n > WORDS_MAX)
        return arena_fmt(s->arena, "the command has more than %d words", WORDS_MAX).p;
    s->run = arena_zarray(s->arena, struct str, n);
    s->n_run = n;
    s->told = false;
    s->cwd = STR_NULL;
    const char *err = find_program(s, words[0]);
    for (size_t i = 1; i < n && !err; i++)
        err = take_argument(s, words[i], &s->run[i]);
    return err;
}

/* A word of a command line as a shell would read it: quotes and backslashes, and nothing else. */
static const char *next_word(struct arena *a, const char **line, const char **err)
{
    const char *p = *line + strspn(*line, " \t");
    char quote = '\0';
    if (!*p)
        return NULL;
    size_t cap = strlen(p);
    struct out o = out_on(arena_alloc(a, cap + 1), cap);
    for (; *p && (quote || !strchr(" \t", *p)); p++) {
        if (*p == quote)
            quote = '\0';
        else if (!quote && (*p == '\'' || *p == '"'))
            quote = *p;
        else if (*p == '\\' && quote != '\'' && p[1])
            out_char(&o, *++p);
        else
            out_char(&o, *p);
    }
    *err = quote ? "a quote is not closed" : NULL;
    *line = p;
    ASSERT(!o.over);
    o.p[o.n] = '\0';
    return o.p;
}

static const char *take_command_line(struct starter *s, const char *line)
{
    const char *words[WORDS_MAX + 1], *err = NULL, *w;
    size_t n = 0;
    while (n < ARRAY_LEN(words) && !err && (w = next_word(s->arena, &line, &err)))
        words[n++] = w;
    return err ? err : take_command(s, words, n);
}

static unsigned port_of(const struct conf_addr *addr)
{
    const struct sockaddr_in *v4 = (const void *)&addr->sa;
    const struct sockaddr_in6 *v6 = (const void *)&addr->sa;
    if (addr->sa.ss_family == AF_INET)
        return ntohs(v4->sin_port);
    return addr->sa.ss_family == AF_INET6 ? ntohs(v6->sin6_port) : 0;
}

static const char *take_address(struct starter *s, const char *text, struct str *out,
                                unsigned *out_port)
{
    struct value_error e;
    struct conf_addr addr = {0};
    uint64_t port;
    struct str t = str_of(text);
    if (str_u64(t, &port))
        t = arena_fmt(s->arena, ":%s", text);
    if (!value_is_off(t) && !value_listen(s->arena, t, &addr, &e))
        return sentence(s->arena, &e);
    *out_port = port_of(&addr);
    *out = yaml_scalar_literal(s->arena, t);
    return out->p ? NULL : not_text(s->arena, "address");
}

static const char *take_kind(struct starter *s, const char *text)
{
    s->kind = text[0] && !text[1] ? text[0] : '\0';
    return s->kind && strchr("123", s->kind) ? NULL : "1, 2 or 3";
}

/* ---- questions ---- */

/* An answer, or the default for an empty one; NULL when there is none to come. */
static const char *ask(struct starter *s, const char *question, const char *def)
{
    char *line = NULL;
    size_t cap = 0;
    printf(*def ? "%s [%s]: " : "%s: ", question, def);
    fflush(stdout);
    ssize_t n = getline(&line, &cap, stdin);
    struct str text = {line, n > 0 ? (size_t)n : 0};
    if (text.n && text.p[text.n - 1] == '\n')
        text.n--;
    text = str_trim(text);
    /* A NUL would hide what follows it: kept, it is refused as no UTF-8 would be. */
    const char *answer = n <= 0                                ? NULL
                         : text.n && memchr(text.p, 0, text.n) ? "\xff"
                         : text.n                              ? arena_strz(s->arena, text)
                                                               : def;
    free(line);
    return answer;
}

static bool ask_until(struct starter *s, const char *question, const char *def,
                      const char *(*take)(struct starter *s, const char *text))
{
    for (;;) {
        const char *answer = ask(s, question, def), *err;
        if (!answer)
            return false;
        err = take(s, answer);
        if (!err)
            return true;
        printf("  %s\n", err);
    }
}

static bool ask_all(struct starter *s)
{
    if (!s->host.n && !ask_until(s, "Host name that clients ask for", "localhost", take_host))
        return false;
    puts("What does it serve?\n"
         "  1  a folder of files\n"
         "  2  a server that runs already\n"
         "  3  a program that headgate starts and watches");
    if (!ask_until(s, "Which", "1", take_kind))
        return false;
    if (s->kind == '1')
        return ask_until(s, "Folder", absolute(s->arena, ".").p, take_folder);
    if (s->kind == '2')
        return ask_until(s, "Its address or port", "", take_url);
    puts("$listen in its arguments is the address to listen at, $port its port;\n"
         "without them it finds the port in the environment, as PORT.");
    return ask_until(s, "Command", "", take_command_line);
}

/* ---- options ---- */

static size_t words_of(char *const *argv)
{
    size_t n = 0;
    while (argv[n])
        n++;
    return n;
}

static const char *take_options(struct cli *c, struct starter *s)
{
    const char *err = NULL, *option = "";
    if (c->url && c->command)
        return "--proxy and --run are two ways to have a server: one of them";
    if (!err && c->host)
        option = "--host: ", err = take_host(s, c->host);
    if (!err && c->folder)
        option = "--static: ", err = take_folder(s, c->folder);
    if (!err && c->url)
        option = "--proxy: ", err = take_url(s, c->url);
    if (!err && c->command)
        option = "--run: ",
        err = take_command(s, (const char *const *)c->command, words_of(c->command));
    if (!err && c->http)
        option = "--http: ", err = take_address(s, c->http, &s->http, &s->http_port);
    if (!err && c->https)
        option = "--https: ", err = take_address(s, c->https, &s->https, &s->https_port);
    if (!err && c->email)
        s->email = yaml_scalar(s->arena, str_of(c->email));
    return err ? arena_fmt(c->arena, "%s%s", option, err).p : NULL;
}

/* May we bind ports 80 and 443? */
static bool may_use_low_ports(struct arena *a)
{
    struct str first;
    uint64_t port;
    const char *err = file_read(a, "/proc/sys/net/ipv4/ip_unprivileged_port_start", 64, &first);
    return geteuid() == 0 ||
           (!err && first.n && str_u64(str_sub(first, 0, first.n - 1), &port) && port <= 80);
}

static void default_port(struct starter *s, unsigned usual, unsigned high, struct str *text,
                         unsigned *port)
{
    if (text->n)
        return;
    bool low = may_use_low_ports(s->arena);
    s->high_ports = s->high_ports || !low;
    *port = low ? usual : high;
    *text = yaml_scalar(s->arena, arena_fmt(s->arena, ":%u", *port));
}

/* ---- the file ---- */

static const char *write_new(struct starter *s, const char *file)
{
    const char *slash = strrchr(file, '/');
    const char *dir = arena_strz(s->arena, (struct str){file, (size_t)MAX(slash - file, 1)});
    const char *err = file_mkdirs(s->arena, dir, 0755, (uid_t)-1, (gid_t)-1);
    if (err)
        return err;
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return file_error(s->arena, errno, "write", file);
    FILE *f = fdopen(fd, "w");
    ASSERT(f);
    starter_write(s, f);
    bool failed = fflush(f) != 0 || fsync(fd) < 0;
    int why = errno;
    fclose(f);
    if (!failed)
        return NULL;
    unlink(file);
    return file_error(s->arena, why, "write", file);
}

/* Where it can be looked at, as far as that is a place. */
static struct str url_of(struct arena *a, const struct starter *s)
{
    unsigned port = s->https_port ? s->https_port : s->http_port;
    bool usual = port == (s->https_port ? 443 : 80);
    if (!port || str_chr(s->host, '*') < s->host.n)
        return s->host;
    return arena_fmt(a, "%s://" STR_FMT "%s/", s->https_port ? "https" : "http", STR_ARG(s->host),
                     usual ? "" : arena_fmt(a, ":%u", port).p);
}

/* Loads it as the server will; a file that would not run is not left behind. */
static int check_written(struct cli *c, const struct starter *s, const char *file)
{
    struct diags *d = diags_new();
    struct conf_source *src = conf_source_fs(file);
    struct conf *conf = cli_load(c, src, 0, d);
    diags_print(d, DIAG_TEXT, cli_wants_colour(stdout), stdout);
    if (conf) {
        const char *with = c->config ? arena_fmt(c->arena, " --config %s", c->config).p : "";
        printf("%s is written. Now\n\n    headgate run%s\n\nserves " STR_FMT ".\n", file, with,
               STR_ARG(url_of(c->arena, s)));
        if (starter_by_acme(s))
            printf("`headgate certs%s` then tells how it comes to its certificate.\n", with);
        else if (s->https_port)
            printf("`headgate trust%s` then makes this machine believe its certificate.\n", with);
        conf_unref(&conf);
    } else {
        unlink(file);
        printf("Nothing was written: with these answers it would not run.\n");
    }
    bool fine = diags_errors(d) == 0;
    conf_source_close(&src);
    diags_free(&d);
    return fine ? ADMIN_FINE : ADMIN_FAILED;
}

int cli_verb_init(struct cli *c)
{
    struct starter s = {.arena = c->arena};
    const char *file = cli_config_file(c), *err = take_options(c, &s);
    bool told = c->folder || c->url || c->command;
    if (err)
        return cli_usage_error("%s", err);
    struct stat st;
    if (lstat(file, &st) == 0) {
        fprintf(
            stderr,
            "headgate: there is a %s, and it stays as it is. Move it away, or write another one "
            "with --config FILE\n",
            file);
        return ADMIN_FAILED;
    }
    if (!told && (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1))
        return cli_usage_error(
            "there is no terminal to ask at: say by --static DIR, --proxy URL or "
            "--run PROGRAM what it shall serve");
    if (!told && !ask_all(&s)) {
        fprintf(stderr, "\nheadgate: nothing was written\n");
        return ADMIN_FAILED;
    }
    if (!s.host.n)
        s.host = STR("localhost");
    default_port(&s, 80, 8080, &s.http, &s.http_port);
    default_port(&s, 443, 8443, &s.https, &s.https_port);
    struct passwd pw, *found = NULL;
    char buf[4096];
    s.no_user = geteuid() == 0 && (getpwnam_r("headgate", &pw, buf, sizeof(buf), &found) || !found);
    err = write_new(&s, file);
    if (err) {
        fprintf(stderr, "headgate: %s\n", err);
        return ADMIN_FAILED;
    }
    return check_written(c, &s, file);
}
