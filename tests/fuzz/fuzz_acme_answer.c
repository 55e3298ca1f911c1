/*
 * fuzz_acme_answer.c - an answer of a CA: its status, fields and body, as bytes. Whatever it says:
 * no URL of another origin gets through, text for people is harmless, times are near.
 */
#include "acme/ca_parts.h"
#include "acme/jose.h"
#include "base/fetch.h"
#include "base/utf8.h"

static void check_text(const char *text)
{
    struct str s = str_of(text);
    while (s.n) {
        size_t len = utf8_len(s.p, s.n);
        ASSERT(len && (unsigned char)s.p[0] >= 0x20 && s.p[0] != 0x7f);
        s = str_sub(s, len, s.n);
    }
}

/* The first line: a status; then fields, to an empty line; then the body. */
static void answer_of(struct str text, struct fetch_answer *f)
{
    struct str line, rest = text;
    uint64_t status;
    if (str_split(&rest, '\n', &line) && str_u64(line, &status))
        f->status = (unsigned)(status % 1000);
    while (str_split(&rest, '\n', &line) && line.n) {
        size_t colon = str_chr(line, ':');
        if (f->n_headers < FETCH_HEADERS_MAX)
            f->headers[f->n_headers++] = (struct fetch_header){
                str_sub(line, 0, colon), str_trim(str_sub(line, colon + 1, line.n))};
    }
    f->body = rest;
}

static void check(const struct ca *ca, const struct ca_answer *a, const struct acme_fail *fail)
{
    int64_t now = wall_s();
    bool good = fail->kind == ACME_FINE;
    check_text(fail->text);
    check_text(fail->type);
    ASSERT(good || fail->text[0]);
    ASSERT(!good || !a->location.n || ca_url_fine(ca, a->location));
    for (unsigned i = 0; i < a->n_alternates; i++)
        ASSERT(str_istarts(a->alternates[i], STR("https://ca.test")) &&
               ca_url_fine(ca, a->alternates[i]));
    ASSERT(!a->json || json_is_object(a->json));
    ASSERT(!a->retry_at || (a->retry_at >= now && a->retry_at <= now + 8 * 86400));
    ASSERT(!fail->retry_at || (fail->retry_at >= now && fail->retry_at <= now + 8 * 86400));
}

/* Whatever is base64url is so in one way only. */
static void base64url(struct arena *a, struct str text)
{
    struct str bytes;
    if (jose_unb64(a, text, &bytes))
        ASSERT(str_eq(jose_b64(a, bytes), text));
    ASSERT(jose_unb64(a, jose_b64(a, text), &bytes) && str_eq(bytes, text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ca ca = {.spec.directory = STR("https://ca.test/dir")};
    struct arena *arena = arena_new(4096);
    /* Behind a NUL none is: jansson and we read what is there, not more. */
    struct str text = arena_str(arena, (struct str){(const char *)data, size});
    struct fetch_answer f = {0};
    struct ca_answer a;
    struct acme_fail fail;
    answer_of(text, &f);
    ca_read(&ca, "step", &f, &a, &fail);
    check(&ca, &a, &fail);
    json_decref(a.json);
    base64url(arena, f.body);
    arena_free(&arena);
    return 0;
}
