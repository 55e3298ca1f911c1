/*
 * test_filter.c - the chain of filters: who sees what in which order, sends that come to nothing,
 * ends that a filter makes of a failure, and what a filter holds.
 */
#include "fake_req.h"

#include "proxy/filter.h"

/*
 * The filter of these tests: puts a letter in front of each piece, holds back every second one,
 * turns trailers into bytes, and tells a failure in words.
 */
static char seen[200]; /* what was called, in order */
static unsigned closed;

struct letters {
    char head[64];
    struct slice out[40];
    unsigned pieces;
};

static void note(const struct filter_use *u, const char *what)
{
    strncat(seen, u->filter->name, sizeof(seen) - strlen(seen) - 1);
    strncat(seen, what, sizeof(seen) - strlen(seen) - 1);
}

static bool always(const struct req *r)
{
    (void)r;
    return true;
}

static void letters_begin(struct filter_use *u)
{
    u->state = arena_znew(u->req->arena, struct letters);
    note(u, "b ");
}

static void letters_head(struct filter_use *u, bool *end)
{
    note(u, *end ? "h! " : "h ");
    u->req->answer.length = REQ_LENGTH_UNKNOWN;
    *end = false;
}

static const char *letters_body(struct filter_use *u, struct piece *p)
{
    struct letters *l = u->state;
    struct out o = out_on(l->head, sizeof(l->head));
    note(u, p->end ? "d! " : "d ");
    out_str(&o, str_of(u->filter->name));
    if (p->trailers)
        out_str(&o, p->trailers->v[0].value);
    p->trailers = NULL;
    ASSERT(p->n < ARRAY_LEN(l->out));
    l->out[0] = (struct slice){.p = (const uint8_t *)l->head, .n = o.n};
    for (unsigned i = 0; i < p->n; i++)
        l->out[i + 1] = p->v[i];
    p->v = l->out;
    p->n++;
    return NULL;
}

static bool letters_fail(struct filter_use *u, unsigned status, const char *err, struct piece *last)
{
    struct letters *l = u->state;
    if (status == 500)
        return false;
    note(u, "f ");
    if (u->req->state < REQ_ANSWERING) {
        u->req->answer.status = 200;
        u->req->answer.length = REQ_LENGTH_UNKNOWN;
    }
    l->out[0] = (struct slice){.p = (const uint8_t *)err, .n = strlen(err)};
    last->v = l->out;
    last->n = 1;
    return true;
}

static void letters_close(struct filter_use *u)
{
    note(u, "c ");
    closed++;
}

static const char *nothing_body(struct filter_use *u, struct piece *p)
{
    note(u, "d ");
    if (!p->end)
        p->n = 0;
    return NULL;
}

static const char *broken_body(struct filter_use *u, struct piece *p)
{
    (void)p;
    note(u, "x ");
    return "broken";
}

static void leaves_head(struct filter_use *u, bool *end)
{
    (void)end;
    filter_leave(u);
}

static const struct filter filter_a = {.name = "a",
                                       .wanted = always,
                                       .begin = letters_begin,
                                       .request_body = letters_body,
                                       .answer_head = letters_head,
                                       .answer_body = letters_body,
                                       .close = letters_close};
static const struct filter filter_z = {.name = "z",
                                       .wanted = always,
                                       .begin = letters_begin,
                                       .request_body = letters_body,
                                       .answer_head = letters_head,
                                       .answer_body = letters_body,
                                       .fail = letters_fail,
                                       .close = letters_close};
static const struct filter filter_nothing = {
    .name = "n", .wanted = always, .answer_body = nothing_body};
static const struct filter filter_broken = {
    .name = "k", .wanted = always, .answer_body = broken_body, .request_body = broken_body};
static const struct filter filter_leaves = {.name = "l",
                                            .wanted = always,
                                            .answer_head = leaves_head,
                                            .answer_body = broken_body,
                                            .close = letters_close};

/* ---- the handler of these tests: as many pieces as it is told, then its end ---- */

