/*
 * test_master_challenges.c - the master between an agent and workers that are sockets here: who is
 * shown what, and when the agent hears that it may send the CA.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/log.h"
#include "proxy/challenges.h"
#include "proxy/dns_hook.h"
#include "proxy/master.h"

#define WORKERS 4

/* The other end of a socket of the master, with what came there. */
struct end {
    struct msg_peer *peer;
    unsigned shown, hidden, said;
    uint64_t id;
    bool ok;
    char text[MSG_TAIL_MAX];
    size_t n;
};

static struct end ends[WORKERS], agent_end;
static struct worker workers[WORKERS];
static struct loaded loaded;
static struct conf conf;
static unsigned came, awaited;
static char dir[] = "/tmp/headgate-challenges-XXXXXX";

static void on_msg(void *ctx, struct msg *m)
{
    struct end *e = ctx;
    if (m->type == MSG_CHALLENGE) {
        const struct msg_challenge *c = m->fixed;
        e->id = c->id;
        e->shown += c->on;
        e->hidden += !c->on;
    } else {
        const struct msg_challenge_done *d = m->fixed;
        assert_int_equal(m->type, MSG_CHALLENGE_DONE);
        e->id = d->id;
        e->ok = d->ok;
        e->said++;
    }
    memcpy(e->text, m->tail.p, m->tail.n);
    e->text[m->tail.n] = '\0';
    e->n = m->tail.n;
    if (++came == awaited)
        loop_stop();
}

static void on_gone(void *ctx, const char *why)
{
    (void)ctx, (void)why;
}

/* What follows from a change is called here by name, and not by the whole master. */
static void settle(void)
{
    turn_task_cancel(&master.settle);
    challenges_settle();
}

/* The next n messages, wherever they come. */
static void messages(unsigned n)
{
    turn_task_cancel(&master.settle);
    awaited = came + n;
    loop_run();
}

static struct msg_peer *peer_to(struct end *e)
{
    int fds[2];
    assert_null(msg_pair(fds));
    *e = (struct end){.peer = msg_peer_new(fds[1], e, on_msg, on_gone)};
    return msg_peer_new(fds[0], NULL, on_msg, on_gone);
}

static void worker_comes(unsigned i, enum worker_state state)
{
    workers[i] = (struct worker){.num = i * 70, .state = state, .peer = peer_to(&ends[i])};
    list_append(&master.workers, &workers[i].link);
}

static void worker_goes(unsigned i)
{
    list_remove(&workers[i].link);
    msg_peer_close(&workers[i].peer);
    msg_peer_close(&ends[i].peer);
    challenges_worker_gone(&workers[i]);
}

static void show(uint64_t id, enum msg_challenge_kind kind, const char *host, const char *answer)
{
    char mem[MSG_TAIL_MAX];
    struct out o = out_on(mem, sizeof(mem));
    challenge_text_write(&(struct challenge_text){str_of(host), STR("tok"), str_of(answer)}, &o);
    challenge_came(&(struct msg_challenge){.id = id, .kind = kind, .on = 1}, out_done(&o));
}

static void show_http(uint64_t id)
{
    show(id, MSG_CHALLENGE_HTTP, "a.test", "tok.thumb");
}

static void hide(uint64_t id)
{
    challenge_came(&(struct msg_challenge){.id = id}, STR_NULL);
}

static void worker_says(unsigned i, uint64_t told, const char *refusal)
{
    struct msg_challenge_done m = {.id = told, .ok = !refusal};
    challenge_said(&workers[i], &m, str_of(refusal));
    settle();
}

/* Nothing was said to the agent that is not told of here: a word of another one comes first. */
static void agent_hears_nothing(void)
{
    unsigned before = agent_end.said;
    msg_send(master.agent.peer, MSG_CHALLENGE_DONE, &(struct msg_challenge_done){.id = 999},
             STR_NULL, -1);
    messages(1);
    assert_int_equal(agent_end.id, 999);
    assert_int_equal(agent_end.said, before + 1);
}

static void agent_hears(uint64_t id, const char *refusal)
{
    messages(1);
    assert_int_equal(agent_end.id, id);
    assert_int_equal(agent_end.ok, !refusal);
    if (refusal && !strstr(agent_end.text, refusal))
        fail_msg("%s", agent_end.text);
}

/* ---- workers ---- */

