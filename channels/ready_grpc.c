/*
 * ready_grpc.c - the smallest HTTP/2 client that can make one health check. The master runs it, and
 * the master may be root; so it reads three facts and nothing else: is the answer's content type
 * gRPC's, its grpc-status, and one number in a message of a few bytes. All memory is fixed, nothing
 * is allocated, no table is kept and no length that came is believed further than a buffer's end.
 * That is why it is no session of nghttp2, which the workers use in their sandbox.
 *
 * Fields are not decompressed (RFC 7541). There is one call a connection, and the table of fields
 * is empty when its answer begins and was told to stay so: the names that matter come as literals,
 * and both their forms, plain and Huffman, are compared as they come.
 */
#include "channels/ready_grpc.h"

#define TOTAL_MAX   (64 * 1024)
#define REPLIES_MAX 16
#define FRAME_MAX   16384 /* RFC 9113 4.2: what we did not allow to be longer */
#define STREAM      1
#define TEXT_MAX    32 /* longest text that is compared, coded */

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY };
enum { CONTINUATION = 9 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, WITH_PRIORITY = 32 };

/* Of the static table (RFC 7541 Appendix A). */
enum { AUTHORITY = 1, METHOD_POST = 3, PATH = 4, SCHEME_HTTP = 6, CONTENT_TYPE = 31 };
enum { USER_AGENT = 58 };

static const char err_http1[] = "it speaks HTTP/1, not gRPC";
static const char err_no_http2[] = "what it answers is no HTTP/2";
static const char err_bad_http2[] = "it breaks the rules of HTTP/2";
static const char err_no_grpc[] = "what it answers is no gRPC";
static const char err_no_status[] = "its answer has no grpc-status";
static const char err_long_head[] = "its answer's head is too long";
static const char err_long_answer[] = "its answer is too long";
static const char err_no_message[] = "its answer has no message";
static const char err_compressed[] = "its answer is compressed, which was not asked for";
static const char err_bad_message[] = "its answer is no HealthCheckResponse";
static const char err_call_reset[] = "it resets the health check";
static const char err_goaway[] = "it ends the connection before it answers";
static const char err_unknown[] = "its health status is UNKNOWN";
static const char err_not_serving[] = "it says NOT_SERVING";
static const char err_no_service[] = "its health service does not know the service's name";

/* grpc-status 12 is no failure here; 0 goes on with the message. */
#define UNIMPLEMENTED 12
static const char *const status_errors[] = {
    NULL,
    "its health check ends in CANCELLED",
    "its health check ends in UNKNOWN",
    "its health check ends in INVALID_ARGUMENT",
    "its health check ends in DEADLINE_EXCEEDED",
    err_no_service, /* NOT_FOUND, as the protocol has it */
    "its health check ends in ALREADY_EXISTS",
    "its health check ends in PERMISSION_DENIED",
    "its health check ends in RESOURCE_EXHAUSTED",
    "its health check ends in FAILED_PRECONDITION",
    "its health check ends in ABORTED",
    "its health check ends in OUT_OF_RANGE",
    NULL,
    "its health check ends in INTERNAL",
    "its health check ends in UNAVAILABLE",
    "its health check ends in DATA_LOSS",
    "its health check ends in UNAUTHENTICATED",
};

/* ---- texts as HPACK writes them ---- */

/* The Huffman codes of the characters in our texts (RFC 7541 Appendix B). */
static const struct {
    char c;
    uint8_t bits;
    uint16_t code;
} codes[] = {{'+', 11, 0x7fb}, {'-', 6, 0x16}, {'/', 6, 0x18}, {';', 8, 0xfb}, {'0', 5, 0x00},
             {'1', 5, 0x01},   {'2', 5, 0x02}, {'3', 6, 0x19}, {'4', 6, 0x1a}, {'5', 6, 0x1b},
             {'6', 6, 0x1c},   {'7', 6, 0x1d}, {'8', 6, 0x1e}, {'9', 6, 0x1f}, {'a', 5, 0x03},
             {'c', 5, 0x04},   {'e', 5, 0x05}, {'g', 6, 0x26}, {'i', 5, 0x06}, {'l', 6, 0x28},
             {'n', 6, 0x2a},   {'o', 5, 0x07}, {'p', 6, 0x2b}, {'r', 6, 0x2c}, {'s', 5, 0x08},
             {'t', 5, 0x09},   {'u', 6, 0x2d}, {'y', 7, 0x7a}};