static struct {
    unsigned pieces, proceeds;
    const struct fields *trailers;
    char body[200];
    bool body_ended, cancelled;
} hand;

static void hand_next(struct req *r)
{
    static const struct slice one = {.p = (const uint8_t *)".", .n = 1};
    if (hand.pieces == 0)
        return;
    if (--hand.pieces)
        req_send(r, &one, 1, false);
    else if (hand.trailers)
        req_send_trailers(r, hand.trailers);
    else
        req_send(r, &one, 1, true);
}

static void hand_start(struct req *r)
{
    r->answer.status = 200;
    req_answer(r, hand.pieces == 0);
    hand_next(r);
}

static void hand_proceed(struct req *r)
{
    hand.proceeds++;
    hand_next(r);
}

static void hand_body(struct req *r, struct slice s)
{
    (void)r;
    strncat(hand.body, (const char *)s.p, s.n);
}

static void hand_body_end(struct req *r, const struct fields *trailers)
{
    (void)r, (void)trailers;
    hand.body_ended = true;
}

static void hand_cancel(struct req *r)
{
    (void)r;
    hand.cancelled = true;
}

static const struct handler hand_handler = {.name = "hand",
                                            .start = hand_start,
                                            .body = hand_body,
                                            .body_end = hand_body_end,
                                            .proceed = hand_proceed,
                                            .cancel = hand_cancel};

static struct req *begin(unsigned pieces)
{
    memset(&hand, 0, sizeof(hand));
    hand.pieces = pieces;
    struct req *r = fake_begin(METHOD_GET, "/", NULL);
    seen[0] = '\0';
    closed = 0;
    r->handler = &hand_handler;
    return r;
}

/* ---- cases ---- */

static void test_order(void **state)
{
    (void)state;
    struct req *r = begin(2);
    filter_add(r, &filter_z); /* the client's neighbour */
    filter_add(r, &filter_a);
    fake_run(&hand_handler);
    assert_string_equal(seen, "zb ab ah zh ad zd ad! zd! ");
    assert_string_equal(fake.body, "za.za.");
    assert_true(fake.ended);
    fake_end();
    assert_int_equal(closed, 2);
}

static void test_end_without_body(void **state)
{
    (void)state;
    struct req *r = begin(0);
    filter_add(r, &filter_a);
    fake_run(&hand_handler);
    assert_string_equal(seen, "ab ah! ad! ");
    assert_false(fake.head_ended);
    assert_string_equal(fake.body, "a");

    r = begin(0); /* but an answer to HEAD stays without */
    r->method = METHOD_HEAD;
    filter_add(r, &filter_a);
    fake_run(&hand_handler);
    assert_string_equal(seen, "ab ah! ");
    assert_true(fake.head_ended);
    assert_null(fake.body);
}

static void test_trailers_become_bytes(void **state)
{
    (void)state;
    struct req *r = begin(2);
    struct fields t = {0};
    fields_add(r->arena, &t, STR("grpc-status"), STR("0"));
    hand.trailers = &t;
    filter_add(r, &filter_a);
    fake_run(&hand_handler);
    assert_string_equal(fake.body, "a.a0");
    assert_null(fake.trailers);
    assert_true(fake.ended);

    r = begin(1); /* without a filter they stay what they are */
    t = (struct fields){0};
    fields_add(r->arena, &t, STR("grpc-status"), STR("0"));
    hand.trailers = &t;
    fake_run(&hand_handler);
    assert_ptr_equal(fake.trailers, &t);
}

static void stop(struct turn_task *t)
{
    (void)t;
    loop_stop();
}

