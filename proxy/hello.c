/*
 * hello.c - a strict reader of one ClientHello: lengths must add up exactly, everywhere.
 */
#include "proxy/hello.h"

enum {
    RECORD_HEAD = 5,
    RECORD_MAX = 16384, /* of plain text (RFC 8446 5.1) */
    HANDSHAKE = 22,
    MESSAGE_HEAD = 4,
    CLIENT_HELLO = 1,
    RANDOM = 32,
    SESSION_ID_MAX = 32,
    EXT_SERVER_NAME = 0,
    NAME_HOST = 0
};

static unsigned byte_at(struct str s, size_t i)
{
    return (uint8_t)s.p[i];
}

/* The next n bytes off the front of *in. */
static bool take(struct str *in, size_t n, struct str *out)
{
    if (in->n < n)
        return false;
    *out = str_sub(*in, 0, n);
    *in = str_sub(*in, n, in->n);
    return true;
}

/* A length of `size` bytes, and as many bytes as it says. */
static bool take_vector(struct str *in, unsigned size, struct str *out)
{
    struct str head;
    size_t n = 0;
    if (!take(in, size, &head))
        return false;
    for (unsigned i = 0; i < size; i++)
        n = n << 8 | byte_at(head, i);
    return take(in, n, out);
}

/* ---- records → the message ---- */

/* What is there of a record's head; its length in *n once it is whole. */
static enum hello_verdict record_head(struct str in, size_t *n)
{
    if ((in.n > 0 && byte_at(in, 0) != HANDSHAKE) || (in.n > 1 && byte_at(in, 1) != 3))
        return HELLO_BAD;
    if (in.n < RECORD_HEAD)
        return HELLO_MORE;
    *n = byte_at(in, 3) << 8 | byte_at(in, 4);
    return *n > 0 && *n <= RECORD_MAX ? HELLO_WHOLE : HELLO_BAD;
}

/* The message's length with its head, as far as what came of it says; 0: not yet. */
static enum hello_verdict message_length(struct str msg, size_t *n)
{
    *n = 0;
    if (msg.n > 0 && byte_at(msg, 0) != CLIENT_HELLO)
        return HELLO_BAD;
    if (msg.n < MESSAGE_HEAD)
        return HELLO_MORE;
    *n = MESSAGE_HEAD + (byte_at(msg, 1) << 16 | byte_at(msg, 2) << 8 | byte_at(msg, 3));
    return *n <= HELLO_MAX ? HELLO_WHOLE : HELLO_BAD;
}

/* The message without the records around it, in `o`, whose room is HELLO_MAX. */
static enum hello_verdict unwrap(struct str in, struct out *o)
{
    size_t promised = 0; /* bytes of the message in the records whose heads came */
    for (;;) {
        size_t record = 0, whole;
        enum hello_verdict v = record_head(in, &record);
        if (v != HELLO_WHOLE)
            return v;
        in = str_sub(in, RECORD_HEAD, in.n);
        out_str(o, str_sub(in, 0, record));
        promised += record;
        if (o->over || message_length(out_done(o), &whole) == HELLO_BAD)
            return HELLO_BAD;
        /* Another message in the same record: no client begins like that. */
        if (whole && promised > whole)
            return HELLO_BAD;
        if (in.n < record)
            return HELLO_MORE;
        if (promised == whole)
            return HELLO_WHOLE;
        in = str_sub(in, record, in.n);
    }
}

/* ---- the message ---- */

/* RFC 6066 3: one name of one kind; an empty one is none. */
static bool server_name(struct str ext, char mem[static 256], struct str *name)
{
    struct str list, kind, host;
    if (!take_vector(&ext, 2, &list) || ext.n || !take(&list, 1, &kind) ||
        byte_at(kind, 0) != NAME_HOST || !take_vector(&list, 2, &host) || list.n || !host.n ||
        host.n > 255)
        return false;
    memcpy(mem, host.p, host.n);
    *name = (struct str){mem, host.n};
    return true;
}

static bool extensions(struct str in, char mem[static 256], struct str *name)
{
    struct str type, data;
    bool named = false;
    while (in.n) {
        if (!take(&in, 2, &type) || !take_vector(&in, 2, &data))
            return false;
        if (byte_at(type, 0) != 0 || byte_at(type, 1) != EXT_SERVER_NAME)
            continue;
        if (named || !server_name(data, mem, name))
            return false;
        named = true;
    }
    return true;
}

static bool client_hello(struct str in, char mem[static 256], struct str *name)
{
    struct str version, random, session, ciphers, compression, ext;
    if (!take(&in, 2, &version) || byte_at(version, 0) != 3 || !take(&in, RANDOM, &random) ||
        !take_vector(&in, 1, &session) || session.n > SESSION_ID_MAX ||
        !take_vector(&in, 2, &ciphers) || !ciphers.n || ciphers.n % 2 ||
        !take_vector(&in, 1, &compression) || !compression.n)
        return false;
    if (!in.n)
        return true; /* TLS 1.2 without extensions */
    return take_vector(&in, 2, &ext) && !in.n && extensions(ext, mem, name);
}

enum hello_verdict hello_name(struct str bytes, char mem[static 256], struct str *name)
{
    char text[HELLO_MAX];
    struct out o = out_on(text, sizeof(text));
    *name = STR_NULL;
    enum hello_verdict v = unwrap(str_sub(bytes, 0, HELLO_MAX), &o);
    if (v == HELLO_MORE && bytes.n >= HELLO_MAX)
        return HELLO_BAD;
    if (v != HELLO_WHOLE)
        return v;
    if (client_hello(str_sub(out_done(&o), MESSAGE_HEAD, o.n), mem, name))
        return HELLO_WHOLE;
    *name = STR_NULL;
    return HELLO_BAD;
}
