/*
 * trust.c - the stores that a root certificate can be put into, and the tools that do it. Tools are
 * executed as they are, found in the system's folders alone, with an environment of our making:
 * this runs as root.
 */
#include "acme/trust.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "acme/pem.h"
#include "base/file.h"
#include "base/proc.h"

#define PEM_MAX    (64 * 1024)
#define BUNDLE_MAX (16 * 1024 * 1024)
#define OUTPUT_MAX (256 * 1024) /* of a tool */
#define SHOWN_MAX  400          /* of that, in a message: its end */
#define STEPS_MAX  64
#define TOOL_PATH  "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* ---- the certificate ---- */

static const char *name_of(struct arena *a, const X509 *x)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    char hex[16];
    struct out o = out_on(hex, sizeof(hex));
    ASSERT(X509_digest(x, EVP_sha256(), sum, &n) == 1 && n >= 8);
    for (unsigned i = 0; i < 8; i++)
        out_hex(&o, sum[i], 2);
    return arena_fmt(a, "headgate-local-ca-" STR_FMT, STR_ARG(out_done(&o))).p;
}

static const char *common_name(struct arena *a, const X509 *x)
{
    char text[128];
    if (X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, text, sizeof(text)) < 0)
        return "(no name)";
    for (char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    return arena_strz(a, str_of(text));
}

static const char *judge(struct arena *a, const char *path, X509 *x)
{
    if (!x)
        return arena_fmt(a, "%s holds no certificate", path).p;
    if (X509_check_ca(x) != 1 || X509_check_issued(x, x) != X509_V_OK)
        return arena_fmt(a, "%s is not the root certificate of a CA", path).p;
    if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
        return arena_fmt(a, "%s has expired: headgate makes a new one at its next start", path).p;
    return NULL;
}

const char *trust_cert_read(struct arena *a, const char *path, struct trust_cert *out)
{
    struct str text;
    const char *err = file_read(a, path, PEM_MAX, &text);
    if (err)
        return err;
    X509 *x = pem_cert(text);
    err = judge(a, path, x);
    ERR_clear_error();
    if (!err)
        *out = (struct trust_cert){path, pem_of_cert(a, x), name_of(a, x), common_name(a, x)};
    X509_free(x);
    return err;
}

/* ---- tools ---- */

struct run {
    const char *const *argv; /* argv[0] absolute, NULL at the end */
    struct str input;
    const struct trust_user *user; /* NULL: as we are */
};

static int memfd_empty(void)
{
    int fd = memfd_create("output", MFD_CLOEXEC);
    ASSERT(fd >= 0);
    return fd;
}

static struct str read_back(struct arena *a, int fd)
{
    char *text = arena_alloc(a, OUTPUT_MAX + 1);
    ssize_t n = pread(fd, text, OUTPUT_MAX, 0);
    text[MAX(n, 0)] = '\0';
    return str_trim((struct str){text, (size_t)MAX(n, 0)});
}

/* Runs it to its end. NULL when its exit status was 0; else how it failed, with what it printed. */
static const char *run_tool(struct arena *a, const struct run *r, struct str *output)
{
    static char *const no_home[] = {"PATH=" TOOL_PATH, "LC_ALL=C.UTF-8", NULL};
    char *with_home[] = {"PATH=" TOOL_PATH, "LC_ALL=C.UTF-8", NULL, NULL};
    bool as_user = r->user && r->user->uid != (uid_t)-1;
    if (r->user && r->user->home)
        with_home[2] = (char *)(uintptr_t)arena_fmt(a, "HOME=%s", r->user->home).p;
    int in = r->input.n ? file_memfd("input", r->input) : -1, out = memfd_empty(), status = 0;
    struct proc_spec spec = {.path = r->argv[0],
                             .exec_fd = -1,
                             .argv = (char *const *)(uintptr_t)r->argv,
                             .envp = r->user ? with_home : no_home,
                             .stdin_fd = in,
                             .stdout_fd = out,
                             .stderr_fd = out,
                             .uid = as_user ? r->user->uid : (uid_t)-1,
                             .gid = as_user ? r->user->gid : (gid_t)-1,
                             .die_with_parent = true};
    struct proc p;
    const char *err =
        in >= 0 && lseek(in, 0, SEEK_SET) < 0 ? "cannot hand over the certificate" : NULL;
    if (!err)
        err = proc_spawn(a, &spec, &p);
    if (in >= 0)
        close(in);
    if (!err) {
        while (waitpid(p.pid, &status, 0) < 0 && errno == EINTR)
            ;
        close(p.pidfd);
        *output = read_back(a, out);
        char how[64];
        if (status)
            err = arena_fmt(
                      a, "%s %s: " STR_FMT, r->argv[0], proc_status_text(status, how, sizeof(how)),
                      STR_ARG(str_sub(*output, output->n - MIN(output->n, SHOWN_MAX), output->n)))
                      .p;
    }
    close(out);
    return err;
}

