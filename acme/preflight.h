/*
 * preflight.h - would a CA find this host? Before the first order: does the name resolve here, A
 * and AAAA, and do the ports answer? Looks from here can be wrong (NAT, split DNS): a verdict says
 * whether it is sure.
 */
#ifndef HG_PREFLIGHT_H
#define HG_PREFLIGHT_H

#include "base/arena.h"

enum preflight_result {
    PREFLIGHT_FINE,
    PREFLIGHT_UNSURE, /* something looks wrong, and may look so from here only */
    PREFLIGHT_BAD,    /* no such name, or each of its addresses answers as somebody else */
};
struct preflight_verdict {
    enum preflight_result result;
    char text[1024]; /* for people; "" when fine: "beta.example.org resolves to 203.0.113.9, which
                        is not this host; its AAAA 2001:db8::1 does not answer on port 80" */
};
/* Copied. */
struct preflight_spec {
    struct str host; /* no wildcard: no CA looks at those */
    /* Which must answer, 0: none. The first is HTTP's, and where probe_path is asked for; the
     * second is only connected to. */
    uint16_t ports[2];
    /* Path, and what the answer of this very server on http://host/PATH has in its body, 16 bytes
     * or more that nobody else knows; empty: not tried. Tells a foreign server behind the name from
     * ours. */
    struct str probe_path, probe_body;
};
struct preflight;
/*
 * `done` is called once, never before this returned; the preflight is closed by itself afterwards,
 * the verdict borrowed. 16 are at work at once, each for at most 35 s.
 */
struct preflight *preflight_start(const struct preflight_spec *spec,
                                  void (*done)(void *ctx, const struct preflight_verdict *v),
                                  void *ctx);
void preflight_close(struct preflight **p); /* `done` is not called any more; fine on NULL */

#endif
