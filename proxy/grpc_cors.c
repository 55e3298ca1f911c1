/*
 * grpc_cors.c - CORS (Fetch standard, 3.2) for gRPC-Web: preflights are answered here, answers tell
 * browsers what a page of another origin may read. Which origins is the site's grpc.cors.
 */
#include "proxy/grpc_call.h"
#include "proxy/grpc_web.h"

#define MAX_AGE "7200" /* seconds: as long as any browser keeps it */

/* The request's Origin when the site lets it call, else nothing. */
static struct str allowed_origin(const struct req *r)
{
    const struct field *origin = fields_get(&r->fields, FIELD_origin);
    if (!origin || !r->site)
        return STR_NULL;
    const struct conf_grpc *g = &r->site->grpc;
    for (unsigned i = 0; i < g->n_cors; i++)
        if (str_ieq(g->cors[i], origin->value))
            return origin->value;
    return g->cors_any ? STR("*") : STR_NULL;
}

static void add(struct req *r, const char *name, struct str value)
{
    fields_add(r->arena, &r->answer.fields, str_of(name), value);
}

/* "*" never goes with credentials: only an origin that is named may use the user's cookies. */
static void add_origin(struct req *r, struct str origin)
{
    add(r, "access-control-allow-origin", origin);
    if (!str_eq(origin, STR("*")))
        add(r, "access-control-allow-credentials", STR("true"));
    fields_add_token(r->arena, &r->answer.fields, FIELD_vary, STR("origin"));
}

/* "/package.Service/Method" */
static bool is_method_path(struct str path)
{
    struct str rest = str_sub(path, 1, path.n);
    size_t slash = str_chr(rest, '/');
    struct str method = str_sub(rest, slash + 1, rest.n);
    return slash && slash < rest.n && method.n && str_chr(method, '/') == method.n;
}

static struct str field_value(const struct req *r, struct str name)
{
    for (unsigned i = 0; i < r->fields.n; i++)
        if (str_eq(r->fields.v[i].name, name))
            return r->fields.v[i].value;
    return STR_NULL;
}

bool step_preflight(struct req *r)
{
    if (r->method != METHOD_OPTIONS || !r->site->grpc.web || !r->site->grpc.n_cors ||
        !is_method_path(r->path))
        return true;
    struct str method = field_value(r, STR("access-control-request-method")),
               names = field_value(r, STR("access-control-request-headers"));
    if (!str_eq(method, STR("POST")) ||
        !(http_list_has(names, STR("x-grpc-web")) || http_list_has(names, STR("content-type"))))
        return true;
    struct str origin = allowed_origin(r);
    if (!origin.n) {
        req_fail(r, 403, "the origin is not among grpc.cors");
        return false;
    }
    add_origin(r, origin);
    add(r, "access-control-allow-methods", STR("POST"));
    add(r, "access-control-allow-headers", names); /* metadata may have any name */
    add(r, "access-control-max-age", STR(MAX_AGE));
    r->answer.status = 204;
    req_answer(r, true);
    return false;
}

/* Every field of the answer that scripts could not read otherwise, and those of the protocol. */
static struct str exposed(const struct req *r)
{
    static const struct str always = {"grpc-status, grpc-message, grpc-status-details-bin", 50};
    size_t cap = always.n;
    for (unsigned i = 0; i < r->answer.fields.n; i++)
        cap += r->answer.fields.v[i].name.n + 2;
    struct out o = out_on(arena_alloc(r->arena, cap), cap);
    out_str(&o, always);
    for (unsigned i = 0; i < r->answer.fields.n; i++) {
        const struct field *f = &r->answer.fields.v[i];
        if (f->token != FIELD_OTHER || str_starts(f->name, STR("access-control-")) ||
            http_list_has(always, f->name))
            continue;
        out_lit(&o, ", ");
        out_str(&o, f->name);
    }
    ASSERT(!o.over);
    return out_done(&o);
}

void grpc_cors_answer(struct req *r)
{
    struct str origin = allowed_origin(r);
    if (!origin.n)
        return;
    struct str names = exposed(r);
    add_origin(r, origin);
    add(r, "access-control-expose-headers", names);
}
