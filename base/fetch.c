/*
 * fetch.c - libcurl's multi interface on the loop: sockets as libevent events, one timer, answers
 * gathered within bounds. What is fetched and what an answer means is the callers'.
 */
#include "base/fetch.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <stdlib.h>

#include "base/loop.h"

#define CONNECT_MS  20000 /* of all the addresses of a name */
#define CONNECTIONS 8     /* to one server; HTTP/2 needs one of them */
#define KEPT        16    /* idle ones */

/*
 * libcurl is loaded by the one process that needs it: with what it brings along (two dozen
 * libraries) each start of a worker or a command would take half as long again.
 */
#define CURL_CALLS(X)      \
    X(easy_cleanup)        \
    X(easy_getinfo)        \
    X(easy_init)           \
    X(easy_setopt)         \
    X(easy_strerror)       \
    X(global_cleanup)      \
    X(global_init)         \
    X(multi_add_handle)    \
    X(multi_assign)        \
    X(multi_cleanup)       \
    X(multi_info_read)     \
    X(multi_init)          \
    X(multi_remove_handle) \
    X(multi_setopt)        \
    X(multi_socket_action) \
    X(slist_append)        \
    X(slist_free_all)

#define X(call) __typeof__(&curl_##call) call;
static struct curl_calls {
    CURL_CALLS(X);
} curl;
#undef X

#define X(call) {"curl_" #call, offsetof(struct curl_calls, call)},
static const struct {
    const char *name;
    size_t at; /* in `curl` */
} curl_calls[] = {CURL_CALLS(X)};
#undef X

static const char *curl_load(void)
{
    void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return "libcurl.so.4 cannot be loaded: install the package libcurl4";
    for (size_t i = 0; i < ARRAY_LEN(curl_calls); i++) {
        void *call = dlsym(lib, curl_calls[i].name);
        if (!call)
            return "libcurl.so.4 is too old: install a newer package libcurl4";
        memcpy((char *)&curl + curl_calls[i].at, &call, sizeof(call));
    }
    return NULL;
}

static struct {
    bool global;
    CURLM *multi;
    struct event timer;
    struct list sockets; /* struct watch */
} net;

/* A socket of libcurl's. */
struct watch {
    struct list link;
    struct event ev;
};

enum fetch_state { FETCH_RUNNING, FETCH_FAILED_EARLY, FETCH_ENDED };

struct fetch {
    struct arena *arena; /* holds this struct and the head */
    enum fetch_state state;
    CURL *easy;
    struct curl_slist *fields; /* of the request */
    struct turn_task late;     /* tells of what failed at once */
    CURLcode early;
    void (*done)(void *ctx, const struct fetch_answer *a);
    void *ctx;
    struct str host; /* for messages: "ca.example:14000" */
    struct fetch_answer answer;
    size_t head_bytes;
    bool head_whole; /* what comes now are trailers, or the next answer after a 1xx */
    char *body;
    size_t body_n, body_cap, body_max;
    const char *refused; /* why we stopped reading */
    char detail[CURL_ERROR_SIZE];
};

/* ---- libcurl on the loop ---- */

static void harvest(void);

static void on_socket_event(evutil_socket_t fd, short what, void *arg UNUSED)
{
    int running, flags = 0;
    if (what & EV_READ)
        flags |= CURL_CSELECT_IN;
    if (what & EV_WRITE)
        flags |= CURL_CSELECT_OUT;
    (void)curl.multi_socket_action(net.multi, fd, flags, &running);
    harvest();
}

static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg UNUSED)
{
    int running;
    (void)curl.multi_socket_action(net.multi, CURL_SOCKET_TIMEOUT, 0, &running);
    harvest();
}

static void watch_close(struct watch *w)
{
    event_del(&w->ev);
    list_remove(&w->link);
    loop_free_later(w, free);
}

