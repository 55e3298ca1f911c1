/*
 * files.c - the `files` handler: from a request to a file's bytes. Which name is meant and what is
 * answered stands here; opening and keeping files is files_cache.c's, conditions and ranges are
 * files_cond.c's.
 */
#include "base/base.h"

#include <unistd.h>

#include "base/loop.h"
#include "proxy/error_page.h"
#include "proxy/files_list.h"
#include "proxy/redirect.h"
#include "proxy/req.h"
#include "proxy/uri.h"

struct files {
    struct files_entry *entry; /* counted; NULL once nothing more is to be sent */
    uint64_t at, end;          /* bytes of it */
};

static const char err_missing[] = "no such file";

static void files_release(struct req *r)
{
    struct files *f = r->handler_state;
    if (f)
        files_entry_unref(&f->entry);
}

/*
 * Dot files are not served unless the site says so: they are there for programs on the box. Only
 * /.well-known/ at the site's root is for everyone (RFC 8615).
 */
static bool has_dot_file(const struct req *r, struct str name)
{
    if (r->site->dotfiles)
        return false;
    if (str_eq(r->route->path, STR("/")) && str_starts(name, STR(".well-known/")))
        name = str_sub(name, 12, name.n);
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] == '.' && (i == 0 || name.p[i - 1] == '/'))
            return true;
    return false;
}

/* "a//b" names the same file as "a/b": one name for one file. In place. */
static struct str collapse_slashes(struct arena *a, struct str s)
{
    char *to = arena_alloc(a, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '/' || n == 0 || to[n - 1] != '/')
            to[n++] = s.p[i];
    to[n] = '\0';
    return (struct str){to, n};
}

/* The file below the root that the path means, NUL-terminated; false: none can be meant. */
static bool file_name(const struct req *r, struct str *name, bool *folder)
{
    struct str rest = r->rest;
    if (!r->route->prefix) { /* an exact route serves the file of its own name */
        const char *slash = memrchr(r->path.p, '/', r->path.n);
        rest = str_sub(r->path, slash ? (size_t)(slash - r->path.p) + 1 : 0, r->path.n);
    }
    if (!uri_file_path(r->arena, rest, name))
        return false;
    if (memmem(name->p, name->n, "//", 2))
        *name = collapse_slashes(r->arena, *name);
    *folder = name->n == 0 || name->p[name->n - 1] == '/';
    return !has_dot_file(r, *name);
}

static struct str index_name(const struct req *r, struct str folder)
{
    return arena_fmt(r->arena, STR_FMT STR_FMT, STR_ARG(folder), STR_ARG(r->route->index));
}

static void fail_found(struct req *r, enum files_found found)
{
    switch (found) {
    case FILES_DENIED:
        req_fail(r, 403, "permission denied: the worker's user cannot read the file");
        return;
    case FILES_BUSY:
        req_fail(r, 503, "no descriptor or memory left to open the file");
        return;
    case FILES_BROKEN:
        req_fail(r, 500, "the file could not be read");
        return;
    case FILES_FOUND:
    case FILES_FOLDER:
    case FILES_MISSING:
        break;
    }
    req_fail(r, 404, err_missing);
}

static void add_validators(struct req *r, const struct files_entry *e)
{
    struct fields *f = &r->answer.fields;
    /* Copies: the entry may be gone before the head is on the wire. */
    fields_add_token(r->arena, f, FIELD_etag, arena_str(r->arena, e->etag));
    fields_add_token(r->arena, f, FIELD_last_modified, arena_str(r->arena, e->last_modified));
}

/* The next piece, as much as the client takes now; from a descriptor at most 64 KiB of it. */
static void send_piece(struct req *r)
{
    struct files *f = r->handler_state;
    struct files_entry *e = f->entry;
    struct slice piece;
    struct slab *own = NULL;
    const size_t room = req_room(r, true);
    const size_t some = (size_t)MIN((uint64_t)MIN(room, SLAB_LARGE), f->end - f->at);
    if (!some)
        return; /* proceed comes again */
    if (e->content) {
        piece = (struct slice){e->content, e->content->data + f->at, some};
    } else {
        own = slab_new(some <= SLAB_SMALL ? SLAB_SMALL : SLAB_LARGE);
        ssize_t n;
        do {
            n = pread(e->fd, own->data, some, (off_t)f->at);
        } while (n < 0 && errno == EINTR);
        if (n <= 0) {
            /* Content-Length is promised already: the client must see that bytes are missing. */
            slab_unref(own);
            req_fail(r, 500, n ? "the file could not be read" : "the file was truncated meanwhile");
            return;
        }
        own->used = (uint32_t)n;
        piece = (struct slice){own, own->data, (size_t)n};
    }
    f->at += piece.n;
    struct slab *hold = own ? own : slab_ref(e->content);
    const bool end = f->at == f->end;
    if (end)
        files_entry_unref(&f->entry);
    req_send(r, &piece, 1, end);
    slab_unref(hold);
}

static void files_proceed(struct req *r)
{
    const struct files *f = r->handler_state;
    if (f && f->entry && !req_over(r))
        send_piece(r);
}

