/*
 * cli_trust.c - `headgate trust`: whose stores, and how what was done reads. The stores themselves
 * are acme/trust.c's.
 */
#include "proxy/cli.h"

#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "acme/trust.h"
#include "proxy/admin.h"

static bool id_of(const char *variable, uint32_t *id)
{
    uint64_t n;
    const char *text = getenv(variable);
    if (!text || !str_u64(str_of(text), &n) || n >= UINT32_MAX)
        return false;
    *id = (uint32_t)n;
    return true;
}

/* Who called sudo has the browsers, and root must not write into their home. */
static struct trust_user calling_user(struct arena *a)
{
    struct passwd pw, *found = NULL;
    char *buf = arena_alloc(a, 4096);
    struct trust_user u = {.home = getenv("HOME"), .uid = (uid_t)-1, .gid = (gid_t)-1};
    if (geteuid() == 0 && id_of("SUDO_UID", &u.uid) && id_of("SUDO_GID", &u.gid) && u.uid != 0) {
        int failed = getpwuid_r(u.uid, &pw, buf, 4096, &found);
        u.home = !failed && found ? found->pw_dir : NULL;
    } else {
        u.uid = (uid_t)-1;
        u.gid = (gid_t)-1;
    }
    if (u.home && u.home[0] != '/')
        u.home = NULL;
    return u;
}

static void print_step(const struct trust_step *s, bool remove)
{
    const char *words[] = {
        [TRUST_DONE] = remove ? "removed" : "trusted from now on",
        [TRUST_WAS_SO] = remove ? "was not there" : "was trusted already",
        [TRUST_NO_TOOL] = "left out",
        [TRUST_NO_RIGHTS] = "needs rights that you do not have here; run",
        [TRUST_FAILED] = "failed",
    };
    bool bad = s->result == TRUST_NO_RIGHTS || s->result == TRUST_FAILED;
    FILE *f = bad ? stderr : stdout;
    fflush(stdout);
    fprintf(f, "%s", s->store);
    if (s->place)
        fprintf(f, " (%s)", s->place);
    fprintf(f, ": %s", words[s->result]);
    struct str rest = str_of(s->text), line;
    if (s->result == TRUST_NO_RIGHTS) {
        fputs(":\n", f);
        while (str_split(&rest, '\n', &line))
            fprintf(f, "    " STR_FMT "\n", STR_ARG(line));
    } else {
        fprintf(f, "%s%s\n", s->text ? ": " : "", s->text ? s->text : "");
    }
}

int cli_verb_trust(struct cli *c)
{
    const char *err = NULL, *state = cli_state_folder(c, &err);
    struct trust_cert cert;
    struct trust_step *steps;
    int status = ADMIN_FINE;
    if (!state) {
        fprintf(stderr, "headgate: %s\n", err);
        return ADMIN_FAILED;
    }
    const char *path = arena_fmt(c->arena, "%s/ca/root.crt", state).p;
    if (access(path, F_OK) < 0 && errno == ENOENT) {
        fprintf(
            stderr,
            "headgate: there is no local CA yet at %s: the server makes it when it first serves "
            "a host that needs it\n",
            path);
        return ADMIN_FAILED;
    }
    err = trust_cert_read(c->arena, path, &cert);
    if (err) {
        fprintf(stderr, "headgate: %s\n", err);
        return ADMIN_FAILED;
    }
    struct trust_user user = calling_user(c->arena);
    unsigned n = trust_apply(c->arena, &cert, &user, c->uninstall, &steps);
    printf("%s (%s)\n", cert.common_name, cert.path);
    bool changed = false;
    for (unsigned i = 0; i < n; i++) {
        print_step(&steps[i], c->uninstall);
        if (steps[i].result == TRUST_FAILED || steps[i].result == TRUST_NO_RIGHTS)
            status = ADMIN_FAILED;
        changed = changed || steps[i].result == TRUST_DONE;
    }
    if (changed)
        puts("Programs that run now may have to be started anew to see it.");
    return status;
}