static int on_curl_socket(CURL *easy UNUSED, curl_socket_t fd, int what, void *arg UNUSED,
                          void *of_socket)
{
    struct watch *w = of_socket;
    if (what == CURL_POLL_REMOVE) {
        if (w)
            watch_close(w);
        return 0;
    }
    short events = EV_PERSIST;
    if (what & CURL_POLL_IN)
        events |= EV_READ;
    if (what & CURL_POLL_OUT)
        events |= EV_WRITE;
    if (w) {
        event_del(&w->ev);
    } else {
        w = calloc(1, sizeof(*w));
        ASSERT(w);
        list_append(&net.sockets, &w->link);
        (void)curl.multi_assign(net.multi, fd, w);
    }
    event_assign(&w->ev, loop_base(), fd, events, on_socket_event, NULL);
    event_add(&w->ev, NULL);
    return 0;
}

static int on_curl_timer(CURLM *multi UNUSED, long ms, void *arg UNUSED)
{
    if (ms < 0) {
        event_del(&net.timer);
        return 0;
    }
    struct timeval tv = {ms / 1000, (ms % 1000) * 1000};
    event_add(&net.timer, &tv);
    return 0;
}

const char *fetch_setup(void)
{
    const char *err = net.global ? NULL : curl_load();
    if (err)
        return err;
    if (!net.global && curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return "libcurl does not start";
    net.global = true;
    if (net.multi)
        return NULL;
    net.multi = curl.multi_init();
    if (!net.multi)
        return "libcurl does not start";
    list_init(&net.sockets);
    event_assign(&net.timer, loop_base(), -1, 0, on_timer, NULL);
    curl.multi_setopt(net.multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl.multi_setopt(net.multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl.multi_setopt(net.multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    curl.multi_setopt(net.multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)CONNECTIONS);
    curl.multi_setopt(net.multi, CURLMOPT_MAXCONNECTS, (long)KEPT);
    return NULL;
}

void fetch_fini(void)
{
    if (net.multi) {
        curl.multi_cleanup(net.multi);
        net.multi = NULL;
        event_del(&net.timer);
        while (!list_empty(&net.sockets))
            watch_close(container_of(net.sockets.next, struct watch, link));
    }
    if (net.global)
        curl.global_cleanup();
    net.global = false;
}

/* ---- an answer, as it comes in ---- */

/* Not counted as read: libcurl ends the transfer. */
static size_t refuse(struct fetch *f, const char *why)
{
    f->refused = why;
    f->answer.too_large = true;
    return 0;
}

static bool head_field(struct fetch *f, struct str line)
{
    size_t colon = str_chr(line, ':');
    if (colon == line.n)
        return true; /* libcurl lets a few strange ones pass */
    if (f->answer.n_headers == FETCH_HEADERS_MAX)
        return false;
    struct fetch_header *h = &f->answer.headers[f->answer.n_headers++];
    h->name = arena_str(f->arena, str_sub(line, 0, colon));
    h->value = arena_str(f->arena, str_trim(str_sub(line, colon + 1, line.n)));
    return true;
}

static size_t on_head(char *p, size_t size, size_t n, void *arg)
{
    struct fetch *f = arg;
    struct str line = {p, size * n};
    size_t all = line.n;
    while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
        line.n--;
    f->head_bytes += all;
    if (f->head_bytes > FETCH_HEAD_MAX)
        return refuse(f, "its head is too large");
    if (!line.n) {
        f->head_whole = true;
    } else if (str_istarts(line, STR("HTTP/")) && !f->body_n) {
        /* Another head follows after 100 and its like. */
        f->head_whole = false;
        f->answer.n_headers = 0;
    } else if (!f->head_whole && !head_field(f, line)) {
        return refuse(f, "its head has too many fields");
    }
    return all;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct fetch *f = arg;
    size_t more = size * n;
    if (more > f->body_max - f->body_n)
        return refuse(f, "it is too large");
    if (more > f->body_cap - f->body_n) {
        size_t cap = MIN(MAX(f->body_cap * 2, f->body_n + MAX(more, 4096)), f->body_max);
        char *grown = realloc(f->body, cap);
        ASSERT(grown);
        f->body = grown;
        f->body_cap = cap;
    }
    memcpy(f->body + f->body_n, p, more);
    f->body_n += more;
    return more;
}

/* ---- the end of one ---- */

static void fetch_free(void *p)
{
    struct fetch *f = p;
    curl.slist_free_all(f->fields);
    free(f->body);
    struct arena *a = f->arena;
    arena_free(&a);
}

/* Called from no callback of libcurl's: there it may not be. */
static void fetch_end(struct fetch *f)
{
    f->state = FETCH_ENDED;
    turn_task_cancel(&f->late);
    if (f->easy) {
        curl.multi_remove_handle(net.multi, f->easy);
        curl.easy_cleanup(f->easy);
        f->easy = NULL;
    }
    loop_free_later(f, fetch_free);
}

static const char *say(struct fetch *f, CURLcode rc)
{
    const char *host = f->host.p, *detail = *f->detail ? f->detail : curl.easy_strerror(rc);
    long err = 0;
    struct arena *a = f->arena;
    if (f->refused)
        return arena_fmt(a, "the answer of %s is refused: %s", host, f->refused).p;
    switch (rc) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        return arena_fmt(a, "the URL is not usable here: %s", detail).p;
    case CURLE_COULDNT_RESOLVE_HOST:
        return arena_fmt(a, "cannot reach %s: its name does not resolve; is DNS in order here?",
                         host)
            .p;
    case CURLE_COULDNT_CONNECT:
        curl.easy_getinfo(f->easy, CURLINFO_OS_ERRNO, &err);
        return arena_fmt(a, "cannot connect to %s: %s", host, err ? err_of_errno((int)err) : detail)
            .p;
    case CURLE_OPERATION_TIMEDOUT:
        return arena_fmt(a, "%s gave no whole answer in time: %s", host, detail).p;
    case CURLE_PEER_FAILED_VERIFICATION:
        return arena_fmt(a, "the certificate of %s is not trusted: %s", host, detail).p;
    case CURLE_GOT_NOTHING:
        return arena_fmt(a, "%s closed the connection without an answer", host).p;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return arena_fmt(a, "the answer of %s broke off: %s", host, detail).p;
    default:
        return arena_fmt(a, "the request to %s failed: %s", host, detail).p;
    }
}

static void fetch_tell(struct fetch *f, CURLcode rc)
{
    struct fetch_answer *a = &f->answer;
    if (rc == CURLE_OK && !f->head_whole)
        rc = CURLE_PARTIAL_FILE; /* libcurl takes what there was of a head */
    if (rc != CURLE_OK) {
        a->err = say(f, rc);
    } else {
        long status = 0;
        curl.easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
        a->status = (unsigned)status;
        a->body = (struct str){f->body, f->body_n};
    }
    fetch_end(f);
    f->done(f->ctx, a);
}

static void harvest(void)
{
    int left;
    for (CURLMsg *m; net.multi && (m = curl.multi_info_read(net.multi, &left));) {
        struct fetch *f = NULL;
        CURLcode rc = m->data.result;
        curl.easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&f);
        fetch_tell(f, rc);
    }
}

static void on_late(struct turn_task *t)
{
    struct fetch *f = container_of(t, struct fetch, late);
    fetch_tell(f, f->early);
}

void fetch_cancel(struct fetch **fp)
{
    struct fetch *f = *fp;
    *fp = NULL;
    if (f && f->state != FETCH_ENDED)
        fetch_end(f);
}

struct str fetch_header(const struct fetch_answer *a, const char *name)
{
    for (unsigned i = 0; i < a->n_headers; i++)
        if (str_ieq(a->headers[i].name, str_of(name)))
            return a->headers[i].value;
    return STR_NULL;
}

/* ---- the start of one ---- */

/* First error of a list of options; later ones are skipped. */
#define SET(option, value) (rc = rc == CURLE_OK ? curl.easy_setopt(f->easy, option, value) : rc)

static void add_field(struct fetch *f, const char *name, const char *value)
{
    if (!value)
        return;
    struct curl_slist *more = curl.slist_append(
        f->fields, arena_fmt(f->arena, "%s:%s%s", name, *value ? " " : "", value).p);
    ASSERT(more);
    f->fields = more;
}

/* What is to be asked. */
static CURLcode set_request(struct fetch *f, const struct fetch_spec *s)
{
    CURLcode rc = CURLE_OK;
    const char *allowed = s->plain ? "https,http" : "https";
    add_field(f, "Content-Type", s->content_type);
    add_field(f, "Accept", s->accept);
    add_field(f, "Expect", ""); /* no wait for a 100 */
    SET(CURLOPT_URL, s->url);
    SET(CURLOPT_PROTOCOLS_STR, allowed);
    SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(CURLOPT_PATH_AS_IS, 1L); /* ACME signs it as it stands */
    SET(CURLOPT_USERAGENT, "headgate/" HG_VERSION);
    SET(CURLOPT_HTTPHEADER, f->fields);
    if (strcmp(s->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (strcmp(s->method, "POST") == 0) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)s->body.n);
        SET(CURLOPT_COPYPOSTFIELDS, s->body.n ? s->body.p : "");
    } else {
        ASSERT(strcmp(s->method, "GET") == 0);
    }
    return rc;
}

