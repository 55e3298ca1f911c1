/*
 * fuzz_order.c - any JSON as an order or an authorization: what is taken is a CA's own URLs, tokens
 * that are ones, and the host that was asked for.
 */
#include <jansson.h>

#include "acme/order_read.h"
#include "base/json.h"

#define HOST STR("www.a.test")

static struct ca *ca_of_test(void)
{
    static struct ca *ca;
    if (!ca)
        ca = ca_open(&(struct ca_spec){
            .name = STR("test"), .directory = STR("https://ca.test/directory"), .state = "."});
    return ca;
}

static void check_order(struct arena *a, const json_t *j)
{
    struct order_view v;
    struct ca *ca = ca_of_test();
    if (order_read(a, ca, j, HOST, &v))
        return;
    ASSERT(v.status <= ACME_STATUS_INVALID);
    ASSERT(json_array_size(json_object_get(j, "identifiers")) == 1);
    ASSERT((v.n_authorizations > 0) == (v.status == ACME_STATUS_PENDING));
    for (unsigned i = 0; i < v.n_authorizations; i++)
        ASSERT(ca_url_fine(ca, v.authorizations[i]));
    ASSERT(v.status != ACME_STATUS_VALID || ca_url_fine(ca, v.certificate));
    ASSERT(v.status > ACME_STATUS_READY || ca_url_fine(ca, v.finalize));
}

static void check_authorization(struct arena *a, const json_t *j)
{
    struct authz_view v;
    struct ca *ca = ca_of_test();
    if (authz_read(a, ca, j, HOST, &v))
        return;
    ASSERT(v.status <= ACME_STATUS_INVALID);
    for (unsigned i = 0; i < CONF_CHALLENGES; i++)
        ASSERT(!v.challenges[i].offered || (ca_url_fine(ca, v.challenges[i].url) &&
                                            challenge_token_fine(v.challenges[i].token)));
    ASSERT(!v.error || json_is_object(v.error));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *why;
    json_t *j = json_read_object((struct str){(const char *)data, n}, 16, &why);
    struct arena *a = arena_new(4096);
    check_order(a, j);
    check_authorization(a, j);
    arena_free(&a);
    json_decref(j);
    return 0;
}
