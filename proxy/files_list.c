/*
 * files_list.c - see files_list.h.
 */
#include "proxy/files_list.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- reading ---- */

/* What a request for it would get; false: nothing. Links are followed below the root only. */
static bool look(int root_fd, struct arena *a, struct str folder, const char *name,
                 struct files_list_entry *e)
{
    struct stat st;
    struct str path = arena_fmt(a, STR_FMT "%s%s", STR_ARG(folder),
                                folder.n && folder.p[folder.n - 1] != '/' ? "/" : "", name);
    int fd = files_open_beneath(root_fd, path.p, O_PATH);
    if (fd < 0)
        return false;
    bool ok = fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
    close(fd);
    if (!ok)
        return false;
    e->name = arena_str(a, str_of(name));
    e->folder = S_ISDIR(st.st_mode);
    e->size = e->folder ? 0 : (uint64_t)st.st_size;
    e->mtime = st.st_mtim.tv_sec;
    return true;
}

static int by_name(const void *x, const void *y)
{
    const struct files_list_entry *a = x, *b = y;
    if (a->folder != b->folder)
        return a->folder ? -1 : 1;
    return strcmp(a->name.p, b->name.p);
}

enum files_found files_list_read(struct arena *a, int root_fd, struct str name, bool dotfiles,
                                 struct files_list *out)
{
    struct dirent *d;
    int fd = files_open_beneath(root_fd, name.n ? name.p : ".", O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return files_found_of_errno(errno);
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return FILES_BUSY;
    }
    *out = (struct files_list){.v = arena_zarray(a, struct files_list_entry, FILES_LIST_MAX)};
    while ((d = readdir(dir))) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
            (d->d_name[0] == '.' && !dotfiles))
            continue;
        if (out->n == FILES_LIST_MAX) {
            out->more = true;
            break;
        }
        out->n += look(root_fd, a, name, d->d_name, &out->v[out->n]);
    }
    closedir(dir);
    if (out->n)
        qsort(out->v, out->n, sizeof(*out->v), by_name);
    return FILES_FOUND;
}

/* ---- as a page ---- */

/* Room for all names, each byte of which may become six in the text and three in the link. */
static struct out out_for(struct arena *a, const struct files_list *l, size_t more)
{
    size_t cap = 2048 + more;
    for (unsigned i = 0; i < l->n; i++)
        cap += 9 * l->v[i].name.n + 200;
    return out_on(arena_alloc(a, cap), cap);
}

/* A path segment (RFC 3986 3.3): what is not unreserved is encoded, so that nothing needs quotes.
 */
static void put_segment(struct out *o, struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        char low = ascii_lower((char)c);
        if ((low >= 'a' && low <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
            c == '_' || c == '~') {
            out_char(o, (char)c);
        } else {
            out_char(o, '%');
            out_hex(o, c, 2);
        }
    }
}

/* "2026-11-25 01:28", UTC */
static void put_time(struct out *o, int64_t s)
{
    struct tm tm;
    time_t t = (time_t)MIN(MAX(s, 0), (int64_t)253402300799);
    char text[32];
    ASSERT(gmtime_r(&t, &tm));
    out_bytes(o, text, strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &tm));
}

static void put_size(struct out *o, uint64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    uint64_t tenths = n * 10;
    unsigned u = 0;
    if (n > UINT64_MAX / 16)
        tenths = UINT64_MAX;
    for (; tenths >= 10240 && u + 1 < ARRAY_LEN(units); u++)
        tenths /= 1024;
    out_u64(o, tenths / 10);
    if (u && tenths < 100) {
        out_char(o, '.');
        out_u64(o, tenths % 10);
    }
    out_char(o, ' ');
    out_str(o, str_of(units[u]));
}

static void put_row(struct out *o, const struct files_list_entry *e)
{
    const struct str slash = e->folder ? STR("/") : STR("");
    /* "./": a name with a colon in front would be read as a scheme (RFC 3986 4.2). */
    out_lit(o, "<tr><td><a href=\"./");
    put_segment(o, e->name);
    out_str(o, slash);
    out_lit(o, "\">");
    out_html(o, e->name);
    out_str(o, slash);
    out_lit(o, "</a></td><td>");
    if (!e->folder)
        put_size(o, e->size);
    out_lit(o, "</td><td>");
    put_time(o, e->mtime);
    out_lit(o, "</td></tr>\n");
}

struct str files_list_html(struct arena *a, const struct files_list *l, struct str path, bool up)
{
    struct out o = out_for(a, l, 12 * path.n);
    out_lit(&o, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
    out_html(&o, path);
    out_lit(&o, "</title><style>:root{color-scheme:light dark}"
                "body{margin:2rem auto;max-width:60rem;padding:0 1rem;"
                "font:16px/1.5 system-ui,sans-serif}"
                "table{border-collapse:collapse;width:100%}td{padding:.1rem .5rem}"
                "td:first-child{overflow-wrap:anywhere}"
                "td+td{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
                "h1{font-size:1.3rem;overflow-wrap:anywhere}a{text-decoration:none}"
                "</style></head>\n<body><h1>");
    out_html(&o, path);
    out_lit(&o, "</h1><table>\n");
    if (up)
        out_lit(&o, "<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n");
    for (unsigned i = 0; i < l->n; i++)
        put_row(&o, &l->v[i]);
    out_lit(&o, "</table>");
    if (l->more)
        out_lit(&o, "<p>There are more entries than are shown here.</p>");
    out_lit(&o, "</body></html>\n");
    ASSERT(!o.over);
    return out_done(&o);
}

struct str files_list_json(struct arena *a, const struct files_list *l)
{
    struct out o = out_for(a, l, 0);
    out_lit(&o, "{\"entries\":[");
    for (unsigned i = 0; i < l->n; i++) {
        const struct files_list_entry *e = &l->v[i];
        char date[HTTP_DATE_MAX];
        out_str(&o, i ? STR(",\n{\"name\":") : STR("\n{\"name\":"));
        out_json(&o, e->name);
        out_str(&o,
                e->folder ? STR(",\"type\":\"directory\"") : STR(",\"type\":\"file\",\"size\":"));
        if (!e->folder)
            out_u64(&o, e->size);
        out_lit(&o, ",\"mtime\":");
        out_json(&o, http_date_format(date, e->mtime));
        out_char(&o, '}');
    }
    out_lit(&o, "\n],\"truncated\":");
    out_str(&o, l->more ? STR("true}\n") : STR("false}\n"));
    ASSERT(!o.over);
    return out_done(&o);
}