/* How it is asked. */
static CURLcode set_transport(struct fetch *f, const struct fetch_spec *s)
{
    CURLcode rc = CURLE_OK;
    SET(CURLOPT_PRIVATE, f);
    SET(CURLOPT_ERRORBUFFER, f->detail);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TIMEOUT_MS, (long)s->timeout_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)MIN(s->timeout_ms, CONNECT_MS));
    /* An end does not wait for the thread that still resolves a name. */
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    SET(CURLOPT_PIPEWAIT, 1L); /* rather a stream of the connection at hand than another one */
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_HEADERFUNCTION, on_head);
    SET(CURLOPT_HEADERDATA, f);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, f);
    if (s->ca_pem.n) {
        struct curl_blob blob = {(void *)(uintptr_t)s->ca_pem.p, s->ca_pem.n, CURL_BLOB_COPY};
        SET(CURLOPT_CAINFO_BLOB, &blob);
        SET(CURLOPT_CAPATH, NULL); /* those and no others */
    }
    return rc;
}

/* "ca.example:14000" of a URL. */
static struct str host_of(struct arena *a, struct str url)
{
    for (size_t i = 0; i + 3 <= url.n; i++)
        if (memcmp(url.p + i, "://", 3) == 0) {
            url = str_sub(url, i + 3, url.n);
            break;
        }
    size_t n = 0;
    while (n < url.n && !strchr("/?#", url.p[n]))
        n++;
    return arena_str(a, str_sub(url, 0, n));
}

struct fetch *fetch_start(const struct fetch_spec *spec,
                          void (*done)(void *ctx, const struct fetch_answer *a), void *ctx)
{
    const char *err = fetch_setup();
    ASSERT(!err);
    struct arena *a = arena_new(4096);
    struct fetch *f = arena_znew(a, struct fetch);
    f->arena = a;
    f->done = done;
    f->ctx = ctx;
    f->host = host_of(a, str_of(spec->url));
    f->body_max = spec->max_body;
    f->easy = curl.easy_init();
    ASSERT(f->easy);
    CURLcode rc = set_request(f, spec);
    if (rc == CURLE_OK)
        rc = set_transport(f, spec);
    if (rc == CURLE_OK && curl.multi_add_handle(net.multi, f->easy) != CURLM_OK)
        rc = CURLE_FAILED_INIT;
    if (rc != CURLE_OK) {
        f->state = FETCH_FAILED_EARLY;
        f->early = rc;
        loop_at_turn_end(&f->late, on_late);
    }
    return f;
}
