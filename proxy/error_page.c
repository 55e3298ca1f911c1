/*
 * error_page.c - the page and the JSON of a failed request, and the little of content negotiation
 * (RFC 9110 12.5.1) that chooses between them. The page is one self-contained text: no script, no
 * foreign resource, light or dark as the reader's system is.
 */
#include "proxy/error_page.h"

struct sentence {
    unsigned status;
    const char *text;
};

/* For people: what happened and what they can do. Programs read the status. */
static const struct sentence sentences[] = {
    {400, "The request could not be understood. Please check the address and try again."},
    {401, "You need to log in to see this page."},
    {403, "You may not see this page."},
    {404, "There is nothing at this address. It may have moved, or the link may be mistyped."},
    {405, "This address does not take requests of this kind."},
    {408, "The request took too long to arrive. Please try again."},
    {412, "The page has changed since it was last read. Please load it again."},
    {413, "What was sent is larger than this server accepts."},
    {414, "The address is longer than this server accepts."},
    {416, "The part that was asked for lies outside the file."},
    {421, "This connection does not serve that host. Please load the page again."},
    {429, "Too many requests came in a short time. Please wait a moment and try again."},
    {431, "The request's header is larger than this server accepts. Clearing cookies may help."},
    {500, "Something went wrong on our side. Please try again in a moment."},
    {501, "This server does not know how to do that."},
    {502, "The service behind this page gave no valid answer. Please try again in a moment."},
    {503, "The service is not ready just now. Please try again in a moment."},
    {504, "The service behind this page took too long to answer. Please try again in a moment."},
    {505, "This server does not speak that version of HTTP."},
};

static struct str sentence_of(unsigned status)
{
    for (size_t i = 0; i < ARRAY_LEN(sentences); i++)
        if (sentences[i].status == status)
            return str_of(sentences[i].text);
    return status >= 500 ? STR("Something went wrong on our side. Please try again in a moment.")
                         : STR("The request could not be answered.");
}

static struct str reason_of(unsigned status)
{
    struct str reason = http_reason(status);
    if (reason.n)
        return reason;
    return status >= 500 ? STR("Server Error") : STR("Request Failed");
}

/* How well a range of Accept fits a type: weight in thousandths, and how exactly it names it. */
struct fit {
    unsigned q;
    unsigned specific; /* 0: not at all, 1: any, 2: the main type, 3: a +json type, 4: itself */
    unsigned place;    /* where in the list, from 1: the first of equals wins */
};

static void fit_better(struct fit *f, unsigned specific, unsigned q, unsigned place)
{
    if (specific > f->specific || (specific == f->specific && q > f->q))
        *f = (struct fit){.q = q, .specific = specific, .place = place};
}

static void consider(struct str range, unsigned q, unsigned place, struct fit *html,
                     struct fit *json)
{
    if (str_eq(range, STR("*/*"))) {
        fit_better(html, 1, q, place);
        fit_better(json, 1, q, place);
    } else if (str_ieq(range, STR("text/*"))) {
        fit_better(html, 2, q, place);
    } else if (str_ieq(range, STR("application/*"))) {
        fit_better(json, 2, q, place);
    } else if (str_ieq(range, STR("text/html")) || str_ieq(range, STR("application/xhtml+xml"))) {
        fit_better(html, 4, q, place);
    } else if (str_ieq(range, STR("application/json"))) {
        fit_better(json, 4, q, place);
    } else if (str_iends(range, STR("+json"))) {
        fit_better(json, 3, q, place);
    }
}

bool error_page_prefers_json(struct str accept)
{
    struct fit html = {0};
    struct fit json = {0};
    struct str item;
    unsigned place = 0;
    while (str_split(&accept, ',', &item)) {
        struct str piece;
        struct str range = STR_NULL;
        unsigned q = 1000;
        place++;
        for (bool first = true; str_split(&item, ';', &piece); first = false) {
            piece = str_trim(piece);
            if (first)
                range = piece;
            else if (str_istarts(piece, STR("q=")))
                q = http_qvalue(str_sub(piece, 2, piece.n));
        }
        consider(range, q, place, &html, &json);
    }
    if (json.q != html.q)
        return json.q > html.q;
    if (json.q == 0)
        return false;
    /* "application/json, ..., a wildcard" wants JSON, though the wildcard gives HTML the same
     * weight. */
    if ((json.specific >= 3) != (html.specific >= 3))
        return json.specific > html.specific;
    return json.specific >= 3 && json.place < html.place;
}

