/*
 * respond.c - the `respond` handler: a fixed text from the configuration, for any method.
 */
#include "proxy/req.h"

/* People write what they mean: JSON and HTML are told by their looks, the rest is text. */
static struct str type_of(struct str body)
{
    while (body.n && strchr(" \t\r\n", body.p[body.n - 1]) && body.p[body.n - 1])
        body.n--;
    while (body.n && strchr(" \t\r\n", body.p[0]) && body.p[0])
        body = str_sub(body, 1, body.n);
    if ((str_starts(body, STR("{")) && str_ends(body, STR("}"))) ||
        (str_starts(body, STR("[")) && str_ends(body, STR("]"))))
        return STR("application/json");
    if (str_istarts(body, STR("<!doctype html")) || str_istarts(body, STR("<html")))
        return STR("text/html; charset=utf-8");
    return STR("text/plain; charset=utf-8");
}

static void respond_start(struct req *r)
{
    const struct conf_route *route = r->route;
    req_answer_text(r, route->status ? route->status : 200, type_of(route->body), route->body);
}

/* The request's body is of no interest, and nothing is held between calls. */
const struct handler respond_handler = {
    .name = "respond",
    .start = respond_start,
};
