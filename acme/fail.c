/*
 * fail.c - failures of steps with a CA: their text made harmless, problem documents read, and the
 * cures that we know. What follows from a failure is order.c's and the schedule's.
 */
#include "acme/fail.h"

#include <stdio.h>
#include <time.h>

#include "base/json.h"
#include "base/utf8.h"

#define URN             "urn:ietf:params:acme:error:"
#define RETRY_MAX       ((int64_t)7 * 86400)
#define SUBPROBLEMS_MAX 5
#define WORDS_MAX       400 /* bytes of one thing that a CA says */

/* ---- text ---- */

/*
 * What would make a terminal do something: C0, DEL, C1, and the marks that turn the direction of
 * what follows (U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069).
 */
static bool is_control(const char *p, size_t len)
{
    const unsigned char c = (unsigned char)p[0], last = (unsigned char)p[len - 1];
    if (len == 1)
        return c < 0x20 || c == 0x7f;
    if (len == 2)
        return c == 0xc2 && last < 0xa0;
    if (len != 3 || c != 0xe2)
        return false;
    return (unsigned char)p[1] == 0x80
               ? last == 0x8e || last == 0x8f || (last >= 0xaa && last <= 0xae)
               : (unsigned char)p[1] == 0x81 && last >= 0xa6 && last <= 0xa9;
}

/*
 * What a CA says goes to logs and terminals: controls become spaces, what is no UTF-8 a "?", and a
 * character that would be cut is left out.
 */
static void harmless(char *to, size_t cap, struct str from)
{
    struct out o = out_on(to, cap - 1);
    while (from.n && !o.over) {
        unsigned char c = (unsigned char)from.p[0];
        size_t len = c < 0x80 ? 1 : utf8_len(from.p, from.n);
        if (!len)
            out_char(&o, '?');
        else if (is_control(from.p, len))
            out_char(&o, ' ');
        else
            out_bytes(&o, from.p, len);
        from = str_sub(from, MAX(len, 1), from.n);
    }
    to[o.n] = '\0';
}

void acme_fail_set(struct acme_fail *f, enum acme_fail_kind kind, const char *step, const char *fmt,
                   ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ASSERT(n >= 0);
    *f = (struct acme_fail){.kind = kind};
    harmless(f->step, sizeof f->step, str_of(step));
    harmless(f->text, sizeof f->text, (struct str){text, MIN((size_t)n, sizeof text - 1)});
}

/* ---- problem documents ---- */

static struct str member(const json_t *o, const char *name)
{
    return str_sub(json_str(json_object_get(o, name)), 0, WORDS_MAX);
}

static struct str type_of(const json_t *problem)
{
    struct str type = member(problem, "type");
    return str_starts(type, STR(URN)) ? str_sub(type, sizeof URN - 1, type.n) : STR("");
}

static enum acme_fail_kind kind_of(struct str type, unsigned status)
{
    static const struct {
        const char *type;
        enum acme_fail_kind kind;
    } kinds[] = {
        {"rateLimited", ACME_LIMITED},
        {"serverInternal", ACME_BUSY},
        {"accountDoesNotExist", ACME_ACCOUNT},
        {"externalAccountRequired", ACME_ACCOUNT},
        {"userActionRequired", ACME_ACCOUNT},
        {"invalidContact", ACME_ACCOUNT},
        {"unsupportedContact", ACME_ACCOUNT},
        {"badSignatureAlgorithm", ACME_ACCOUNT},
        {"badNonce", ACME_BROKEN},
    };
    if (status >= 500)
        return ACME_BUSY;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (str_eq(type, str_of(kinds[i].type)))
            return kinds[i].kind;
    if (status == 429)
        return ACME_BUSY;
    return ACME_REFUSED;
}

/* In the CA's words; of a compound one also who is meant by each part. */
static void out_problem(struct out *o, unsigned status, const json_t *problem)
{
    static const char *const members[] = {"detail", "title", "type"};
    struct str words = STR("");
    for (size_t i = 0; i < ARRAY_LEN(members) && !words.n; i++)
        words = member(problem, members[i]);
    if (words.n)
        out_fmt(o, "the CA says: " STR_FMT, STR_ARG(words));
    else
        out_fmt(o, "the CA answered with status %u", status);
    const json_t *parts = json_object_get(problem, "subproblems");
    for (size_t i = 0; i < MIN(json_array_size(parts), (size_t)SUBPROBLEMS_MAX); i++) {
        const json_t *part = json_array_get(parts, i);
        struct str who = member(json_object_get(part, "identifier"), "value");
        struct str what = member(part, "detail");
        out_fmt(o, "; " STR_FMT "%s" STR_FMT, STR_ARG(who), who.n ? ": " : "", STR_ARG(what));
    }
    /* RFC 8555 7.3.3: the page on which somebody has to do something. */
    struct str page = member(problem, "instance");
    if (page.n)
        out_fmt(o, " (see " STR_FMT ")", STR_ARG(page));
}

