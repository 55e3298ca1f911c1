/*
 * source.h - every look a load takes at the world outside goes through here: from the file system
 * it is done and recorded, from a bundle it is replayed. Private to conf/.
 */
#ifndef HG_CONF_SOURCE_H
#define HG_CONF_SOURCE_H

#include "conf/conf.h"

/* Facts of the machine and of the process. */
enum source_fact { FACT_ROOT, FACT_CPUS };

struct source_user {
    uid_t uid;
    gid_t gid;
};

enum source_want {
    WANT_FOLDER,  /* a folder that the user can list and enter */
    WANT_PROGRAM, /* a file that can be executed */
};

/* The main file: as given by the user, and absolute. */
struct str source_file(const struct conf_source *s);
struct str source_file_abs(struct conf_source *s);

/* Strings last as long as the source. Sentences for people in the returned errors; NULL is fine. */
const char *source_read(struct conf_source *s, const char *path, size_t max,
                        struct str *out) MUST_USE;
/* Paths that match, each ended by NUL, sorted. */
struct str source_glob(struct conf_source *s, const char *pattern);
/* The same two for tls.certificates, whose files may be read anew (conf_source_certs_anew). */
const char *source_read_cert(struct conf_source *s, const char *path, size_t max,
                             struct str *out) MUST_USE;
struct str source_glob_cert(struct conf_source *s, const char *pattern);
bool source_env(struct conf_source *s, const char *name, struct str *out);
bool source_user(struct conf_source *s, const char *name, struct source_user *out);
bool source_group(struct conf_source *s, const char *name, gid_t *out);
uint64_t source_fact(struct conf_source *s, enum source_fact f);
/* Absolute path of a program: looked up in PATH when its name has no slash. */
const char *source_which(struct conf_source *s, const char *name, struct str *out) MUST_USE;
/* NULL when path is what is wanted; for the user named, whose ids are uid and gid; uid -1: as we
 * are. */
const char *source_path(struct conf_source *s, const char *path, enum source_want want,
                        const char *user, uid_t uid, gid_t gid) MUST_USE;

/* A source that holds one file and nothing else: tests and fuzzing. Everything else is missing. */
/* Instead of a look at the machine: tests and fuzzing. */
void source_preset_fact(struct conf_source *s, enum source_fact f, uint64_t value);
struct conf_source *source_memory(const char *file, struct str text);

#endif
