/*
 * ca_read.c - what a CA's answer says: taken apart within bounds, and refused when it is none.
 * Sends nothing and changes nothing.
 */
#include "acme/ca_parts.h"
#include "base/fetch.h"
#include "base/json.h"

#define JSON_DEPTH 16

static bool is_json(struct str type)
{
    struct str media = str_trim(str_sub(type, 0, str_chr(type, ';')));
    return str_ieq(media, STR("application/json")) ||
           str_ieq(media, STR("application/problem+json"));
}

static void broken(struct acme_fail *fail, const char *step, const char *what, const char *why)
{
    acme_fail_set(fail, ACME_BROKEN, step, "the CA's answer is not usable: %s%s%s", what,
                  why ? ": " : "", why ? why : "");
}

static void read_alternate(const struct ca *ca, struct str link, struct ca_answer *a)
{
    struct str piece, rest = link;
    (void)str_split(&rest, ';', &piece);
    piece = str_trim(piece);
    if (piece.n < 2 || piece.p[0] != '<' || piece.p[piece.n - 1] != '>')
        return;
    struct str url = str_sub(piece, 1, piece.n - 1);
    bool alternate = false;
    while (str_split(&rest, ';', &piece)) {
        piece = str_trim(piece);
        alternate = alternate || str_ieq(piece, STR("rel=\"alternate\"")) ||
                    str_ieq(piece, STR("rel=alternate"));
    }
    if (alternate && ca_url_fine(ca, url) && a->n_alternates < ARRAY_LEN(a->alternates))
        a->alternates[a->n_alternates++] = url;
}

/* RFC 8288 3: lists with commas, in one field or many. A URL with a comma in it is not followed. */
static void read_links(const struct ca *ca, const struct fetch_answer *f, struct ca_answer *a)
{
    for (unsigned i = 0; i < f->n_headers; i++) {
        struct str rest = f->headers[i].value, link;
        if (str_ieq(f->headers[i].name, STR("Link")))
            while (str_split(&rest, ',', &link))
                read_alternate(ca, link, a);
    }
}

static void read_success(const struct ca *ca, const char *step, const struct fetch_answer *f,
                         struct ca_answer *a, struct acme_fail *fail)
{
    const char *why = NULL;
    a->body = f->body;
    a->location = fetch_header(f, "Location");
    a->retry_at = acme_retry_after(fetch_header(f, "Retry-After"), wall_s());
    read_links(ca, f, a);
    if (f->body.n && is_json(fetch_header(f, "Content-Type"))) {
        a->json = json_read_object(f->body, JSON_DEPTH, &why);
        if (!a->json)
            broken(fail, step, "its JSON is none", why);
    }
    if (a->location.n && !ca_url_fine(ca, a->location))
        broken(fail, step, "it sends us to a URL that is not its own", NULL);
}

static void read_problem(const char *step, const struct fetch_answer *f, struct acme_fail *fail)
{
    const char *why;
    json_t *problem = is_json(fetch_header(f, "Content-Type"))
                          ? json_read_object(f->body, JSON_DEPTH, &why)
                          : NULL;
    acme_fail_problem(fail, step, f->status, problem);
    json_decref(problem);
    fail->retry_at = acme_retry_after(fetch_header(f, "Retry-After"), wall_s());
}

void ca_read(const struct ca *ca, const char *step, const struct fetch_answer *f,
             struct ca_answer *a, struct acme_fail *fail)
{
    *a = (struct ca_answer){.status = f->status};
    *fail = (struct acme_fail){.kind = ACME_FINE};
    if (f->err)
        acme_fail_set(fail, f->too_large ? ACME_BROKEN : ACME_NETWORK, step, "%s", f->err);
    else if (f->status >= 200 && f->status < 300)
        read_success(ca, step, f, a, fail);
    else if (f->status >= 400)
        read_problem(step, f, fail);
    else
        broken(fail, step, "it redirects, which ACME does not know", NULL);
    fail->status = f->status;
}