static void put_json(struct out *o, unsigned status, struct str request_id)
{
    out_lit(o, "{\"status\":");
    out_u64(o, status);
    out_lit(o, ",\"error\":");
    out_json(o, reason_of(status));
    out_lit(o, ",\"request_id\":");
    out_json(o, request_id);
    out_lit(o, "}\n");
}

static const char style[] =
    "<style>:root{color-scheme:light dark}"
    "body{margin:0;min-height:100vh;display:grid;place-items:center;background:#f6f7f8;color:#"
    "1c2430;"
    "font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif}"
    "main{max-width:32rem;padding:2rem}"
    "p.s{margin:0;font-size:3.5rem;font-weight:700;line-height:1;color:#2f6f9f}"
    "h1{margin:.5rem 0 1rem;font-size:1.4rem}"
    "small{color:#5b6675;overflow-wrap:anywhere}code{font:.9em ui-monospace,monospace}"
    "@media(prefers-color-scheme:dark){body{background:#14181d;color:#e6e9ed}p.s{color:#7db7e0}"
    "small{color:#98a3b0}}</style>";

static void put_html(struct out *o, unsigned status, struct str request_id, struct str host)
{
    struct str reason = reason_of(status);
    out_lit(o, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
               "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
               "<meta name=\"robots\" content=\"noindex\"><title>");
    out_u64(o, status);
    out_char(o, ' ');
    out_html(o, reason);
    out_lit(o, "</title>");
    out_lit(o, style);
    out_lit(o, "</head>\n<body><main><p class=\"s\">");
    out_u64(o, status);
    out_lit(o, "</p><h1>");
    out_html(o, reason);
    out_lit(o, "</h1><p>");
    out_html(o, sentence_of(status));
    out_lit(o, "</p><p><small>");
    if (host.n) {
        out_html(o, host);
        out_lit(o, " &middot; ");
    }
    out_lit(o, "Request <code>");
    out_html(o, request_id);
    out_lit(o, "</code></small></p></main></body></html>\n");
}

/* A host in a page that it may not even be valid for: the longest name that there is, no more. */
#define HOST_MAX 255
#define ID_MAX   64
#define PAGE_MAX (3072 + 6 * (HOST_MAX + ID_MAX)) /* each byte may become an entity of six */

static void put_fields(struct arena *a, struct str type, struct fields *f)
{
    fields_add_token(a, f, FIELD_content_type, type);
    fields_add_token(a, f, FIELD_cache_control, STR("no-store"));
    fields_add(a, f, STR("x-content-type-options"), STR("nosniff"));
}

void error_page_make(struct arena *a, unsigned status, struct str accept, struct str request_id,
                     struct str host, struct fields *out_fields, struct str *out_body)
{
    const bool json = error_page_prefers_json(accept);
    const size_t cap = json ? 256 + 6 * ID_MAX : PAGE_MAX;
    struct out o = out_on(arena_alloc(a, cap), cap);
    request_id = str_sub(request_id, 0, ID_MAX);
    if (json)
        put_json(&o, status, request_id);
    else
        put_html(&o, status, request_id, str_sub(host, 0, HOST_MAX));
    ASSERT(!o.over);
    *out_body = out_done(&o);
    put_fields(a, json ? STR("application/json") : STR("text/html; charset=utf-8"), out_fields);
}

/* The page of exactly this status, else the one of its class; NULL: none. */
static const struct conf_error_page *configured(const struct conf_site *site, unsigned status)
{
    const struct conf_error_page *found = NULL;
    for (unsigned i = 0; site && i < site->n_error_pages; i++) {
        const struct conf_error_page *p = &site->error_pages[i];
        if (status >= p->from && status <= p->to && (!found || p->from == p->to))
            found = p;
    }
    return found;
}

bool error_page_of_site(struct arena *a, const struct conf_site *site, unsigned status,
                        struct str accept, struct fields *out_fields, struct str *out_body)
{
    const struct conf_error_page *page = configured(site, status);
    if (!page || (page->html && error_page_prefers_json(accept)))
        return false;
    *out_body = page->body;
    put_fields(a, page->type, out_fields);
    return true;
}