/* 200 or 206: the head, and right behind it what is at hand of the body. */
static void answer_bytes(struct req *r, const struct files_range *range, bool part)
{
    struct files *f = r->handler_state;
    const struct files_entry *e = f->entry;
    struct fields *out = &r->answer.fields;
    r->answer.status = part ? 206 : 200;
    r->answer.length = range->n;
    fields_add_token(r->arena, out, FIELD_content_type, e->type);
    add_validators(r, e);
    fields_add_token(r->arena, out, FIELD_accept_ranges, STR("bytes"));
    fields_add(r->arena, out, STR("x-content-type-options"), STR("nosniff"));
    if (part)
        fields_add_token(r->arena, out, FIELD_content_range,
                         arena_fmt(r->arena, "bytes %llu-%llu/%llu",
                                   (unsigned long long)range->from,
                                   (unsigned long long)(range->from + range->n - 1),
                                   (unsigned long long)e->size));
    f->at = range->from;
    f->end = range->from + range->n;
    if (r->method == METHOD_HEAD || range->n == 0) {
        files_release(r);
        req_answer(r, true);
        return;
    }
    if (!part && e->content)
        r->answer.file = f->entry;
    req_answer(r, false);
    if (!r->send_pending)
        files_proceed(r);
}

static void answer_entry(struct req *r)
{
    struct files *f = r->handler_state;
    const struct files_entry *e = f->entry;
    const struct files_validators v = {.etag = e->etag, .mtime = e->mtime, .size = e->size};
    struct files_range range;
    const enum files_verdict verdict =
        files_judge(&r->fields, r->method, &v, loop_wall_s(), &range);
    switch (verdict) {
    case FILES_WHOLE:
    case FILES_PART:
        answer_bytes(r, &range, verdict == FILES_PART);
        return;
    case FILES_NOT_MODIFIED:
        add_validators(r, e);
        files_release(r);
        r->answer.status = 304;
        r->answer.length = REQ_LENGTH_UNKNOWN;
        req_answer(r, true);
        return;
    case FILES_PRECONDITION:
        files_release(r);
        req_fail(r, 412, "the file is not the one that the request was made for");
        return;
    case FILES_UNSATISFIABLE:
        fields_add_token(r->arena, &r->answer.fields, FIELD_content_range,
                         arena_fmt(r->arena, "bytes */%llu", (unsigned long long)e->size));
        files_release(r);
        r->error = "the range lies outside the file";
        r->answer.status = 416;
        r->answer.length = 0; /* whoever asks for ranges is a program: the field tells it all */
        req_answer(r, true);
        return;
    }
}

/* ---- which file ---- */

static enum files_found open_entry(struct req *r, struct str name)
{
    struct files *f = r->handler_state;
    return files_cache_open(r->snap->root_fds[r->route->root], r->snap->conf->generation,
                            r->route->root, name, &f->entry);
}

static enum files_found answer_listing(struct req *r, struct str folder)
{
    const struct field *accept = fields_get(&r->fields, FIELD_accept);
    const bool json = accept && error_page_prefers_json(accept->value);
    struct fields *f = &r->answer.fields;
    struct files_list l;
    enum files_found found =
        files_list_read(r->arena, r->snap->root_fds[r->route->root], folder, r->site->dotfiles, &l);
    if (found != FILES_FOUND)
        return found;
    fields_add_token(r->arena, f, FIELD_vary, STR("accept"));
    fields_add_token(r->arena, f, FIELD_cache_control, STR("no-cache"));
    fields_add(r->arena, f, STR("x-content-type-options"), STR("nosniff"));
    if (json) {
        req_answer_text(r, 200, STR("application/json"), files_list_json(r->arena, &l));
        return found;
    }
    struct str shown =
        arena_fmt(r->arena, STR_FMT STR_FMT, STR_ARG(r->route->path), STR_ARG(folder));
    req_answer_text(r, 200, STR("text/html; charset=utf-8"),
                    files_list_html(r->arena, &l, shown, folder.n > 0));
    return found;
}

/* A folder means its index, else its listing where the route has one. True: answered. */
static bool answer_folder(struct req *r, struct str name, enum files_found *found)
{
    *found = r->route->index.n ? open_entry(r, index_name(r, name)) : FILES_MISSING;
    if (*found == FILES_FOUND) {
        answer_entry(r);
        return true;
    }
    if (!r->route->listing || (*found != FILES_MISSING && *found != FILES_FOLDER))
        return false;
    *found = answer_listing(r, name);
    return *found == FILES_FOUND;
}

static bool answer_file(struct req *r, struct str name, enum files_found *found)
{
    *found = open_entry(r, name);
    if (*found == FILES_FOUND)
        answer_entry(r);
    else if (*found == FILES_FOLDER && r->route->prefix)
        redirect_answer(r, 308, redirect_add_slash(r));
    else
        return false;
    return true;
}

static void files_start(struct req *r)
{
    const struct str fallback = r->route->fallback;
    struct str name;
    bool folder;
    enum files_found found;
    if (r->method != METHOD_GET && r->method != METHOD_HEAD) {
        fields_add(r->arena, &r->answer.fields, STR("allow"), STR("GET, HEAD"));
        req_fail(r, 405, "files take GET and HEAD only");
        return;
    }
    r->handler_state = arena_znew(r->arena, struct files);
    if (!file_name(r, &name, &folder)) {
        req_fail(r, 404, err_missing);
        return;
    }
    if (folder ? answer_folder(r, name, &found) : answer_file(r, name, &found))
        return;
    if (fallback.n && (found == FILES_MISSING || found == FILES_FOLDER))
        found = open_entry(r, fallback);
    if (found == FILES_FOUND)
        answer_entry(r);
    else
        fail_found(r, found);
}

/* The request's body is of no interest. */
const struct handler files_handler = {
    .name = "files",
    .start = files_start,
    .proceed = files_proceed,
    .cancel = files_release,
};