/* ---- the system's store ---- */

static const struct system_store {
    const char *folder;    /* anchors of the administrator's own */
    const char *tool;      /* makes the bundle anew from them */
    const char *add[2];    /* its arguments; NULL: no more */
    const char *remove[2]; /* likewise, after an anchor has gone */
    const char *bundle;
} systems[] = {
    {"/usr/local/share/ca-certificates", /* Debian and its like */
     "update-ca-certificates",
     {NULL, NULL},
     {"--fresh", NULL},
     "/etc/ssl/certs/ca-certificates.crt"},
    {"/etc/pki/ca-trust/source/anchors", /* p11-kit, on Fedora and its like */
     "update-ca-trust",
     {"extract", NULL},
     {"extract", NULL},
     "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"},
};

static bool same_content(struct arena *a, const char *path, struct str want)
{
    struct str have;
    const char *err = file_read(a, path, PEM_MAX, &have);
    return !err && str_eq(have, want);
}

/* The certificate's text is what bundles are made of; comments around it differ. */
static bool in_bundle(struct arena *a, const char *path, struct str pem)
{
    struct str bundle;
    const char *err = file_read(a, path, BUNDLE_MAX, &bundle);
    return !err && memmem(bundle.p, bundle.n, pem.p, pem.n) != NULL;
}