struct text {
    const uint8_t *p; /* NULL: a name that stands in a table */
    size_t n;
    bool huffman;
};

/* `s` coded, zeros behind it. Returns its length in bits. */
static size_t huffman(struct str s, uint8_t to[TEXT_MAX])
{
    size_t at = 0;
    memset(to, 0, TEXT_MAX);
    for (size_t i = 0; i < s.n; i++) {
        size_t k = 0;
        while (k < ARRAY_LEN(codes) && codes[k].c != s.p[i])
            k++;
        ASSERT(k < ARRAY_LEN(codes) && at + codes[k].bits <= 8 * TEXT_MAX);
        for (unsigned bit = codes[k].bits; bit-- > 0; at++)
            if (codes[k].code >> bit & 1)
                to[at / 8] |= (uint8_t)(0x80 >> at % 8);
    }
    return at;
}

static bool text_begins(struct text t, struct str s)
{
    if (!t.huffman)
        return t.p && t.n >= s.n && memcmp(t.p, s.p, s.n) == 0;
    uint8_t coded[TEXT_MAX];
    size_t bits = huffman(s, coded), whole = bits / 8, rest = bits % 8;
    if (t.n < whole + (rest > 0) || memcmp(t.p, coded, whole) != 0)
        return false;
    return !rest || (t.p[whole] ^ coded[whole]) >> (8 - rest) == 0;
}

static bool text_is(struct text t, struct str s)
{
    if (!t.huffman)
        return t.p && t.n == s.n && memcmp(t.p, s.p, s.n) == 0;
    uint8_t coded[TEXT_MAX];
    size_t bits = huffman(s, coded), pad = 7 - (bits + 7) % 8;
    if (pad)
        coded[bits / 8] |= (uint8_t)((1u << pad) - 1); /* filled with ones: RFC 7541 5.2 */
    return t.n == (bits + 7) / 8 && memcmp(t.p, coded, t.n) == 0;
}

/* ---- the request ---- */

/* Seven bits a byte, the lowest first: the end of HPACK's integers, and protobuf's. */
static void put_varint(struct out *o, size_t v)
{
    for (; v >= 128; v >>= 7)
        out_char(o, (char)((v & 127) | 128));
    out_char(o, (char)v);
}

static void put_int(struct out *o, uint8_t first, unsigned prefix, size_t v)
{
    const size_t most = (1u << prefix) - 1;
    out_char(o, (char)(first | MIN(v, most)));
    if (v >= most)
        put_varint(o, v - most);
}

static void put_text(struct out *o, struct str s)
{
    put_int(o, 0, 7, s.n);
    out_str(o, s);
}

/* Literals that enter no table, so that nothing of ours must be remembered either. */
static void put_field(struct out *o, unsigned name, struct str value)
{
    put_int(o, 0, 4, name);
    put_text(o, value);
}

static void put_named(struct out *o, struct str name, struct str value)
{
    put_int(o, 0, 4, 0);
    put_text(o, name);
    put_text(o, value);
}

static void put_u32(struct out *o, uint32_t v)
{
    const uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    out_bytes(o, b, sizeof(b));
}

static void put_frame(struct out *o, uint8_t kind, uint8_t flags, uint32_t stream, struct str load)
{
    put_u32(o, (uint32_t)(load.n << 8 | kind));
    out_char(o, (char)flags);
    put_u32(o, stream);
    out_str(o, load);
}

static void put_setting(struct out *o, uint8_t id, uint32_t value)
{
    out_char(o, 0);
    out_char(o, (char)id);
    put_u32(o, value);
}

