/*
 * tls_map.c - the map from names to objects that TLS looks names up in at each handshake. Entries
 * come from the configuration and the issuers only, never from a client, so a plain hash will do.
 */
#include "proxy/tls_parts.h"

#include <stdlib.h>

static uint32_t hash_of(struct str key) /* FNV-1a */
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < key.n; i++)
        h = (h ^ (uint8_t)key.p[i]) * 16777619u;
    return h;
}

/* The slot that holds the key, or the free one where it belongs. */
static struct tls_map_slot *find(const struct tls_map *m, struct str key, uint32_t hash)
{
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct tls_map_slot *s = &m->v[i];
        if (!s->key || (s->hash == hash && s->n == key.n && memcmp(s->key, key.p, key.n) == 0))
            return s;
    }
}

static void grow(struct tls_map *m)
{
    struct tls_map bigger = {.n = m->n, .cap = m->cap ? m->cap * 2 : 16};
    bigger.v = calloc(bigger.cap, sizeof *bigger.v);
    ASSERT(bigger.v);
    for (size_t i = 0; i < m->cap; i++) {
        const struct tls_map_slot *s = &m->v[i];
        if (s->key)
            *find(&bigger, (struct str){s->key, s->n}, s->hash) = *s;
    }
    free(m->v);
    *m = bigger;
}

void *tls_map_get(const struct tls_map *m, struct str key)
{
    return m->n && key.n ? find(m, key, hash_of(key))->value : NULL;
}

void *tls_map_put(struct tls_map *m, struct str key, void *value)
{
    ASSERT(key.n > 0 && key.n <= UINT32_MAX && value);
    if ((m->n + 1) * 2 > m->cap)
        grow(m);
    uint32_t hash = hash_of(key);
    struct tls_map_slot *s = find(m, key, hash);
    void *old = s->value;
    if (!s->key)
        m->n++;
    *s = (struct tls_map_slot){key.p, (uint32_t)key.n, hash, value};
    return old;
}

void tls_map_del(struct tls_map *m, struct str key)
{
    if (!m->n)
        return;
    struct tls_map_slot *gap = find(m, key, hash_of(key));
    if (!gap->key)
        return;
    m->n--;
    /* What follows moves up into the gap, unless its own place lies behind the gap. */
    size_t mask = m->cap - 1, at = (size_t)(gap - m->v);
    for (size_t i = (at + 1) & mask; m->v[i].key; i = (i + 1) & mask) {
        size_t home = m->v[i].hash & mask;
        if (((i - home) & mask) >= ((i - at) & mask)) {
            m->v[at] = m->v[i];
            at = i;
        }
    }
    m->v[at] = (struct tls_map_slot){0};
}

void tls_map_fini(struct tls_map *m)
{
    free(m->v);
    *m = (struct tls_map){0};
}
