/*
 * host_record.c - the record of a host as JSON, read back with suspicion: what is missing, of
 * another type or too long is as if it had never been written.
 */
#include "acme/host_record.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <unistd.h>

#include "acme/cert_store.h"
#include "base/file.h"
#include "base/json.h"

#define RECORD_MAX (256 * 1024)
#define TIME_MAX   INT64_C(253402300799) /* the year 9999 */

void text_copy(char *to, size_t size, struct str from)
{
    size_t n = MIN(from.n, size - 1);
    while (n < from.n && n > 0 && ((uint8_t)from.p[n] & 0xc0) == 0x80)
        n--;
    if (n)
        memcpy(to, from.p, n);
    to[n] = '\0';
}

/* NULL and *err: the host is none. */
static const char *path_of(struct arena *a, const char *state, struct str host, const char **err)
{
    const char *name = cert_store_name(a, host, err);
    return name ? arena_fmt(a, "%s/acme/hosts/%s.json", state, name).p : NULL;
}

/* ---- reading ---- */

/* Counts and times, which are bounded: nobody adds to a time what does not fit. */
static int64_t number(const json_t *j, const char *name)
{
    const json_int_t n = json_integer_value(json_object_get(j, name));
    return (int64_t)MIN(MAX(n, 0), TIME_MAX);
}

static void text(const json_t *j, const char *name, char *to, size_t size)
{
    struct str s = json_str(json_object_get(j, name));
    if (s.n < size && (!s.n || !memchr(s.p, '\0', s.n)))
        text_copy(to, size, s);
}

static void read_history(const json_t *all, struct host_record *r)
{
    for (size_t i = 0; i < json_array_size(all) && r->n_history < HOST_HISTORY; i++) {
        const json_t *j = json_array_get(all, i);
        struct host_event *e = &r->history[r->n_history++];
        e->at = number(j, "at");
        e->ok = json_is_true(json_object_get(j, "ok"));
        text(j, "what", e->what, sizeof(e->what));
        text(j, "text", e->text, sizeof(e->text));
    }
}

static void from_json(const json_t *j, struct host_record *r)
{
    const json_t *error = json_object_get(j, "error"), *pending = json_object_get(j, "pending"),
                 *ari = json_object_get(j, "ari");
    r->failures = (unsigned)MIN(number(j, "failures"), 1000);
    r->next_at = number(j, "next_at");
    r->error.at = number(error, "at");
    text(error, "ca", r->error.ca, sizeof(r->error.ca));
    text(error, "text", r->error.text, sizeof(r->error.text));
    text(error, "hint", r->error.hint, sizeof(r->error.hint));
    text(pending, "ca", r->pending.ca, sizeof(r->pending.ca));
    text(pending, "url", r->pending.url, sizeof(r->pending.url));
    text(pending, "key", r->pending.key, sizeof(r->pending.key));
    r->pending.issued = json_is_true(json_object_get(pending, "issued"));
    if (!r->pending.ca[0] || !r->pending.key[0])
        r->pending.url[0] = '\0';
    text(ari, "id", r->ari.id, sizeof(r->ari.id));
    text(ari, "url", r->ari.url, sizeof(r->ari.url));
    r->ari.start = number(ari, "start");
    r->ari.end = number(ari, "end");
    r->ari.chosen = number(ari, "chosen");
    r->ari.look_again = number(ari, "look_again");
    read_history(json_object_get(j, "history"), r);
}

void host_record_read(struct arena *a, const char *state, struct str host, struct host_record *r,
                      const char **err)
{
    struct str bytes;
    const char *path = path_of(a, state, host, err);
    *r = (struct host_record){0};
    if (!path || access(path, F_OK) < 0)
        return;
    *err = file_read(a, path, RECORD_MAX, &bytes);
    if (*err)
        return;
    json_t *j = json_loadb(bytes.p, bytes.n, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(j))
        from_json(j, r);
    else
        *err = arena_fmt(a, "%s is damaged: begun anew", path).p;
    OPENSSL_cleanse((char *)(uintptr_t)bytes.p, bytes.n);
    json_decref(j);
}

/* ---- writing ---- */

static json_t *string(const char *z)
{
    return json_text(str_of(z));
}

static json_t *history_json(const struct host_record *r)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < r->n_history; i++) {
        const struct host_event *e = &r->history[i];
        json_array_append_new(all, json_pack("{s:I, s:b, s:o, s:o}", "at", (json_int_t)e->at, "ok",
                                             (int)e->ok, "what", string(e->what), "text",
                                             string(e->text)));
    }
    return all;
}

static json_t *to_json(const struct host_record *r)
{
    json_t *j = json_pack("{s:i, s:I, s:o}", "failures", (int)r->failures, "next_at",
                          (json_int_t)r->next_at, "history", history_json(r));
    if (r->error.at)
        json_object_set_new(j, "error",
                            json_pack("{s:I, s:o, s:o, s:o}", "at", (json_int_t)r->error.at, "ca",
                                      string(r->error.ca), "text", string(r->error.text), "hint",
                                      string(r->error.hint)));
    if (r->pending.url[0])
        json_object_set_new(j, "pending",
                            json_pack("{s:o, s:o, s:o, s:b}", "ca", string(r->pending.ca), "url",
                                      string(r->pending.url), "key", string(r->pending.key),
                                      "issued", (int)r->pending.issued));
    if (r->ari.id[0])
        json_object_set_new(j, "ari",
                            json_pack("{s:o, s:I, s:I, s:I, s:I, s:o}", "id", string(r->ari.id),
                                      "start", (json_int_t)r->ari.start, "end",
                                      (json_int_t)r->ari.end, "chosen", (json_int_t)r->ari.chosen,
                                      "look_again", (json_int_t)r->ari.look_again, "url",
                                      string(r->ari.url)));
    return j;
}

const char *host_record_write(struct arena *a, const char *state, struct str host,
                              const struct host_record *r)
{
    const char *err, *path = path_of(a, state, host, &err);
    if (path)
        err = file_mkdirs(a, arena_fmt(a, "%s/acme/hosts", state).p, 0700, (uid_t)-1, (gid_t)-1);
    if (err)
        return err;
    json_t *j = to_json(r);
    char *bytes = json_dumps(j, JSON_INDENT(1));
    json_decref(j);
    ASSERT(bytes);
    err = file_write_unsynced(a, path, str_of(bytes), 0600);
    OPENSSL_cleanse(bytes, strlen(bytes));
    free(bytes);
    return err;
}

void host_record_event(struct host_record *r, int64_t at, bool ok, const char *what,
                       const char *words)
{
    if (r->n_history == HOST_HISTORY) {
        memmove(r->history, r->history + 1, (HOST_HISTORY - 1) * sizeof(r->history[0]));
        r->n_history--;
    }
    struct host_event *e = &r->history[r->n_history++];
    *e = (struct host_event){.at = at, .ok = ok};
    text_copy(e->what, sizeof(e->what), str_of(what));
    text_copy(e->text, sizeof(e->text), str_of(words));
}