void ready_grpc_request(struct out *o, struct str host, struct str service, uint64_t timeout_ms)
{
    char mem[1024], timeout[16];
    struct out settings = out_on(mem, sizeof(mem));
    put_setting(&settings, 1, 0);                /* HEADER_TABLE_SIZE */
    put_setting(&settings, 2, 0);                /* ENABLE_PUSH */
    put_setting(&settings, 3, 0);                /* MAX_CONCURRENT_STREAMS, of its making */
    put_setting(&settings, 6, READY_GRPC_FRAME); /* MAX_HEADER_LIST_SIZE */
    out_lit(o, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    put_frame(o, SETTINGS, 0, 0, out_done(&settings));

    struct out t = out_on(timeout, sizeof(timeout));
    out_u64(&t, MIN(timeout_ms, (uint64_t)99999999)); /* eight digits: gRPC over HTTP/2 */
    out_char(&t, 'm');
    struct out fields = out_on(mem, sizeof(mem));
    put_int(&fields, 128, 7, METHOD_POST);
    put_int(&fields, 128, 7, SCHEME_HTTP);
    put_field(&fields, PATH, STR("/grpc.health.v1.Health/Check"));
    put_field(&fields, AUTHORITY, host);
    put_named(&fields, STR("te"), STR("trailers"));
    put_named(&fields, STR("grpc-timeout"), out_done(&t));
    put_field(&fields, CONTENT_TYPE, STR("application/grpc"));
    put_field(&fields, USER_AGENT, STR("headgate/" HG_VERSION));
    put_frame(o, HEADERS, END_HEADERS, STREAM, out_done(&fields));
    bool over = fields.over;

    /* HealthCheckRequest { string service = 1; } behind gRPC's five bytes. */
    char name_mem[512];
    struct out name = out_on(name_mem, sizeof(name_mem));
    if (service.n) {
        out_char(&name, 1 << 3 | 2);
        put_varint(&name, service.n);
        out_str(&name, service);
    }
    struct out message = out_on(mem, sizeof(mem));
    out_char(&message, 0);
    put_u32(&message, (uint32_t)name.n);
    out_str(&message, out_done(&name));
    put_frame(o, DATA, END_STREAM, STREAM, out_done(&message));
    o->over = o->over || over || name.over || message.over;
}

void ready_grpc_goodbye(struct out *o)
{
    static const char none[8]; /* it began no stream; NO_ERROR */
    put_frame(o, GOAWAY, 0, 0, (struct str){none, sizeof(none)});
}

/* ---- the answer's fields ---- */

struct cursor {
    const uint8_t *p, *end;
};

/* Up to 28 bits behind the prefix: nothing here is longer than a frame. */
static bool get_varint(struct cursor *c, uint32_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 28 && c->p < c->end; shift += 7) {
        uint8_t b = *c->p++;
        *v |= (uint32_t)(b & 127) << shift;
        if (b < 128)
            return true;
    }
    return false;
}

static bool get_int(struct cursor *c, unsigned prefix, uint32_t *v)
{
    if (c->p == c->end)
        return false;
    const uint32_t most = (1u << prefix) - 1;
    uint32_t more, first = *c->p++ & most;
    *v = first;
    if (first < most)
        return true;
    if (!get_varint(c, &more))
        return false;
    *v = most + more;
    return true;
}

static bool get_text(struct cursor *c, struct text *t)
{
    uint32_t n;
    t->huffman = c->p < c->end && *c->p & 0x80;
    if (!get_int(c, 7, &n) || n > (size_t)(c->end - c->p))
        return false;
    t->p = c->p;
    t->n = n;
    c->p += n;
    return true;
}

struct fields {
    enum { TYPE_NONE, TYPE_GRPC, TYPE_OTHER } type;
    int status; /* grpc-status; -1: none, or none that is known */
};

static int status_of(struct text value)
{
    for (unsigned i = 0; i < ARRAY_LEN(status_errors); i++) {
        char digits[4];
        struct out o = out_on(digits, sizeof(digits));
        out_u64(&o, i);
        if (text_is(value, out_done(&o)))
            return (int)i;
    }
    return -1;
}

static bool is_grpc(struct text type)
{
    return text_is(type, STR("application/grpc")) || text_begins(type, STR("application/grpc+")) ||
           text_begins(type, STR("application/grpc;"));
}

/* One field: of the static table, of the table that we asked to be empty, or a literal. */
static bool get_field(struct cursor *c, struct fields *f)
{
    uint32_t index;
    struct text name = {0}, value;
    uint8_t first = *c->p;
    if (first & 0x80)
        return get_int(c, 7, &index) && index != 0; /* its value is none of those that matter */
    if ((first & 0xe0) == 0x20)
        return get_int(c, 5, &index); /* the size of the table */
    if (!get_int(c, first & 0x40 ? 6 : 4, &index) || (!index && !get_text(c, &name)) ||
        !get_text(c, &value))
        return false;
    if (index == CONTENT_TYPE || text_is(name, STR("content-type")))
        f->type = is_grpc(value) ? TYPE_GRPC : TYPE_OTHER;
    else if (text_is(name, STR("grpc-status")))
        f->status = status_of(value);
    return true;
}

