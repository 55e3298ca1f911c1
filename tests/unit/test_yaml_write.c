/*
 * test_yaml_write.c - what yaml_scalar writes reads back as the same text, by libyaml itself, at
 * every place of a configuration: chosen texts that mean something to YAML, and random ones.
 */
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <yaml.h>

#include "conf/yaml_write.h"

/* The only scalar of a document that is not the key `k`. */
static struct str read_back(struct arena *a, struct str document)
{
    struct str found = STR_NULL;
    yaml_parser_t parser;
    assert_int_equal(yaml_parser_initialize(&parser), 1);
    yaml_parser_set_input_string(&parser, (const unsigned char *)document.p, document.n);
    for (bool done = false; !done;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            print_message("%s: " STR_FMT "\n", parser.problem, STR_ARG(document));
            fail();
        }
        if (event.type == YAML_SCALAR_EVENT) {
            struct str v = {(char *)event.data.scalar.value, event.data.scalar.length};
            if (!str_eq(v, STR("k"))) {
                assert_null(found.p);
                found = arena_str(a, v);
            }
        }
        done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return found;
}

static void holds(struct str text)
{
    static const char *const places[] = {"k: %s\n", "k: { k: %s }\n", "k: [%s, k]\n", "%s: k\n",
                                         "%s\n",    "k: %s # k\n",    "- %s\n",       "{%s: k}\n"};
    struct arena *a = arena_new(4096);
    struct str scalar = yaml_scalar(a, text);
    assert_non_null(scalar.p);
    assert_int_equal(scalar.p[scalar.n], 0);
    assert_null(memchr(scalar.p, '\n', scalar.n));
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (strchr(places[i], '%') == places[i] && scalar.n > 1000)
            continue; /* keys may not be longer, in YAML */
        const char *at = strstr(places[i], "%s");
        struct str doc = arena_fmt(a, "%.*s" STR_FMT "%s", (int)(at - places[i]), places[i],
                                   STR_ARG(scalar), at + 2);
        struct str back = read_back(a, doc);
        if (!str_eq(back, text)) {
            print_message("wrote " STR_FMT "\nread " STR_FMT "\n", STR_ARG(doc), STR_ARG(back));
            fail();
        }
    }
    arena_free(&a);
}

static void test_chosen(void **state)
{
    (void)state;
    static const struct str texts[] = {
        STR(""),
        STR("plain"),
        STR("a b"),
        STR(" a "),
        STR("*"),
        STR("*.example.org"),
        STR("&a"),
        STR("#"),
        STR("a #b"),
        STR("a#b"),
        STR("!tag"),
        STR("|"),
        STR(">"),
        STR("%"),
        STR("@"),
        STR("`"),
        STR("-"),
        STR("--"),
        STR("---"),
        STR("--- a"),
        STR("..."),
        STR("... b"),
        STR("?"),
        STR(": "),
        STR("a:"),
        STR("a: b"),
        STR(":a"),
        STR("a:b"),
        STR("http://127.0.0.1:3000"),
        STR("{"),
        STR("}"),
        STR("["),
        STR("]"),
        STR(","),
        STR("a,b"),
        STR("'"),
        STR("\""),
        STR("it's"),
        STR("\\"),
        STR("\\n"),
        STR("\n"),
        STR("a\nb"),
        STR("\r\n"),
        STR("\t"),
        STR("\x01"),
        STR("\x1b[31m"),
        STR("\x7f"),
        STR("ü"),
        STR("名前"),
        STR("\U0001F600"),
        STR("\xc2\x85"),
        STR("\u00a0"),
        STR("\u2028"),
        STR("\u2029"),
        STR("\ufeff"),
        STR("\uffff"),
        STR("\u202egpj.exe"),
        STR("~"),
        STR("null"),
        STR("true"),
        STR("1.10"),
        STR("0x1"),
        STR("<<"),
        STR("="),
        STR("$listen"),
        STR("$$"),
        STR("--listen=$listen"),
        STR("-x"),
        STR("--host"),
        STR(".a"),
        STR("/srv/a b/ü*#\"'\n"),
        STR("a "),
        STR("%YAML 1.1"),
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        holds(texts[i]);
}

static void test_random(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "a", "Z9", " ",  "\n", "\"",     "'",        "\\",     "#",  ":",    ",", "-",
        "*", "&",  "{",  "}",  "[",      "]",        "$",      "\t", "\x02", "ü", "?",
        "!", "%",  "--", "|",  "\u2028", "\xc2\x85", "\ufeff", "名", "."};
    uint32_t seed = 1;
    for (unsigned round = 0; round < 3000; round++) {
        char text[64];
        struct out o = out_on(text, sizeof(text));
        for (unsigned k = round % 12; k > 0; k--) {
            seed = seed * 1664525u + 1013904223u;
            out_str(&o, str_of(pieces[(seed >> 16) % ARRAY_LEN(pieces)]));
        }
        assert_false(o.over);
        if (!str_eq(out_done(&o), STR("k")))
            holds(out_done(&o));
    }
}

static void test_impossible(void **state)
{
    (void)state;
    struct arena *a = arena_new(1024);
    assert_null(yaml_scalar(a, STR("a\0b")).p);
    assert_null(yaml_scalar(a, STR("\xff")).p);
    assert_null(yaml_scalar(a, STR("caf\xe9")).p);
    assert_null(yaml_scalar(a, STR("\xed\xa0\x80")).p); /* half of a surrogate pair */
    arena_free(&a);
}

static void test_plain_where_it_may(void **state)
{
    (void)state;
    struct arena *a = arena_new(1024);
    static const char *const plain[] = {
        "/srv/app", "--listen", "$listen", "a.example.org", "http://127.0.0.1:3000", "-x"};
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        assert_string_equal(yaml_scalar(a, str_of(plain[i])).p, plain[i]);
    assert_string_equal(yaml_scalar(a, STR("*")).p, "\"*\"");
    assert_string_equal(yaml_scalar_literal(a, STR("/a$b")).p, "/a$$b");
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chosen),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_impossible),
        cmocka_unit_test(test_plain_where_it_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
