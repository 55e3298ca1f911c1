/*
 * proxy_protocol.c - the PROXY protocol's header, versions 1 (a line of text) and 2 (binary).
 */
#include "proxy/proxy_protocol.h"

#define V1_MAX    107 /* with CR LF: "PROXY TCP6 " and the longest of everything */
#define V2_FIXED  16
#define SIGNATURE 12
#define TLV_CRC   0x03 /* PP2_TYPE_CRC32C */

static const uint8_t v1_begin[] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const uint8_t v2_begin[SIGNATURE] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                            0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static bool bad(struct proxy_protocol *h, const char *error)
{
    h->state = PROXY_PROTOCOL_BAD;
    h->error = error;
    return false;
}

static void done(struct proxy_protocol *h)
{
    h->state = PROXY_PROTOCOL_DONE;
}

static bool begins(const struct proxy_protocol *h, const uint8_t *with, size_t n)
{
    return memcmp(h->bytes, with, MIN(n, h->n)) == 0;
}

/* ---- version 1 ---- */

/* Decimal without leading zeros. */
static bool v1_port(struct str text, uint16_t *port)
{
    uint64_t v;
    if (text.n > 5 || (text.n > 1 && text.p[0] == '0') || !str_u64(text, &v) || v > 65535)
        return false;
    *port = (uint16_t)v;
    return true;
}

static bool v1_ip(struct str text, bool v6, struct net_ip *ip)
{
    return (str_chr(text, ':') < text.n) == v6 && net_ip_parse(text, ip);
}

/* The line without its CR LF. */
static void v1_line(struct proxy_protocol *h, struct str line)
{
    struct str part[6], rest = line;
    unsigned n = 0;
    while (n < ARRAY_LEN(part) && str_split(&rest, ' ', &part[n]))
        n++;
    if (n >= 2 && str_eq(part[1], STR("UNKNOWN"))) { /* what follows is to be ignored */
        done(h);
        return;
    }
    bool v6 = n == 6 && str_eq(part[1], STR("TCP6"));
    bool v4 = n == 6 && str_eq(part[1], STR("TCP4"));
    if (rest.n || str_ends(line, STR(" ")) || (!v4 && !v6) || !v1_ip(part[2], v6, &h->ip) ||
        !v1_ip(part[3], v6, &h->local_ip) || !v1_port(part[4], &h->port) ||
        !v1_port(part[5], &h->local_port)) {
        bad(h, "its line is malformed");
        return;
    }
    h->named = true;
    done(h);
}

/* How many of the n bytes belong to the line. */
static size_t v1_take(struct proxy_protocol *h, const uint8_t *p, size_t n)
{
    n = MIN(n, V1_MAX - h->n);
    const uint8_t *lf = n ? memchr(p, '\n', n) : NULL;
    return lf ? (size_t)(lf - p) + 1 : n;
}

static void v1_step(struct proxy_protocol *h)
{
    struct str line = {(const char *)h->bytes, h->n};
    h->want = h->n + 1;
    if (str_ends(line, STR("\n"))) {
        line.n--;
        if (!str_ends(line, STR("\r")) || memchr(line.p, '\n', line.n))
            bad(h, "its line does not end in CR LF");
        else
            v1_line(h, str_sub(line, 0, line.n - 1));
    } else if (h->n == V1_MAX) {
        bad(h, "its line is too long");
    }
}

/* ---- version 2 ---- */

/* CRC-32C (Castagnoli), reflected, bit by bit: headers are short and few carry one. */
static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* Of the whole header, with zeros in the place of the checksum, which is at `at`. */
static bool v2_crc_fits(const struct proxy_protocol *h, size_t at)
{
    static const uint8_t zero[4];
    uint32_t crc = crc32c(0xffffffffu, h->bytes, at);
    crc = crc32c(crc, zero, sizeof(zero));
    crc = ~crc32c(crc, h->bytes + at + 4, h->n - at - 4);
    return crc == ((uint32_t)be16(h->bytes + at) << 16 | be16(h->bytes + at + 2));
}