static bool get_fields(const uint8_t *p, size_t n, struct fields *f)
{
    struct cursor c = {p, p + n};
    *f = (struct fields){.status = -1};
    while (c.p < c.end)
        if (!get_field(&c, f))
            return false;
    return true;
}

/* ---- the answer's message ---- */

/* HealthCheckResponse { ServingStatus status = 1; }, unknown fields skipped. -1: it is none. */
static int64_t serving_status(const uint8_t *p, size_t n)
{
    struct cursor c = {p, p + n};
    int64_t status = 0;
    uint32_t key, v;
    while (c.p < c.end) {
        if (!get_varint(&c, &key) || key >> 3 == 0)
            return -1;
        size_t skip = 0;
        switch (key & 7) {
        case 0:
            if (!get_varint(&c, &v))
                return -1;
            if (key >> 3 == 1)
                status = v;
            break;
        case 1:
            skip = 8;
            break;
        case 2:
            if (!get_varint(&c, &v))
                return -1;
            skip = v;
            break;
        case 5:
            skip = 4;
            break;
        default:
            return -1;
        }
        if (skip > (size_t)(c.end - c.p))
            return -1;
        c.p += skip;
    }
    return status;
}

static const char *message_error(const struct ready_grpc *g)
{
    const uint8_t *m = g->message;
    if (g->n_message == 0)
        return err_no_message;
    if (m[0] == 1)
        return err_compressed;
    if (g->n_message < 5 || m[0] != 0 || m[1] || m[2] ||
        (size_t)(m[3] << 8 | m[4]) != g->n_message - 5)
        return err_bad_message;
    switch (serving_status(m + 5, g->n_message - 5)) {
    case 0:
        return err_unknown;
    case 1:
        return NULL;
    case 2:
        return err_not_serving;
    case 3:
        return err_no_service;
    default:
        return err_bad_message;
    }
}

/* ---- the answer's frames ---- */

static void judge(struct ready_grpc *g, const char *err)
{
    g->state = READY_GRPC_JUDGED;
    g->err = err;
}

static void judge_status(struct ready_grpc *g, int status)
{
    if (status < 0) {
        judge(g, err_no_status);
    } else if (status == UNIMPLEMENTED) {
        judge(g, NULL);
        g->no_health = true;
    } else {
        judge(g, status ? status_errors[status] : message_error(g));
    }
}

/* Without padding and priority; false when they are longer than the frame. */
static bool unpad(uint8_t kind, uint8_t flags, struct cursor *c)
{
    size_t before = (flags & PADDED) != 0, behind = 0;
    if (before && c->p < c->end)
        behind = *c->p;
    if (kind == HEADERS && flags & WITH_PRIORITY)
        before += 5;
    if (before + behind > (size_t)(c->end - c->p))
        return false;
    c->p += before;
    c->end -= behind;
    return true;
}

static void on_headers(struct ready_grpc *g, uint8_t flags, struct cursor c)
{
    struct fields f;
    bool last = flags & END_STREAM;
    if (!(flags & END_HEADERS)) {
        judge(g, err_long_head);
    } else if (!get_fields(c.p, (size_t)(c.end - c.p), &f)) {
        judge(g, err_bad_http2);
    } else if (g->state == READY_GRPC_BODY) {
        if (last)
            judge_status(g, f.status);
        else
            judge(g, err_bad_http2);
    } else if (f.type == TYPE_OTHER || (f.type == TYPE_NONE && !(last && f.status >= 0))) {
        judge(g, err_no_grpc);
    } else if (last) {
        judge_status(g, f.status);
    } else {
        g->state = READY_GRPC_BODY;
    }
}

static void on_data(struct ready_grpc *g, uint8_t flags, struct cursor c)
{
    size_t n = (size_t)(c.end - c.p);
    if (g->state != READY_GRPC_BODY) {
        judge(g, err_bad_http2);
    } else if (n > sizeof(g->message) - g->n_message) {
        judge(g, err_long_answer);
    } else {
        memcpy(g->message + g->n_message, c.p, n);
        g->n_message += n;
        if (flags & END_STREAM)
            judge(g, err_no_status);
    }
}

