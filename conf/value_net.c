/*
 * value_net.c - addresses, URLs, host names, route paths and the names users choose. Numbers, times
 * and words are in value.c.
 */
#include <arpa/inet.h>
#include <stdio.h>

#include "conf/value.h"

static bool wrong(struct value_error *e, const char *code, const char *hint, const char *fmt, ...)
    PRINTF(4, 5);
static bool wrong(struct value_error *e, const char *code, const char *hint, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    vsnprintf(e->what, sizeof(e->what), fmt, ap);
    va_end(ap);
    snprintf(e->hint, sizeof(e->hint), "%s", hint ? hint : "");
    return false;
}

#define SHOWN(t) (int)MIN((t).n, (size_t)60), (t).p ? (t).p : ""

bool value_ip(struct str ip, uint16_t port, struct conf_addr *out)
{
    char z[INET6_ADDRSTRLEN];
    *out = (struct conf_addr){0};
    if (ip.n == 0 || ip.n >= sizeof(z))
        return false;
    memcpy(z, ip.p, ip.n);
    z[ip.n] = 0;
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&out->sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&out->sa;
    if (inet_pton(AF_INET, z, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        out->len = sizeof(*v4);
        return true;
    }
    if (inet_pton(AF_INET6, z, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        out->len = sizeof(*v6);
        return true;
    }
    return false;
}

bool value_unix(struct arena *a, struct str path, struct conf_addr *out, struct value_error *e)
{
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)&out->sa;
    *out = (struct conf_addr){0};
    if (path.n < 2 || path.p[0] != '/')
        return wrong(e, "E034", "unix:/run/x.sock", "`unix:%.*s` has no absolute path",
                     SHOWN(path));
    if (path.n >= sizeof(un->sun_path) || memchr(path.p, 0, path.n))
        return wrong(e, "E034", "the kernel takes 107 bytes at most",
                     "the path of the socket is too long (%zu bytes)", path.n);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path.p, path.n);
    out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
    out->text = arena_fmt(a, "unix:" STR_FMT, STR_ARG(path));
    return true;
}

/* Canonical text of an internet address. */
static void set_text(struct arena *a, struct conf_addr *addr)
{
    char ip[INET6_ADDRSTRLEN];
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&addr->sa;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&addr->sa;
    if (addr->sa.ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, ip, sizeof(ip));
        addr->text = arena_fmt(a, "%s:%u", ip, ntohs(v4->sin_port));
    } else {
        inet_ntop(AF_INET6, &v6->sin6_addr, ip, sizeof(ip));
        addr->text = arena_fmt(a, "[%s]:%u", ip, ntohs(v6->sin6_port));
    }
}

bool conf_addr_ip(struct arena *a, struct str ip, uint16_t port, struct conf_addr *out)
{
    if (!value_ip(ip, port, out))
        return false;
    set_text(a, out);
    return true;
}

static bool port_of(struct str t, uint16_t *port)
{
    uint64_t v;
    if (t.n > 5 || !str_u64(t, &v) || v == 0 || v > 65535)
        return false;
    *port = (uint16_t)v;
    return true;
}

/* "IP:PORT", "[IP6]:PORT": splits at the last colon outside of brackets. */
static bool split_authority(struct str t, struct str *host, struct str *port)
{
    if (t.n && t.p[0] == '[') {
        size_t close = str_chr(t, ']');
        if (close == t.n)
            return false;
        *host = str_sub(t, 1, close);
        struct str rest = str_sub(t, close + 1, t.n);
        *port = rest.n && rest.p[0] == ':' ? str_sub(rest, 1, rest.n) : STR_NULL;
        return rest.n == 0 || rest.p[0] == ':';
    }
    size_t colon = str_chr(t, ':');
    *host = str_sub(t, 0, colon);
    *port = colon < t.n ? str_sub(t, colon + 1, t.n) : STR_NULL;
    return str_chr(*port, ':') == port->n;
}