static bool v2_tlvs(struct proxy_protocol *h, size_t at)
{
    bool crc = false;
    while (at < h->n) {
        if (h->n - at < 3 || be16(h->bytes + at + 1) > h->n - at - 3)
            return bad(h, "a TLV is longer than the header");
        size_t n = be16(h->bytes + at + 1);
        if (h->bytes[at] == TLV_CRC) {
            if (n != 4 || crc)
                return bad(h, "its CRC32C is malformed");
            if (!v2_crc_fits(h, at + 3))
                return bad(h, "its CRC32C does not fit");
            crc = true;
        }
        at += 3 + n;
    }
    return true;
}

/* Source and destination address, source and destination port. */
static void v2_address(struct proxy_protocol *h, size_t bytes)
{
    const uint8_t *p = h->bytes + V2_FIXED;
    h->ip = net_ip_of_bytes(p, bytes);
    h->local_ip = net_ip_of_bytes(p + bytes, bytes);
    h->port = be16(p + 2 * bytes);
    h->local_port = be16(p + 2 * bytes + 2);
    h->named = true;
}

static void v2_whole(struct proxy_protocol *h)
{
    static const size_t address_bytes[] = {0, 12, 36, 216}; /* UNSPEC, INET, INET6, UNIX */
    uint8_t command = h->bytes[12] & 0x0f;
    uint8_t family = h->bytes[13] >> 4, transport = h->bytes[13] & 0x0f;
    if (command == 0) { /* LOCAL: of the balancer itself; the rest is to be ignored */
        done(h);
        return;
    }
    if (family >= ARRAY_LEN(address_bytes) || transport > 2) {
        bad(h, "its address family is unknown");
        return;
    }
    if (h->n < V2_FIXED + address_bytes[family]) {
        bad(h, "its addresses are cut");
        return;
    }
    if (!v2_tlvs(h, V2_FIXED + address_bytes[family]))
        return;
    if (transport == 1 && (family == 1 || family == 2)) /* TCP over IPv4 or IPv6 */
        v2_address(h, family == 1 ? 4 : 16);
    done(h);
}

static void v2_step(struct proxy_protocol *h)
{
    if (h->n == SIGNATURE) {
        h->want = V2_FIXED;
        return;
    }
    if (h->want > V2_FIXED) {
        v2_whole(h);
        return;
    }
    size_t whole = V2_FIXED + (size_t)be16(h->bytes + 14);
    if (h->bytes[12] >> 4 != 2 || (h->bytes[12] & 0x0f) > 1)
        bad(h, "its version or command is unknown");
    else if (whole > PROXY_PROTOCOL_MAX)
        bad(h, "it is longer than 4096 bytes");
    else if (whole == V2_FIXED)
        v2_whole(h);
    h->want = whole;
}

/* ---- either ---- */

size_t proxy_protocol_feed(struct proxy_protocol *h, const void *p, size_t n)
{
    const uint8_t *in = p;
    size_t used = 0;
    if (!h->want)
        h->want = SIGNATURE; /* the shortest line of version 1 is longer */
    while (h->state == PROXY_PROTOCOL_MORE && used < n) {
        bool line = h->n >= SIGNATURE && h->bytes[0] == v1_begin[0];
        size_t some = line ? v1_take(h, in + used, n - used) : MIN(n - used, h->want - h->n);
        memcpy(h->bytes + h->n, in + used, some);
        h->n += some;
        used += some;
        if (!begins(h, v1_begin, sizeof(v1_begin)) && !begins(h, v2_begin, sizeof(v2_begin)))
            bad(h, "it does not begin with one");
        else if (h->n >= h->want && h->bytes[0] == v1_begin[0])
            v1_step(h);
        else if (h->n >= h->want)
            v2_step(h);
    }
    return used;
}