/* What the rules want to be answered. A peer that keeps us answering makes no check. */
static void answer(struct ready_grpc *g, uint8_t kind, struct str load, struct out *reply)
{
    if (++g->replies > REPLIES_MAX)
        judge(g, err_long_answer);
    else
        put_frame(reply, kind, ACK, 0, load);
}

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void on_connection_frame(struct ready_grpc *g, uint8_t kind, uint8_t flags,
                                struct out *reply)
{
    struct str load = {(const char *)g->payload, g->length};
    if (kind == SETTINGS && !(flags & ACK) && g->length % 6 == 0) {
        answer(g, SETTINGS, STR_NULL, reply);
    } else if (kind == PING && g->length == 8) {
        if (!(flags & ACK))
            answer(g, PING, load, reply);
    } else if (kind == GOAWAY && g->length >= 8) {
        /* One that covers our call lets it end: it is how servers begin to stop. */
        if ((u32(g->payload) & INT32_MAX) < STREAM || u32(g->payload + 4) != 0)
            judge(g, err_goaway);
    } else if (kind != SETTINGS || !(flags & ACK) || g->length) {
        judge(g, err_bad_http2);
    }
}

/* Whole, as far as it is kept. */
static void on_frame(struct ready_grpc *g, struct out *reply)
{
    const uint8_t kind = g->head[3], flags = g->head[4];
    const uint32_t stream = u32(g->head + 5) & INT32_MAX;
    struct cursor c = {g->payload, g->payload + MIN(g->length, sizeof(g->payload))};
    switch (kind) {
    case HEADERS:
    case DATA:
        if (g->length > sizeof(g->payload))
            judge(g, kind == DATA ? err_long_answer : err_long_head);
        else if (stream != STREAM || !unpad(kind, flags, &c))
            judge(g, err_bad_http2);
        else if (kind == DATA)
            on_data(g, flags, c);
        else
            on_headers(g, flags, c);
        break;
    case RST_STREAM:
        judge(g, stream == STREAM ? err_call_reset : err_bad_http2);
        break;
    case SETTINGS:
    case PING:
    case GOAWAY:
        if (stream)
            judge(g, err_bad_http2);
        else
            on_connection_frame(g, kind, flags, reply);
        break;
    case PUSH_PROMISE:
    case CONTINUATION:
        judge(g, err_bad_http2);
        break;
    default: /* priorities, windows (ours is used already), and what is not known */
        break;
    }
}

static void on_frame_head(struct ready_grpc *g)
{
    g->length = u32(g->head) >> 8;
    g->taken = 0;
    if (g->state != READY_GRPC_SETTINGS) {
        if (g->length > FRAME_MAX)
            judge(g, err_bad_http2);
    } else if (memcmp(g->head, "HTTP/1.", 7) == 0) {
        judge(g, err_http1);
    } else if (g->head[3] != SETTINGS || g->head[4] & ACK || g->length > FRAME_MAX) {
        judge(g, err_no_http2); /* it begins with SETTINGS: RFC 9113 3.4 */
    } else {
        g->state = READY_GRPC_HEAD;
    }
}

void ready_grpc_begin(struct ready_grpc *g)
{
    memset(g, 0, sizeof(*g));
}

bool ready_grpc_feed(struct ready_grpc *g, const void *bytes, size_t n, struct out *reply)
{
    const uint8_t *p = bytes, *end = p + n;
    while (g->state != READY_GRPC_JUDGED) {
        if (g->n_head < sizeof(g->head)) {
            if (p == end)
                break;
            g->head[g->n_head++] = *p++;
            g->total++;
            if (g->n_head == sizeof(g->head))
                on_frame_head(g);
            continue;
        }
        size_t step = MIN(g->length - g->taken, (size_t)(end - p));
        if (step && g->taken < sizeof(g->payload))
            memcpy(g->payload + g->taken, p, MIN(step, sizeof(g->payload) - g->taken));
        g->taken += step;
        g->total += step;
        p += step;
        if (g->total > TOTAL_MAX) {
            judge(g, err_long_answer);
        } else if (g->taken < g->length) {
            break;
        } else {
            g->n_head = 0;
            on_frame(g, reply);
        }
    }
    return g->state == READY_GRPC_JUDGED;
}
