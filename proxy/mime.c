/*
 * mime.c - the table of media types (IANA's registry where it has one), sorted by extension.
 */
#include "proxy/mime.h"

#include <stdlib.h>

struct mime {
    const char *ext;
    struct str type;
};

#define TEXT(ext, type)                                                \
    {                                                                  \
        ext,                                                           \
        {                                                              \
            type "; charset=utf-8", sizeof(type "; charset=utf-8") - 1 \
        }                                                              \
    }
#define BIN(ext, type)             \
    {                              \
        ext,                       \
        {                          \
            type, sizeof(type) - 1 \
        }                          \
    }

/* clang-format off */
static const struct mime table[] = {
    BIN("7z", "application/x-7z-compressed"),
    BIN("aac", "audio/aac"),
    BIN("aasa", "application/json"),
    BIN("apk", "application/vnd.android.package-archive"),
    BIN("apng", "image/apng"),
    TEXT("asc", "text/plain"),
    BIN("atom", "application/atom+xml"),
    BIN("avi", "video/x-msvideo"),
    BIN("avif", "image/avif"),
    BIN("bin", "application/octet-stream"),
    BIN("bmp", "image/bmp"),
    BIN("br", "application/octet-stream"),
    BIN("bz2", "application/x-bzip2"),
    BIN("cer", "application/pkix-cert"),
    TEXT("conf", "text/plain"),
    BIN("crl", "application/pkix-crl"),
    BIN("crt", "application/x-x509-ca-cert"),
    TEXT("css", "text/css"),
    TEXT("csv", "text/csv"),
    BIN("dart", "application/vnd.dart"),
    BIN("deb", "application/vnd.debian.binary-package"),
    BIN("dmg", "application/x-apple-diskimage"),
    BIN("doc", "application/msword"),
    BIN("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    BIN("eot", "application/vnd.ms-fontobject"),
    BIN("epub", "application/epub+zip"),
    BIN("exe", "application/vnd.microsoft.portable-executable"),
    BIN("flac", "audio/flac"),
    BIN("geojson", "application/geo+json"),
    BIN("gif", "image/gif"),
    BIN("glb", "model/gltf-binary"),
    BIN("gltf", "model/gltf+json"),
    BIN("gz", "application/gzip"),
    BIN("heic", "image/heic"),
    TEXT("htm", "text/html"),
    TEXT("html", "text/html"),
    BIN("ico", "image/x-icon"),
    TEXT("ics", "text/calendar"),
    BIN("ipa", "application/octet-stream"),
    BIN("iso", "application/x-iso9660-image"),
    BIN("jar", "application/java-archive"),
    BIN("jpeg", "image/jpeg"),
    BIN("jpg", "image/jpeg"),
    TEXT("js", "text/javascript"),
    BIN("json", "application/json"),
    BIN("jsonld", "application/ld+json"),
    BIN("jxl", "image/jxl"),
    TEXT("log", "text/plain"),
    BIN("m3u8", "application/vnd.apple.mpegurl"),
    BIN("m4a", "audio/mp4"),
    BIN("m4v", "video/mp4"),
    BIN("map", "application/json"),
    TEXT("markdown", "text/markdown"),
    TEXT("md", "text/markdown"),
    BIN("mid", "audio/midi"),
    TEXT("mjs", "text/javascript"),
    BIN("mov", "video/quicktime"),
    BIN("mp3", "audio/mpeg"),
    BIN("mp4", "video/mp4"),
    BIN("mpeg", "video/mpeg"),
    BIN("mpg", "video/mpeg"),
    BIN("msi", "application/x-msi"),
    BIN("oga", "audio/ogg"),
    BIN("ogg", "audio/ogg"),
    BIN("ogv", "video/ogg"),
    BIN("opus", "audio/ogg"),
    BIN("otf", "font/otf"),
    BIN("pb", "application/x-protobuf"),
    BIN("pdf", "application/pdf"),
    BIN("pem", "application/x-pem-file"),
    BIN("png", "image/png"),
    BIN("ppt", "application/vnd.ms-powerpoint"),
    BIN("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    TEXT("proto", "text/plain"),
    BIN("ps", "application/postscript"),
    BIN("rar", "application/vnd.rar"),
    BIN("rpm", "application/x-rpm"),
    BIN("rss", "application/rss+xml"),
    BIN("rtf", "application/rtf"),
    TEXT("sh", "text/plain"),
    BIN("svg", "image/svg+xml"),
    BIN("tar", "application/x-tar"),
    BIN("tgz", "application/gzip"),
    BIN("tif", "image/tiff"),
    BIN("tiff", "image/tiff"),
    BIN("toml", "application/toml"),
    BIN("ts", "video/mp2t"),
    TEXT("tsv", "text/tab-separated-values"),
    BIN("ttf", "font/ttf"),
    TEXT("txt", "text/plain"),
    TEXT("vcf", "text/vcard"),
    TEXT("vtt", "text/vtt"),
    BIN("wasm", "application/wasm"),
    BIN("wav", "audio/wav"),
    BIN("weba", "audio/webm"),
    BIN("webm", "video/webm"),
    BIN("webmanifest", "application/manifest+json"),
    BIN("webp", "image/webp"),
    BIN("woff", "font/woff"),
    BIN("woff2", "font/woff2"),
    BIN("xhtml", "application/xhtml+xml"),
    BIN("xls", "application/vnd.ms-excel"),
    BIN("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    BIN("xml", "application/xml"),
    BIN("xsl", "application/xslt+xml"),
    BIN("xz", "application/x-xz"),
    BIN("yaml", "application/yaml"),
    BIN("yml", "application/yaml"),
    BIN("zip", "application/zip"),
    BIN("zst", "application/zstd"),
};
/* clang-format on */

#define EXT_MAX 12 /* longer than the longest above */

static int by_ext(const void *key, const void *entry)
{
    return strcmp(key, ((const struct mime *)entry)->ext);
}

struct str mime_type(struct str name)
{
    char ext[EXT_MAX];
    const struct str unknown = STR("application/octet-stream");
    const char *slash = memrchr(name.p ? name.p : "", '/', name.n);
    if (slash)
        name = str_sub(name, (size_t)(slash - name.p) + 1, name.n);
    if (str_eq(name, STR("apple-app-site-association"))) /* has no extension, must be JSON */
        return STR("application/json");
    const char *dot = memrchr(name.p ? name.p : "", '.', name.n);
    if (!dot)
        return unknown;
    struct str e = str_sub(name, (size_t)(dot - name.p) + 1, name.n);
    if (e.n == 0 || e.n >= sizeof(ext) || memchr(e.p, '\0', e.n))
        return unknown;
    for (size_t i = 0; i < e.n; i++)
        ext[i] = ascii_lower(e.p[i]);
    ext[e.n] = '\0';
    const struct mime *m = bsearch(ext, table, ARRAY_LEN(table), sizeof(table[0]), by_ext);
    return m ? m->type : unknown;
}
