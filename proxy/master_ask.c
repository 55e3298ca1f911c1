/*
 * master_ask.c - `headgate certs`: questions for the agent, whose answers the master hands on as
 * they are. It parses nothing of what came from a CA.
 */
#include "proxy/master.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

#define PATIENCE_MS 60000
#define HOST_MAX    256
#define ANSWER_MAX  ((size_t)32 * 1024 * 1024)

struct ask {
    struct list link;
    uint64_t id;
    struct admin_conn *conn;
    bool list; /* all certificates are asked for: what the master knows belongs to it */
    struct deadline limit;
};
static struct list asks = {&asks, &asks};
static uint64_t last_id;

static void ask_end(struct ask *a, enum admin_status status, struct str text, json_t *more)
{
    struct admin_conn *conn = a->conn;
    list_remove(&a->link);
    deadline_cancel(&a->limit);
    free(a);
    admin_reply(conn, status, text, more);
}

static void on_limit(struct deadline *d)
{
    ask_end(container_of(d, struct ask, limit), ADMIN_REFUSED,
            STR("headgate: the agent did not answer within a minute; `headgate status` shows how "
                "it is, its log why.\n"),
            NULL);
}

/* Nobody is there to be asked: why, and until when. */
static void no_agent(struct admin_conn *c)
{
    struct arena *a = arena_new(1024);
    const struct agent *agent = &master.agent;
    struct str text = arena_fmt(
        a,
        "headgate: the agent, which looks after certificates, does not run now%s%s; it is "
        "started again soon. Certificates at hand stay in service.\n",
        agent->problem[0] ? ": " : "", agent->problem);
    admin_reply(c, ADMIN_REFUSED, text, NULL);
    arena_free(&a);
}

void verb_certs(struct admin_conn *c, json_t *request)
{
    const char *what = json_string_value(json_object_get(request, "what"));
    const char *host = json_string_value(json_object_get(request, "host"));
    if (!what || !host || strlen(what) > 32 || strlen(host) > HOST_MAX) {
        admin_reply(c, ADMIN_REFUSED, STR("headgate: certs takes `what` and `host`\n"), NULL);
        return;
    }
    if (master.state == MASTER_STOPPING || !master.agent.peer) {
        no_agent(c);
        return;
    }
    char tail[32 + 1 + HOST_MAX];
    struct out o = out_on(tail, sizeof(tail));
    out_str(&o, str_of(what));
    out_char(&o, '\0');
    out_str(&o, str_of(host));
    struct ask *a = calloc(1, sizeof(*a));
    ASSERT(a);
    a->id = ++last_id;
    a->conn = c;
    a->list = strcmp(what, "list") == 0;
    list_append(&asks, &a->link);
    deadline_set(&a->limit, PATIENCE_MS, on_limit);
    struct msg_ask m = {a->id};
    msg_send(master.agent.peer, MSG_CERTS_ASK, &m, out_done(&o), -1);
    if (!a->list)
        log_info("certificates: asked over the admin socket", "what", "%s", what, "host", "%s",
                 host);
}

void ask_answered(const struct msg_answer *m, int fd)
{
    struct str text = STR("");
    struct ask *found = NULL;
    LIST_EACH (&asks, it) {
        struct ask *a = container_of(it, struct ask, link);
        if (a->id == m->id)
            found = a;
    }
    const char *err = fd >= 0 ? file_map_sealed(fd, &text) : "it has no text";
    if (fd >= 0)
        close(fd);
    if (found && (err || text.n > ANSWER_MAX || m->status > ADMIN_REFUSED)) {
        log_error("the agent's answer cannot be handed on", "cause", "%s",
                  err ? err : "it is too large");
        ask_end(found, ADMIN_FAILED, STR("headgate: the agent's answer cannot be read.\n"), NULL);
    } else if (found) {
        json_t *more = json_pack("{s:o}", "agent", json_text(text));
        if (found->list)
            json_object_set_new(more, "certificates", certs_status());
        ask_end(found, (enum admin_status)m->status, STR(""), more);
    }
    if (!err && text.n)
        munmap((void *)(uintptr_t)text.p, text.n);
}

void asks_agent_gone(void)
{
    LIST_EACH_SAFE (&asks, it) {
        ask_end(container_of(it, struct ask, link), ADMIN_REFUSED,
                STR("headgate: the agent died over it; it is started again. Ask once more in a "
                    "moment.\n"),
                NULL);
    }
}

void asks_conn_closed(const struct admin_conn *c)
{
    LIST_EACH_SAFE (&asks, it) {
        struct ask *a = container_of(it, struct ask, link);
        if (a->conn != c)
            continue;
        list_remove(&a->link);
        deadline_cancel(&a->limit);
        free(a);
    }
}

unsigned asks_open(void)
{
    unsigned n = 0;
    LIST_EACH (&asks, it)
        n++;
    return n;
}
