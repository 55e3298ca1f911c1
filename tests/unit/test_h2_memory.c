/*
 * test_h2_memory.c - nghttp2's memory: sessions that share one frame buffer do not meet in it, and
 * what a session has is counted without it.
 */
#include "base/base.h"

#include <setjmp.h>

#include <cmocka.h>

#include "proxy/h2_memory.h"

#define LONG 30000 /* octets of a field: its head is two frames */

/* One connection: our session and the client's, whose frames go from hand to hand. */
struct pair {
    struct h2_memory memory;
    nghttp2_session *server, *client;
    char value[LONG];
    size_t got; /* octets of the field that came */
};

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct pair *p = user;
    (void)session, (void)frame, (void)flags;
    if (name_n == 1 && name[0] == 'x') {
        assert_int_equal(value_n, LONG);
        assert_memory_equal(value, p->value, LONG);
        p->got = value_n;
    }
    return 0;
}

static nghttp2_nv nv(const char *name, const char *value, size_t n)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .namelen = strlen(name),
                        .value = (uint8_t *)(uintptr_t)value,
                        .valuelen = n};
}

static void pair_open(struct pair *p, char letter)
{
    nghttp2_session_callbacks *none, *client;
    nghttp2_option *option;
    memset(p->value, letter, LONG);
    assert_int_equal(nghttp2_session_callbacks_new(&none), 0);
    assert_int_equal(nghttp2_session_callbacks_new(&client), 0);
    assert_int_equal(nghttp2_option_new(&option), 0);
    nghttp2_session_callbacks_set_on_header_callback(client, on_header);
    assert_int_equal(h2_memory_session(&p->memory, &p->server, none, p, NULL), 0);
    assert_int_equal(nghttp2_session_client_new2(&p->client, client, p, option), 0);
    nghttp2_session_callbacks_del(none);
    nghttp2_session_callbacks_del(client);
    nghttp2_option_del(option);
    assert_int_equal(nghttp2_submit_settings(p->server, 0, NULL, 0), 0);
    assert_int_equal(nghttp2_submit_settings(p->client, 0, NULL, 0), 0);
    const nghttp2_nv request[] = {nv(":method", "GET", 3), nv(":scheme", "https", 5),
                                  nv(":path", "/", 1), nv(":authority", "a", 1)};
    assert_int_equal(
        nghttp2_submit_request(p->client, NULL, request, ARRAY_LEN(request), NULL, NULL), 1);
}

/* One call of mem_send, its bytes taken at once; false: nothing is left. */
static bool move_one(nghttp2_session *from, nghttp2_session *to)
{
    const uint8_t *bytes;
    ssize_t n = nghttp2_session_mem_send(from, &bytes);
    assert_true(n >= 0);
    if (n)
        assert_int_equal(nghttp2_session_mem_recv(to, bytes, (size_t)n), n);
    return n > 0;
}

static void interleaved_sessions_keep_their_frames(void **state)
{
    static struct pair pairs[3];
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
        pair_open(&pairs[i], (char)('a' + i));
        while (move_one(pairs[i].client, pairs[i].server))
            ;
        const nghttp2_nv answer[] = {nv(":status", "200", 3), nv("x", pairs[i].value, LONG)};
        assert_int_equal(nghttp2_submit_response(pairs[i].server, 1, answer, 2, NULL), 0);
    }
    for (bool more = true; more;) {
        more = false;
        for (unsigned i = 0; i < ARRAY_LEN(pairs); i++)
            more |= move_one(pairs[i].server, pairs[i].client);
    }
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
        assert_int_equal(pairs[i].got, LONG);
        nghttp2_session_del(pairs[i].server);
        nghttp2_session_del(pairs[i].client);
        assert_int_equal(pairs[i].memory.bytes, 0);
    }
}

static void a_quiet_session_has_no_frame_buffer_of_its_own(void **state)
{
    static struct pair p;
    (void)state;
    pair_open(&p, 'a');
    assert_in_range(p.memory.bytes, 1, 12 * 1024);
    nghttp2_session_del(p.server);
    nghttp2_session_del(p.client);
    assert_int_equal(p.memory.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interleaved_sessions_keep_their_frames),
        cmocka_unit_test(a_quiet_session_has_no_frame_buffer_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