static void test_all_that_accept(void **state)
{
    (void)state;
    struct challenge_text t;
    worker_comes(0, WORKER_SERVING);
    worker_comes(1, WORKER_SERVING);
    worker_comes(2, WORKER_STARTING);
    worker_comes(3, WORKER_DRAINING);
    show_http(7);
    messages(WORKERS);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(ends[i].shown, 1);
        assert_true(challenge_text_read((struct str){ends[i].text, ends[i].n}, &t));
        assert_true(str_eq(t.host, STR("a.test")) && str_eq(t.answer, STR("tok.thumb")));
    }
    uint64_t told = ends[0].id;
    settle();
    worker_says(2, told, NULL);
    worker_says(1, told, NULL);
    agent_hears_nothing();
    worker_says(0, told, NULL);
    agent_hears(7, NULL);
    worker_says(3, told, NULL);
    agent_hears_nothing();
    hide(7);
    messages(WORKERS);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(ends[i].hidden, 1);
    hide(7);
    worker_says(0, told, NULL); /* of what is gone */
    agent_hears_nothing();
}

static void test_refused(void **state)
{
    (void)state;
    worker_comes(0, WORKER_SERVING);
    worker_comes(1, WORKER_SERVING);
    show_http(1);
    messages(2);
    worker_says(1, ends[1].id, "no room");
    agent_hears(1, "no room");
    worker_says(0, ends[0].id, NULL);
    agent_hears_nothing(); /* one word a challenge */
    hide(1);
    messages(2);
    challenge_came(&(struct msg_challenge){.id = 2, .kind = MSG_CHALLENGE_HTTP, .on = 1},
                   STR("a.test"));
    agent_hears(2, "not whole");
}

static void test_workers_come_and_go(void **state)
{
    (void)state;
    worker_comes(0, WORKER_SERVING);
    worker_comes(1, WORKER_SERVING);
    show_http(1);
    messages(2);
    uint64_t told = ends[0].id;
    worker_says(0, told, NULL);
    worker_goes(1);
    settle();
    agent_hears(1, NULL);
    /* The successor, of the same number, is shown it before anything else, and is not waited for */
    worker_comes(1, WORKER_STARTING);
    challenges_replay(&workers[1]);
    messages(1);
    assert_int_equal(ends[1].id, told);
    assert_int_equal(ends[1].shown, 1);
    worker_says(1, told, NULL);
    agent_hears_nothing();
    hide(1);
    messages(2);
    worker_comes(2, WORKER_STARTING);
    challenges_replay(&workers[2]); /* nothing is left to be shown */
    worker_goes(0);
    worker_goes(1);
    worker_goes(2);
    assert_int_equal(ends[2].shown, 0);
    /* Without workers nobody accepts, and whoever comes has it. */
    show_http(2);
    settle();
    agent_hears(2, NULL);
    worker_comes(0, WORKER_STARTING);
    challenges_replay(&workers[0]);
    messages(1);
    assert_int_equal(ends[0].shown, 1);
    hide(2);
    messages(1);
}

static void test_not_before_it_serves(void **state)
{
    (void)state;
    master.state = MASTER_STARTING;
    worker_comes(0, WORKER_SERVING);
    show_http(1);
    messages(1);
    worker_says(0, ends[0].id, NULL);
    agent_hears_nothing();
    master.state = MASTER_SERVING;
    settle();
    agent_hears(1, NULL);
    hide(1);
    messages(1);
}

static void test_agent_dies(void **state)
{
    (void)state;
    worker_comes(0, WORKER_SERVING);
    show_http(1);
    messages(1);
    uint64_t told = ends[0].id;
    challenges_agent_gone();
    messages(1);
    assert_int_equal(ends[0].hidden, 1);
    assert_int_equal(ends[0].id, told);
    /* The next one's numbers begin anew; what the worker says late is not about this. */
    show_http(1);
    messages(1);
    assert_int_not_equal(ends[0].id, told);
    worker_says(0, told, NULL);
    worker_says(0, told, "no room");
    agent_hears_nothing();
    worker_says(0, ends[0].id, NULL);
    agent_hears(1, NULL);
    hide(1);
    messages(1);
}

static void test_bounded(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= CHALLENGES_MAX; id++)
        show_http(id);
    show_http(CHALLENGES_MAX + 1);
    agent_hears(CHALLENGES_MAX + 1, "too many");
    challenges_agent_gone();
    /* A worker that comes is sent them all: they fit its queue (msg.c). */
    static char large[16001];
    memset(large, 'x', sizeof(large) - 1);
    const unsigned fit = 8 * 1024 * 1024 / (16000 + sizeof("a.test") + sizeof("tok"));
    for (uint64_t id = 1; id <= fit + 1; id++)
        show(id, MSG_CHALLENGE_HTTP, "a.test", large);
    agent_hears(fit + 1, "too many");
    challenges_agent_gone();
    master.state = MASTER_STOPPING;
    show_http(1);
    agent_hears(1, "stops");
}