void acme_fail_problem(struct acme_fail *f, const char *step, unsigned status,
                       const json_t *problem)
{
    struct str type = type_of(problem);
    char text[4096];
    struct out o = out_on(text, sizeof text);
    out_problem(&o, status, problem);
    acme_fail_set(f, kind_of(type, status), step, STR_FMT, STR_ARG(out_done(&o)));
    f->status = status;
    harmless(f->type, sizeof f->type, type);
    f->hint = acme_hint(f->type, NULL);
}

/* ---- cures ---- */

const char *acme_hint(const char *type, const char *challenge)
{
    static const struct {
        const char *type, *challenge, *hint;
    } hints[] = {
        {"connection", "http-01",
         "the CA could not connect to port 80 of this host: open it in the firewall, and see that "
         "the name's A and AAAA records lead here"},
        {"connection", "tls-alpn-01",
         "the CA could not connect to port 443 of this host: open it in the firewall, and see that "
         "the name's A and AAAA records lead here"},
        {"connection", NULL,
         "the CA could not connect to this host: open ports 80 and 443 in the firewall, and see "
         "that the name's A and AAAA records lead here"},
        {"unauthorized", "http-01",
         "another server answered on port 80: see that the name's A and AAAA records lead here, "
         "and that no proxy or CDN stands in front"},
        {"unauthorized", "tls-alpn-01",
         "another server answered on port 443: a proxy or CDN that ends TLS stands in front, or "
         "the name's A or AAAA record leads elsewhere; http-01 or dns-01 work behind one"},
        {"unauthorized", "dns-01",
         "the TXT record was not there when the CA looked: see that dns_hook waits until all the "
         "zone's name servers have it"},
        {"incorrectResponse", NULL,
         "what the CA was shown is not what it wants: another server answers for this name"},
        {"tls", NULL,
         "the CA's TLS handshake on port 443 failed: a proxy or CDN that ends TLS stands in front; "
         "http-01 or dns-01 work behind one"},
        {"dns", NULL,
         "the name does not resolve for the CA: create its A or AAAA record, and see that DNSSEC "
         "is in order"},
        {"caa", NULL,
         "the domain's CAA records do not allow this CA: add it there, or choose another in "
         "acme.ca"},
        {"rateLimited", NULL,
         "a limit of the CA is reached: it goes on by itself when there is room again"},
        {"rejectedIdentifier", NULL,
         "this CA does not issue for the name: see that it is public and spelled right, or choose "
         "another in acme.ca"},
        {"unsupportedIdentifier", NULL,
         "this CA does not issue for such names: choose another in acme.ca, or tls.issuer: local"},
        {"externalAccountRequired", NULL,
         "this CA wants an account that was made with it before: put the key identifier and HMAC "
         "that it gave you into acme.eab"},
        {"userActionRequired", NULL,
         "open the page that the CA names and agree there; it goes on by itself then"},
        {"invalidContact", NULL, "correct acme.email: the CA does not take it"},
        {"unsupportedContact", NULL, "correct acme.email: the CA does not take it"},
        {"invalidProfile", NULL, "acme.profile names a profile that this CA does not have"},
        {"badPublicKey", NULL, "this CA does not take such keys: choose another in acme.key"},
        {"badCSR", NULL, "this CA does not take such keys or names: choose another in acme.key"},
        {"badNonce", NULL, "something between here and the CA repeats or caches requests"},
        {"serverInternal", NULL, "the CA has trouble of its own: it goes on by itself"},
    };
    for (size_t i = 0; i < ARRAY_LEN(hints); i++)
        if (strcmp(hints[i].type, type) == 0 &&
            (!hints[i].challenge || (challenge && strcmp(hints[i].challenge, challenge) == 0)))
            return hints[i].hint;
    return NULL;
}

/* ---- Retry-After ---- */

/* RFC 9110 5.6.7: the form of today and the two of old. */
static bool date_parse(const char *text, int64_t *out)
{
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
                                        "%a %b %d %H:%M:%S %Y"};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct tm tm = {0};
        const char *end = strptime(text, forms[i], &tm);
        if (!end || *end)
            continue;
        *out = (int64_t)timegm(&tm);
        return true;
    }
    return false;
}

int64_t acme_retry_after(struct str value, int64_t now)
{
    uint64_t s;
    char text[64];
    int64_t at = 0;
    struct str v = str_trim(value);
    if (!v.n || v.n >= sizeof text)
        return 0;
    if (str_chr(STR("0123456789"), v.p[0]) < 10) {
        if (!str_u64(v, &s))
            return 0;
        at = now + (int64_t)MIN(s, (uint64_t)RETRY_MAX);
    } else {
        memcpy(text, v.p, v.n);
        text[v.n] = '\0';
        if (!date_parse(text, &at))
            return 0;
    }
    return MIN(MAX(at, now + 1), now + RETRY_MAX);
}