bool value_addr(struct arena *a, struct str t, struct conf_addr *out, struct value_error *e)
{
    struct str host, port;
    uint16_t number;
    char hint[160] = "\":443\" or \"127.0.0.1:8080\"";
    if (str_starts(t, STR("unix:")) || str_starts(t, STR("fd:")))
        return wrong(e, "E034", "\":PORT\" or \"IP:PORT\"",
                     "`%.*s`: such addresses are for listen.http and listen.https", SHOWN(t));
    if (port_of(t, &number)) {
        snprintf(hint, sizeof(hint), "write \":%u\"", number);
        return wrong(e, "E034", hint, "`%.*s` is a port, not an address", SHOWN(t));
    }
    if (!split_authority(t, &host, &port) || !port.n)
        return wrong(e, "E034", hint, "`%.*s` is no address with a port", SHOWN(t));
    if (!port_of(port, &number))
        return wrong(e, "E034", "a port is a number from 1 to 65535", "`%.*s`: `%.*s` is no port",
                     SHOWN(t), SHOWN(port));
    if (!host.n && t.p[0] == ':')
        host = STR("::");
    if (!value_ip(host, number, out)) {
        if (str_eq(host, STR("*")))
            snprintf(hint, sizeof(hint), "write \":%u\" for every address", number);
        else if (str_ieq(host, STR("localhost")))
            snprintf(hint, sizeof(hint), "write \"127.0.0.1:%u\"", number);
        return wrong(e, "E034", hint, "`%.*s`: `%.*s` is no IP address", SHOWN(t), SHOWN(host));
    }
    set_text(a, out);
    return true;
}

/* What systemd takes for FileDescriptorName=. */
static bool fd_name_ok(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] >= 0x7f || name.p[i] == ':')
            return false;
    return name.n > 0 && name.n <= 200;
}

bool value_listen(struct arena *a, struct str t, struct conf_addr *out, struct value_error *e)
{
    if (str_starts(t, STR("unix:")))
        return value_unix(a, str_sub(t, 5, t.n), out, e);
    if (!str_starts(t, STR("fd:")))
        return value_addr(a, t, out, e);
    *out = (struct conf_addr){.text = arena_str(a, t)};
    if (fd_name_ok(str_sub(t, 3, t.n)))
        return true;
    return wrong(e, "E034", "fd:NAME, with FileDescriptorName=NAME in the .socket unit",
                 "`%.*s` has no name of a socket", SHOWN(t));
}

static bool no_url(struct str t, struct value_error *e)
{
    return wrong(e, "E036", "http://127.0.0.1:9001, h2c://, https://, tcp:// or unix:/run/x.sock",
                 "`%.*s` is no URL of a backend", SHOWN(t));
}

