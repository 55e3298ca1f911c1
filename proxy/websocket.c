/*
 * websocket.c - see websocket.h.
 */
#include "proxy/websocket.h"

#include <openssl/sha.h>

#include "proxy/base64.h"

#define KEY_BYTES 16

bool websocket_is_token(struct str protocol)
{
    return str_ieq(protocol, STR("websocket"));
}

struct str websocket_field(const struct fields *f, struct str name)
{
    for (unsigned i = 0; i < f->n; i++)
        if (str_eq(f->v[i].name, name))
            return f->v[i].value;
    return STR_NULL;
}

static unsigned count(const struct fields *f, struct str name)
{
    unsigned n = 0;
    for (unsigned i = 0; i < f->n; i++)
        n += str_eq(f->v[i].name, name);
    return n;
}

static bool key_valid(struct str key)
{
    struct base64_decoder d = {0};
    uint8_t bytes[WEBSOCKET_KEY_SIZE];
    struct out o = out_on((char *)bytes, sizeof(bytes));
    return key.n == WEBSOCKET_KEY_SIZE && base64_decode(&d, (const uint8_t *)key.p, key.n, &o) &&
           base64_decode_complete(&d) && o.n == KEY_BYTES;
}

const char *websocket_request_check(const struct fields *f, bool keyed,
                                    struct websocket_request *out)
{
    const struct str key = STR("sec-websocket-key"), version = STR("sec-websocket-version");
    *out = (struct websocket_request){.key = websocket_field(f, key)};
    if (count(f, version) != 1)
        return "a WebSocket request needs one Sec-WebSocket-Version";
    out->other_version = !str_eq(websocket_field(f, version), STR("13"));
    if (out->other_version)
        return "a Sec-WebSocket-Version other than 13";
    if (keyed && count(f, key) != 1)
        return "a WebSocket request needs one Sec-WebSocket-Key";
    if (keyed && !key_valid(out->key))
        return "Sec-WebSocket-Key is not 16 bytes in base64";
    return NULL;
}

/* Whole, padded; `size` is as many characters as it makes. */
static void base64_of(const uint8_t *p, size_t n, char *to, size_t size)
{
    struct base64_encoder e = {0};
    struct out o = out_on(to, size);
    base64_encode(&e, p, n, &o);
    base64_encode_pad(&e, &o);
    ASSERT(!o.over && o.n == size);
}

void websocket_key_new(char key[static WEBSOCKET_KEY_SIZE])
{
    uint8_t bytes[KEY_BYTES];
    random_bytes(bytes, sizeof(bytes));
    base64_of(bytes, sizeof(bytes), key, WEBSOCKET_KEY_SIZE);
}

void websocket_accept(struct str key, char accept[static WEBSOCKET_ACCEPT_SIZE])
{
    static const char suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 1.3 */
    char text[WEBSOCKET_KEY_SIZE + sizeof(suffix)];
    uint8_t digest[SHA_DIGEST_LENGTH];
    struct out o = out_on(text, sizeof(text));
    out_str(&o, key);
    out_str(&o, str_of(suffix));
    ASSERT(!o.over);
    SHA1((const uint8_t *)text, o.n, digest);
    base64_of(digest, sizeof(digest), accept, WEBSOCKET_ACCEPT_SIZE);
}

/* ---- frames ---- */

enum { OPCODE = 0x0f, OPCODE_CLOSE = 0x8, MASKED = 0x80, LENGTH = 0x7f };

static unsigned length_bytes(const uint8_t *head)
{
    unsigned length = head[1] & LENGTH;
    return length == 127 ? 8 : length == 126 ? 2 : 0;
}

/* Bytes of the head; as much of it as is known after `have` bytes. */
static unsigned head_size(const uint8_t *head, unsigned have)
{
    return have < 2 ? 2 : 2 + length_bytes(head) + ((head[1] & MASKED) ? 4 : 0);
}

static uint64_t payload_size(const uint8_t *head)
{
    unsigned n = length_bytes(head);
    uint64_t size = n ? 0 : head[1] & LENGTH;
    for (unsigned i = 0; i < n; i++)
        size = size << 8 | head[2 + i];
    return size;
}

size_t websocket_frames_step(struct websocket_frames *f, const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (!f->left && i < n) {
        f->head[f->have++] = p[i++];
        if (f->have < head_size(f->head, f->have))
            continue;
        f->left = payload_size(f->head);
        f->close = (f->head[0] & OPCODE) == OPCODE_CLOSE;
        f->have = 0;
        if (!f->left)
            return i;
    }
    size_t some = (size_t)MIN(f->left, (uint64_t)(n - i));
    f->left -= some;
    return i + some;
}

void websocket_frames_feed(struct websocket_frames *f, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;)
        i += websocket_frames_step(f, p + i, n - i);
}

const uint8_t websocket_close_restart[4] = {0x80 | OPCODE_CLOSE, 2, 1012 >> 8, 1012 & 0xff};

const char *websocket_answer_check(const struct fields *f, struct str upgrade, struct str key)
{
    const struct str name = STR("sec-websocket-accept");
    char accept[WEBSOCKET_ACCEPT_SIZE];
    if (!websocket_is_token(upgrade))
        return "the backend switched to another protocol than WebSocket";
    websocket_accept(key, accept);
    if (count(f, name) != 1 ||
        !str_eq(websocket_field(f, name), (struct str){accept, sizeof(accept)}))
        return "the backend's Sec-WebSocket-Accept does not fit the key";
    return NULL;
}
