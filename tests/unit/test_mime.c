/*
 * test_mime.c - media types by file name; the table's order, which the search relies on, shows in
 * that every entry is found.
 */
#include "proxy/mime.h"

#include <setjmp.h>

#include <cmocka.h>

static const char *of(const char *name)
{
    return mime_type(str_of(name)).p;
}

static void test_types(void **state)
{
    (void)state;
    assert_string_equal(of("index.html"), "text/html; charset=utf-8");
    assert_string_equal(of("a/b/INDEX.HTM"), "text/html; charset=utf-8");
    assert_string_equal(of("main.dart.js"), "text/javascript; charset=utf-8");
    assert_string_equal(of("x.mjs"), "text/javascript; charset=utf-8");
    assert_string_equal(of("canvaskit.wasm"), "application/wasm");
    assert_string_equal(of("x.json"), "application/json");
    assert_string_equal(of("main.js.map"), "application/json");
    assert_string_equal(of("x.svg"), "image/svg+xml");
    assert_string_equal(of("x.woff2"), "font/woff2");
    assert_string_equal(of("x.woff"), "font/woff");
    assert_string_equal(of("app.webmanifest"), "application/manifest+json");
    assert_string_equal(of("x.tar.gz"), "application/gzip");
    assert_string_equal(of("x.css"), "text/css; charset=utf-8");
    assert_string_equal(of("x.avi"), "video/x-msvideo");
    assert_string_equal(of("x.avif"), "image/avif");
    assert_string_equal(of("x.txt"), "text/plain; charset=utf-8");
    assert_string_equal(of("x.7z"), "application/x-7z-compressed");
    assert_string_equal(of("x.zst"), "application/zstd");
    assert_string_equal(of(".well-known/apple-app-site-association"), "application/json");
}

static void test_unknown(void **state)
{
    (void)state;
    static const char *const names[] = {
        "", "x", "x.", "x.unknown", "a.b/c", "html", "x.a-very-long-extension", "x.js/"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_string_equal(of(names[i]), "application/octet-stream");
    assert_string_equal(mime_type(STR("x.js\0")).p, "application/octet-stream");
    assert_string_equal(mime_type(STR_NULL).p, "application/octet-stream");
}

static void test_sorted(void **state)
{
    (void)state;
    static const char *const exts[] = {
        "aac",  "apk",  "apng", "asc", "atom", "bin",  "bmp", "br",   "bz2",  "cer",
        "conf", "crl",  "crt",  "csv", "deb",  "dmg",  "doc", "docx", "eot",  "epub",
        "exe",  "flac", "gif",  "glb", "ico",  "ics",  "iso", "jar",  "jpeg", "jpg",
        "jxl",  "log",  "m3u8", "md",  "mid",  "mov",  "mp3", "mp4",  "mpeg", "mpg",
        "msi",  "oga",  "ogg",  "ogv", "opus", "otf",  "pb",  "pdf",  "pem",  "png",
        "ppt",  "pptx", "rar",  "rpm", "rss",  "rtf",  "sh",  "tar",  "tgz",  "tif",
        "ts",   "toml", "tsv",  "ttf", "vcf",  "vtt",  "wav", "webm", "webp", "xhtml",
        "xls",  "xlsx", "xml",  "xsl", "xz",   "yaml", "yml", "zip",
    };
    for (size_t i = 0; i < ARRAY_LEN(exts); i++) {
        char name[16] = "x.";
        memcpy(name + 2, exts[i], strlen(exts[i]) + 1);
        if (strcmp(exts[i], "bin") == 0 || strcmp(exts[i], "br") == 0)
            continue; /* known, and nevertheless just bytes */
        if (strcmp(of(name), "application/octet-stream") == 0)
            fail_msg("%s is not found: is the table sorted?", exts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
