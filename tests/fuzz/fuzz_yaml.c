/*
 * fuzz_yaml.c - any bytes as a configuration file: reading ends, diagnostics can be printed in
 * every form, and what loads gives the same configuration again from its own bundle.
 */
#include <stdio.h>
#include <stdlib.h>

#include "conf/conf.h"
#include "conf/source.h"

static void print_all(const struct diags *d)
{
    static const enum diag_format formats[] = {DIAG_TEXT, DIAG_SHORT, DIAG_JSON};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);
        ASSERT(f);
        diags_print(d, formats[i], i == 0, f);
        diags_summary(d, f);
        ASSERT(fclose(f) == 0);
        ASSERT(!memchr(text, 0, n));
        free(text);
    }
}

static void load_again(const struct conf *c, const struct conf_source *s, unsigned flags)
{
    struct arena *a = arena_new(4096);
    const char *err;
    struct conf_source *copy = conf_source_bundle(conf_bundle(a, s), &err);
    ASSERT(copy);
    struct diags *d = diags_new();
    struct conf *again = conf_load(copy, flags, d);
    ASSERT(again);
    ASSERT(str_eq(again->digest, c->digest));
    ASSERT(again->n_sites == c->n_sites && again->n_services == c->n_services);
    for (unsigned i = 0; i < c->n_services; i++)
        ASSERT(str_eq(again->services[i].digest, c->services[i].digest));
    conf_unref(&again);
    diags_free(&d);
    conf_source_close(&copy);
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    unsigned flags = n & 1 ? CONF_OFFLINE : 0;
    struct conf_source *s = source_memory("fuzz.yaml", (struct str){(const char *)data, n});
    source_preset_fact(s, FACT_ROOT, 0);
    source_preset_fact(s, FACT_CPUS, 2);
    struct diags *d = diags_new();
    struct conf *c = conf_load(s, flags, d);
    ASSERT((c != NULL) == (diags_errors(d) == 0));
    print_all(d);
    if (c)
        load_again(c, s, flags);
    conf_unref(&c);
    diags_free(&d);
    conf_source_close(&s);
    return 0;
}