/* What comes to nothing is asked for anew by the loop, not from inside the send. */
static void test_nothing_of_a_send(void **state)
{
    (void)state;
    struct req *r = begin(50);
    filter_add(r, &filter_nothing);
    hand_handler.start(r);
    assert_int_equal(hand.proceeds, 0);
    assert_true(r->send_pending);
    struct turn_task end = {0};
    loop_at_turn_end(&end, stop);
    loop_run();
    assert_int_equal(hand.proceeds, 49);
    assert_string_equal(fake.body, ".");
    assert_int_equal(fake.pieces, 1);
    assert_true(req_over(r));

    r = begin(50); /* closed in between: nothing runs any more */
    filter_add(r, &filter_nothing);
    hand_handler.start(r);
    req_gone(r, "gone");
    filters_close(r);
    loop_at_turn_end(&end, stop);
    loop_run();
    assert_int_equal(hand.proceeds, 0);
}

static void test_failures(void **state)
{
    (void)state;
    /* Before the head: the filter's own answer, which those behind it see. */
    struct req *r = begin(2);
    filter_add(r, &filter_a);
    filter_add(r, &filter_z);
    req_fail(r, 502, "down");
    assert_true(hand.cancelled);
    assert_string_equal(seen, "ab zb zf ah ad! ");
    assert_int_equal(r->answer.status, 200);
    assert_string_equal(fake.body, "adown");
    assert_true(fake.ended && !fake.was_reset);

    /* Behind it: the end in order. */
    r = begin(2);
    filter_add(r, &filter_z);
    hand_handler.start(r);
    req_fail(r, 502, "down");
    assert_string_equal(fake.body, "z.down");
    assert_true(fake.ended && !fake.was_reset);

    /* A filter that has no better end leaves it to the judge. */
    r = begin(2);
    filter_add(r, &filter_z);
    hand_handler.start(r);
    req_fail(r, 500, "bad");
    assert_true(fake.was_reset);
    assert_string_equal(fake.reset_why, "bad");
    r = begin(2);
    filter_add(r, &filter_z);
    req_fail(r, 500, "bad");
    assert_int_equal(r->answer.status, 500);
    assert_true(strstr(fake.body, "<!doctype html") != NULL);

    /* A filter that breaks: never a clean end. */
    r = begin(2);
    filter_add(r, &filter_broken);
    hand_handler.start(r);
    assert_true(fake.was_reset && hand.cancelled);
    assert_string_equal(fake.reset_why, "broken");
}

static void test_promised_length(void **state)
{
    (void)state;
    for (uint64_t length = 1; length <= 3; length++) {
        struct req *r = begin(2);
        r->answer.length = length;
        filter_add(r, &filter_a);
        fake_run(&hand_handler);
        assert_int_equal(fake.was_reset, length != 2);
    }
}

static void test_request_body(void **state)
{
    (void)state;
    struct req *r = begin(1);
    r->body_ended = false;
    filter_add(r, &filter_z);
    filter_add(r, &filter_a);
    req_body(r, (struct slice){.p = (const uint8_t *)"xy", .n = 2});
    req_body_end(r, NULL);
    assert_string_equal(seen, "zb ab zd ad zd! ad! ");
    assert_string_equal(hand.body, "azxyaz");
    assert_true(hand.body_ended);

    r = begin(1);
    filter_add(r, &filter_broken);
    req_body(r, (struct slice){.p = (const uint8_t *)"xy", .n = 2});
    assert_int_equal(r->answer.status, 400);
    assert_true(hand.cancelled);
    assert_string_equal(hand.body, "");
}

static void test_leave(void **state)
{
    (void)state;
    struct req *r = begin(1);
    filter_add(r, &filter_a);
    filter_add(r, &filter_leaves);
    filter_add(r, &filter_z);
    fake_run(&hand_handler);
    assert_string_equal(seen, "ab zb zh lc ah zd! ad! ");
    assert_string_equal(fake.body, "az.");
    fake_end();
    assert_int_equal(closed, 3);
}

static int group_setup(void **state)
{
    (void)state;
    loop_init();
    fake.route.path = STR("/");
    fake.route.prefix = true;
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    fake_end();
    loop_fini();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_end_without_body),
        cmocka_unit_test(test_trailers_become_bytes),
        cmocka_unit_test(test_nothing_of_a_send),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_promised_length),
        cmocka_unit_test(test_request_body),
        cmocka_unit_test(test_leave),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