/* A word that a shell takes as it is. */
static const char *shell_word(struct arena *a, const char *text)
{
    struct str rest = str_of(text), piece, done = STR("'");
    if (!text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+")])
        return text;
    for (bool first = true; str_split(&rest, '\'', &piece); first = false)
        done =
            arena_fmt(a, STR_FMT "%s" STR_FMT, STR_ARG(done), first ? "" : "'\\''", STR_ARG(piece));
    return arena_fmt(a, STR_FMT "'", STR_ARG(done)).p;
}

static struct trust_step no_rights(struct arena *a, const struct system_store *s,
                                   const struct trust_cert *c, const char *file, bool remove)
{
    struct trust_step step = {"system", file, TRUST_NO_RIGHTS, NULL};
    const char *word = remove ? s->remove[0] : s->add[0];
    struct str update = arena_fmt(a, "sudo %s%s%s", s->tool, word ? " " : "", word ? word : "");
    step.text = remove ? arena_fmt(a, "sudo rm -f %s\n%s", file, update.p).p
                       : arena_fmt(a, "sudo install -m 644 %s %s\n%s", shell_word(a, c->path), file,
                                   update.p)
                             .p;
    return step;
}

static struct trust_step system_apply(struct arena *a, const struct system_store *s,
                                      const char *tool, const struct trust_cert *c, bool remove)
{
    const char *file = arena_fmt(a, "%s/%s.crt", s->folder, c->name).p, *err = NULL;
    struct trust_step step = {"system", file, TRUST_WAS_SO, NULL};
    struct stat st;
    bool there = lstat(file, &st) == 0, listed = in_bundle(a, s->bundle, c->pem);
    if (remove ? !there && !listed : there && listed && same_content(a, file, c->pem))
        return step;
    if (access(s->folder, W_OK) < 0 && errno != EROFS)
        return no_rights(a, s, c, file, remove);
    if (!remove)
        err = file_write(a, file, c->pem, 0644);
    else if (there && unlink(file) < 0)
        err = file_error(a, errno, "remove", file);
    struct str output;
    const char *const *words = remove ? s->remove : s->add;
    const char *const argv[] = {tool, words[0], NULL};
    if (!err)
        err = run_tool(a, &(struct run){.argv = argv}, &output);
    step.result = err ? TRUST_FAILED : TRUST_DONE;
    step.text = err;
    return step;
}

static struct trust_step system_step(struct arena *a, const struct trust_cert *c, bool remove)
{
    struct stat st;
    for (size_t i = 0; i < ARRAY_LEN(systems); i++) {
        const char *tool = proc_which(a, systems[i].tool, TOOL_PATH);
        if (tool && stat(systems[i].folder, &st) == 0 && S_ISDIR(st.st_mode))
            return system_apply(a, &systems[i], tool, c, remove);
    }
    return (struct trust_step){"system", NULL, TRUST_NO_TOOL,
                               "neither update-ca-certificates (package ca-certificates) nor "
                               "update-ca-trust is here"};
}

/* ---- NSS: Chromium and Firefox ---- */

static const struct {
    const char *store, *path; /* below the home */
    bool profiles;            /* a database in each folder there */
} databases[] = {
    {"Chromium", ".pki/nssdb", false},
    {"Chromium", "snap/chromium/current/.pki/nssdb", false},
    {"Firefox", ".mozilla/firefox", true},
    {"Firefox", "snap/firefox/common/.mozilla/firefox", true},
    {"Firefox", ".var/app/org.mozilla.firefox/.mozilla/firefox", true},
};

struct nss {
    struct arena *a;
    const struct trust_cert *cert;
    const struct trust_user *user;
    const char *certutil; /* NULL: not installed */
    bool remove;
    struct trust_step *steps;
    unsigned n;
};

/* `words`: behind the database; NULL at the end. */
static const char *certutil(struct nss *n, const char *dir, const char *const *words,
                            struct str input, struct str *output)
{
    const char *argv[12] = {n->certutil, "-d", arena_fmt(n->a, "sql:%s", dir).p};
    for (size_t i = 0; words[i]; i++)
        argv[3 + i] = words[i];
    return run_tool(n->a, &(struct run){.argv = argv, .input = input, .user = n->user}, output);
}

/* The trust that the listing has for our name, "C,,", or empty: it is not in there. */
static struct str trust_of(struct str listing, const char *name)
{
    struct str line;
    while (str_split(&listing, '\n', &line)) {
        line = str_trim(line);
        if (!str_starts(line, str_of(name)))
            continue;
        return str_trim(str_sub(line, strlen(name), line.n));
    }
    return STR("");
}

/* NULL when all is well; *step says then what was done. */
static const char *nss_change(struct nss *n, const char *dir, struct trust_step *step)
{
    const char *name = n->cert->name, *const list[] = {"-L", NULL};
    const char *const add[] = {"-A", "-a", "-n", name, "-t", "C,,", NULL};
    const char *const del[] = {"-D", "-n", name, NULL};
    struct str output, ignored;
    const char *err = certutil(n, dir, list, STR_NULL, &output);
    if (err)
        return err;
    struct str trust = trust_of(output, name);
    if (n->remove ? !trust.n : str_starts(trust, STR("C")))
        return NULL;
    step->result = TRUST_DONE;
    if (n->remove)
        return certutil(n, dir, del, STR_NULL, &output);
    err = certutil(n, dir, add, n->cert->pem, &output);
    /* Where the trust needs a password, the certificate has come in without it. */
    const char *left = err ? certutil(n, dir, del, STR_NULL, &ignored) : NULL;
    return left ? arena_fmt(n->a, "%s; and %s", err, left).p : err;
}

static void nss_database(struct nss *n, const char *store, const char *dir)
{
    struct stat st;
    if (n->n == STEPS_MAX || stat(arena_fmt(n->a, "%s/cert9.db", dir).p, &st) < 0)
        return;
    struct trust_step *step = &n->steps[n->n++];
    *step = (struct trust_step){store, dir, TRUST_WAS_SO, NULL};
    if (!n->certutil) {
        step->result = TRUST_NO_TOOL;
        step->text = "certutil is not here (package libnss3-tools)";
        return;
    }
    step->text = nss_change(n, dir, step);
    if (step->text)
        step->result = TRUST_FAILED;
}

static void nss_profiles(struct nss *n, const char *store, const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            nss_database(n, store, arena_fmt(n->a, "%s/%s", folder, e->d_name).p);
    if (d)
        closedir(d);
}

unsigned trust_apply(struct arena *a, const struct trust_cert *c, const struct trust_user *user,
                     bool remove, struct trust_step **out)
{
    struct nss n = {.a = a,
                    .cert = c,
                    .user = user,
                    .certutil = proc_which(a, "certutil", TOOL_PATH),
                    .remove = remove,
                    .steps = arena_zarray(a, struct trust_step, STEPS_MAX)};
    n.steps[n.n++] = system_step(a, c, remove);
    for (size_t i = 0; user->home && i < ARRAY_LEN(databases); i++) {
        const char *path = arena_fmt(a, "%s/%s", user->home, databases[i].path).p;
        if (databases[i].profiles)
            nss_profiles(&n, databases[i].store, path);
        else
            nss_database(&n, databases[i].store, path);
    }
    *out = n.steps;
    return n.n;
}