static bool label_ok(struct str label)
{
    if (label.n == 0 || label.n > 63 || label.p[0] == '-' || label.p[label.n - 1] == '-')
        return false;
    for (size_t i = 0; i < label.n; i++) {
        char c = ascii_lower(label.p[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return false;
    }
    return true;
}

static bool check_host_form(struct str t, struct value_error *e)
{
    if (!t.n)
        return wrong(e, "E035", "such as www.example.org", "a host name is missing");
    for (size_t i = 0; i < t.n; i++)
        if ((unsigned char)t.p[i] >= 0x80)
            return wrong(e, "E035", "write the ASCII form, which begins with xn--",
                         "`%.*s` is not ASCII", SHOWN(t));
    if (str_chr(t, '/') < t.n)
        return wrong(e, "E035", "only the name: no http://, no path", "`%.*s` is not a host name",
                     SHOWN(t));
    if (str_chr(t, ':') < t.n)
        return wrong(e, "E035", "ports go into `listen`",
                     "`%.*s` is not a host name: it has a port", SHOWN(t));
    if (t.n > 253)
        return wrong(e, "E035", "253 characters at most", "the host name is too long");
    if (t.p[t.n - 1] == '.')
        return wrong(e, "E035", "leave the dot at the end away", "`%.*s` ends in a dot", SHOWN(t));
    return true;
}

bool value_host(struct arena *a, struct str t, struct str *out, struct value_error *e)
{
    struct conf_addr ip;
    bool bracketed = t.n > 2 && t.p[0] == '[' && t.p[t.n - 1] == ']';
    if (value_ip(bracketed ? str_sub(t, 1, t.n - 1) : t, 1, &ip)) {
        /* In a request the Host of an IPv6 address has brackets (RFC 3986 3.2.2); so it has here.
         */
        set_text(a, &ip);
        *out = str_sub(ip.text, 0, ip.text.n - 2);
        return true;
    }
    if (str_eq(t, STR("*"))) {
        *out = STR("*");
        return true;
    }
    if (!check_host_form(t, e))
        return false;
    struct str rest = str_starts(t, STR("*.")) ? str_sub(t, 2, t.n) : t, label;
    if (str_chr(rest, '*') < rest.n)
        return wrong(e, "E035", "\"*\", or \"*.\" at the beginning",
                     "`%.*s`: a * can only stand for the first label", SHOWN(t));
    do {
        size_t dot = str_chr(rest, '.');
        label = str_sub(rest, 0, dot);
        if (!label_ok(label))
            return wrong(e, "E035", "letters, digits and -, in labels of 1 to 63 characters",
                         "`%.*s` is not a host name", SHOWN(t));
        rest = dot < rest.n ? str_sub(rest, dot + 1, rest.n) : STR_NULL;
    } while (rest.n);
    struct str lower = arena_str(a, t);
    char *p = arena_alloc(a, t.n + 1);
    for (size_t i = 0; i < lower.n; i++)
        p[i] = ascii_lower(lower.p[i]);
    p[t.n] = 0;
    *out = (struct str){p, t.n};
    return true;
}

bool value_authority(struct arena *a, struct str t, struct value_error *e)
{
    struct str host, port, out;
    uint16_t number;
    if (!split_authority(t, &host, &port) || !host.n || str_chr(host, '*') < host.n ||
        (port.p && !port_of(port, &number)))
        return wrong(e, "E035", "client, backend, or a name such as app.example.org",
                     "`%.*s` cannot stand in a Host field", SHOWN(t));
    return value_host(a, host, &out, e);
}

bool value_url(struct arena *a, struct str t, struct conf_backend *out, struct value_error *e)
{
    struct str host, port;
    *out = (struct conf_backend){.authority = STR("localhost")};
    if (str_starts(t, STR("unix:")))
        return value_unix(a, str_sub(t, 5, t.n), &out->addr, e);
    /* A URL with a password is not to be shown. */
    if (str_chr(t, '@') < t.n)
        return wrong(e, "E036", NULL, "the URL of a backend takes no user name and password");
    out->tls = str_starts(t, STR("https://"));
    out->raw = str_starts(t, STR("tcp://"));
    out->h2c = str_starts(t, STR("h2c://"));
    if (!out->tls && !out->raw && !out->h2c && !str_starts(t, STR("http://")))
        return no_url(t, e);
    out->port = out->tls ? 443 : 80;
    struct str authority = str_sub(t, str_chr(t, '/') + 2, t.n);
    if (authority.n && authority.p[authority.n - 1] == '/')
        authority.n--;
    if (strcspn(arena_strz(a, authority), "/?#") < authority.n)
        return wrong(e, "E036", "paths go into routes; see strip_prefix",
                     "`%.*s`: the URL of a backend has no path", SHOWN(t));
    if (!split_authority(authority, &host, &port) || !host.n ||
        (port.n ? !port_of(port, &out->port) : out->raw))
        return wrong(e, "E036", out->raw ? "tcp://127.0.0.1:4222" : "http://127.0.0.1:9001",
                     "`%.*s`: `%.*s` is no address with a port", SHOWN(t), SHOWN(authority));
    out->authority = arena_str(a, authority);
    if (value_ip(host, out->port, &out->addr)) {
        set_text(a, &out->addr);
        out->name = arena_str(a, host);
        return true;
    }
    if (str_chr(host, '*') < host.n)
        return wrong(e, "E036", NULL, "`%.*s`: a * is no name of a backend", SHOWN(t));
    if (!value_host(a, host, &out->name, e))
        return false;
    out->addr.text = arena_fmt(a, STR_FMT ":%u", STR_ARG(out->name), out->port);
    return true;
}

bool value_route(struct str t, struct value_error *e)
{
    if (!t.n || t.p[0] != '/')
        return wrong(e, "E037", "write /path/ (a prefix) or /path (exact)",
                     "route `%.*s` does not begin with /", SHOWN(t));
    struct str rest = t, piece;
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        if (c <= ' ' || c >= 0x7f || strchr("?#\\*\"<>", c))
            return wrong(e, "E037", "paths are plain ASCII, without ?, #, * and spaces",
                         "route `%.*s` has a character that no path has", SHOWN(t));
        if (c == '%')
            return wrong(e, "E037", "write the decoded character",
                         "route `%.*s` is percent-encoded", SHOWN(t));
    }
    str_split(&rest, '/', &piece);
    while (str_split(&rest, '/', &piece)) {
        if (str_eq(piece, STR(".")) || str_eq(piece, STR("..")) || (!piece.n && rest.n))
            return wrong(e, "E037", "requests are normalised before routes are looked at",
                         "route `%.*s` holds `//`, `/./` or `/../`", SHOWN(t));
    }
    return true;
}

static bool word_ok(struct str t, const char *more)
{
    for (size_t i = 0; i < t.n; i++) {
        char c = ascii_lower(t.p[i]);
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!alnum && !(c && strchr(more, c)))
            return false;
    }
    return t.n > 0;
}