/* ---- the hook ---- */

static void script(const char *text)
{
    static char path[64];
    snprintf(path, sizeof(path), "%s/hook", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\nD=%s\n%s\n", dir, text);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0755), 0);
    conf.acme.dns_hook = str_of(path);
}

static const char *written(void)
{
    static char text[4096];
    char path[64];
    snprintf(path, sizeof(path), "%s/log", dir);
    FILE *f = fopen(path, "r");
    text[f ? fread(text, 1, sizeof(text) - 1, f) : 0] = '\0';
    if (f)
        fclose(f);
    return text;
}

static const char *wanted;

static void on_look(struct deadline *d)
{
    if (strstr(written(), wanted))
        loop_stop();
    else
        deadline_set(d, 1, on_look);
}

static void wait_written(const char *what)
{
    struct deadline d = {0};
    wanted = what;
    deadline_set(&d, 1, on_look);
    loop_run();
    deadline_cancel(&d);
}

static void test_dns(void **state)
{
    (void)state;
    worker_comes(0, WORKER_SERVING);
    show(1, MSG_CHALLENGE_DNS, "a.test", "value");
    agent_hears(1, "acme.dns_hook is not set");
    hide(1);

    script("echo $1 $2 $3 >>$D/log; [ $3 != bad ] || { echo 'no such zone'; exit 4; }");
    show(2, MSG_CHALLENGE_DNS, "a.test", "value");
    settle();
    agent_hears(2, NULL);
    assert_string_equal(written(), "present _acme-challenge.a.test value\n");
    hide(2);
    wait_written("cleanup _acme-challenge.a.test value\n");
    show(3, MSG_CHALLENGE_DNS, "b.test", "bad");
    agent_hears(3, "exited with status 4: no such zone");
    challenges_agent_gone(); /* what it had put there is taken out all the same */
    wait_written("cleanup _acme-challenge.b.test bad\n");

    show(4, MSG_CHALLENGE_DNS, "c.test", "early");
    hide(4); /* before it began: there is nothing to take out */
    show(5, MSG_CHALLENGE_DNS, "c;d.test", "value");
    agent_hears(5, "nothing was run");
    assert_null(strstr(written(), "early"));
    hide(5);
    assert_int_equal(ends[0].shown + ends[0].hidden, 0);
}

static void test_dns_at_the_stop(void **state)
{
    (void)state;
    script("trap 'echo ended $1 >>$D/log; exit 0' TERM\n"
           "echo $1 $2 >>$D/log; while :; do sleep 0.02; done");
    show(1, MSG_CHALLENGE_DNS, "stop.test", "value");
    wait_written("present _acme-challenge.stop.test\n");
    master.state = MASTER_STOPPING;
    challenges_stop();
    hide(1);
    wait_written("ended present\n");
    agent_hears_nothing();
    assert_null(strstr(written(), "cleanup _acme-challenge.stop.test"));
}

/* ---- all of it ---- */

static int begin(void **state)
{
    (void)state;
    master.state = MASTER_SERVING;
    master.agent.peer = peer_to(&agent_end);
    conf.acme.dns_hook = STR_NULL;
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WORKERS; i++)
        if (list_linked(&workers[i].link))
            worker_goes(i);
    challenges_agent_gone();
    turn_task_cancel(&master.settle);
    msg_peer_close(&master.agent.peer);
    msg_peer_close(&agent_end.peer);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    log_init("test", LOG_INFO);
    loop_init();
    if (!mkdtemp(dir))
        return 1;
    list_init(&master.workers);
    conf.uid = (uid_t)-1;
    conf.gid = (gid_t)-1;
    conf.state = str_of(dir);
    loaded.conf = &conf;
    master.loaded = &loaded;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[64];
    loop_fini();
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_that_accept, begin, end),
        cmocka_unit_test_setup_teardown(test_refused, begin, end),
        cmocka_unit_test_setup_teardown(test_workers_come_and_go, begin, end),
        cmocka_unit_test_setup_teardown(test_not_before_it_serves, begin, end),
        cmocka_unit_test_setup_teardown(test_agent_dies, begin, end),
        cmocka_unit_test_setup_teardown(test_bounded, begin, end),
        cmocka_unit_test_setup_teardown(test_dns, begin, end),
        cmocka_unit_test_setup_teardown(test_dns_at_the_stop, begin, end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
