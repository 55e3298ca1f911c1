/*
 * fuzz_ledger.c - what the ledger makes of any file, ari_read of any JSON, ari_time of any text. A
 * ledger that was written is read as it was; the counts hold at every clock; a time that is read is
 * written back the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "acme/ari.h"
#include "acme/ledger.h"
#include "base/file.h"

#define NOW INT64_C(1764244616)
#define DAY INT64_C(86400)

static const struct str hosts[] = {{"www.example.org", 15}, {"*.example.org", 13}, {"b.co.uk", 7}};

static void look(const struct ledger *l, int64_t now)
{
    for (size_t h = 0; h < ARRAY_LEN(hosts); h++) {
        const struct ledger_verdict v = ledger_ask(l, hosts[h], false, now);
        ASSERT((v.until == 0) == (v.text[0] == '\0'));
        ASSERT(!v.until || (v.until > now && v.until <= now + 14 * DAY));
        for (unsigned k = 0; k < LEDGER_KINDS; k++) {
            const struct ledger_left left = ledger_left(l, k, hosts[h], now);
            ASSERT(left.used <= LEDGER_MAX && left.limit > 0);
            ASSERT((left.until > now) == (left.used >= left.limit));
            ASSERT(left.until <= v.until);
        }
    }
}

static char dir[] = "/dev/shm/headgate-fuzz-XXXXXX", path[64];

static void remove_dir(void)
{
    rmdir(dir);
}

static void set_up(void)
{
    if (path[0])
        return;
    ASSERT(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/ledger", dir);
    atexit(remove_dir);
}

/* The file as it comes, then with an event behind it, which is read again. */
static void ledger(struct str text)
{
    struct arena *a = arena_new(4096);
    const char *err;
    set_up();
    ASSERT(!file_write(a, path, text, 0600));
    struct ledger *l = ledger_open(a, path, ledger_letsencrypt, &err);
    for (int64_t now = 0; now < 2 * NOW; now += NOW / 4)
        look(l, now);
    ASSERT(!ledger_add(l, a, LEDGER_ISSUED, hosts[0], false, NOW));
    struct ledger *again = ledger_open(a, path, ledger_letsencrypt, &err);
    ASSERT(!err);
    for (unsigned k = 0; k < LEDGER_KINDS; k++) {
        const struct ledger_left one = ledger_left(l, k, hosts[0], NOW),
                                 two = ledger_left(again, k, hosts[0], NOW);
        ASSERT(one.used == two.used && one.until == two.until);
        ASSERT(one.used > 0 || k == LEDGER_ORDERS || k == LEDGER_FAILURES);
    }
    ledger_close(&l);
    ledger_close(&again);
    unlink(path);
    arena_free(&a);
}

static void ari(struct str text)
{
    struct arena *a = arena_new(1024);
    json_t *answer = json_loadb(text.p, text.n, JSON_DECODE_ANY, NULL);
    struct ari_window w, again;
    if (!ari_read(a, answer, 0, NOW, NULL, &w)) {
        ASSERT(w.start < w.end && w.chosen >= w.start && w.chosen <= w.end);
        ASSERT(w.look_again > NOW && w.url.n <= 512);
        ASSERT(!ari_read(a, answer, 0, NOW, &w, &again));
        ASSERT(again.chosen == w.chosen);
    }
    json_decref(answer);
    arena_free(&a);
}

static void rfc3339(struct str text)
{
    int64_t at, again;
    char mem[40];
    struct tm tm;
    if (!ari_time(text, &at))
        return;
    const time_t t = (time_t)at;
    ASSERT(gmtime_r(&t, &tm));
    if (tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
        return; /* by its offset */
    struct out o = out_on(mem, sizeof(mem));
    out_fmt(&o, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
            tm.tm_hour, tm.tm_min, tm.tm_sec);
    ASSERT(ari_time(out_done(&o), &again) && again == at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    const struct str text = {(const char *)data + 1, size - 1};
    if (data[0] == 'l')
        ledger(text);
    else if (data[0] == 'a')
        ari(text);
    else
        rfc3339(text);
    return 0;
}