static bool name_ok(struct str t)
{
    for (size_t i = 0; i < t.n; i++)
        if (t.p[i] >= 'A' && t.p[i] <= 'Z')
            return false;
    return t.n <= 63 && word_ok(t, "-_") && t.p[0] != '-' && t.p[0] != '_';
}

bool value_name(struct str t, enum schema_names kind, struct value_error *e)
{
    uint64_t v;
    switch (kind) {
    case N_NAME:
        if (name_ok(t))
            return true;
        return wrong(e, "E038", "lower-case letters, digits, - and _; up to 63",
                     "`%.*s` cannot be a name", SHOWN(t));
    case N_ROUTE:
        return value_route(t, e);
    case N_ENV:
        if (word_ok(t, "_") && !(t.p[0] >= '0' && t.p[0] <= '9'))
            return true;
        return wrong(e, "E038", "letters, digits and _",
                     "`%.*s` is no name of an environment variable", SHOWN(t));
    case N_HEADER:
        if (word_ok(t, "!#$%&'*+-.^_`|~"))
            return true;
        return wrong(e, "E038", "such as X-Frame-Options", "`%.*s` is no name of a header field",
                     SHOWN(t));
    case N_STATUS:
        if (t.n == 3 && ((str_u64(t, &v) && v >= 400 && v <= 599) || str_eq(t, STR("4xx")) ||
                         str_eq(t, STR("5xx"))))
            return true;
        return wrong(e, "E038", "400 to 599, 4xx or 5xx", "`%.*s` is no status of an error",
                     SHOWN(t));
    case N_NONE:
    case N_ANY:
        return true;
    }
    return true;
}

bool value_target(struct str t, struct value_error *e)
{
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        if (c <= ' ' || c >= 0x7f)
            return wrong(e, "E037", "percent-encode it",
                         "`%.*s`: a space, control or non-ASCII character", SHOWN(t));
    }
    bool url =
        (str_starts(t, STR("https://")) && t.n > 8) || (str_starts(t, STR("http://")) && t.n > 7);
    if (url || (t.n && t.p[0] == '/' && !str_starts(t, STR("//"))))
        return true;
    return wrong(e, "E037", "/path/ or https://host/path/", "`%.*s` is neither a path nor a URL",
                 SHOWN(t));
}
