/*
 * activation.c - the environment of sd_listen_fds(3), read by hand: three variables, and the
 * descriptors from 3 on.
 */
#include "base/activation.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_FD 3

static struct {
    struct activation *v;
    unsigned n;
    char *names; /* what v[].name points into */
} given;

static uint64_t number_of(const char *variable)
{
    const char *text = getenv(variable);
    uint64_t v = 0;
    return text && str_u64(str_of(text), &v) ? v : 0;
}

/* False: it was never open, and somebody else may open a file under that number. */
static bool claim(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    return flags >= 0 && fcntl(fd, F_SETFD, flags | FD_CLOEXEC) == 0;
}

static void take(uint64_t count)
{
    const char *names = getenv("LISTEN_FDNAMES");
    given.names = strdup(names ? names : "");
    given.v = calloc(MIN(count, (uint64_t)ACTIVATION_MAX), sizeof(*given.v));
    ASSERT(given.names && given.v);
    struct str rest = str_of(given.names), name;
    for (uint64_t i = 0; i < count; i++) {
        int fd = FIRST_FD + (int)i;
        bool named = rest.n && str_split(&rest, ':', &name) && name.n;
        if (!claim(fd))
            continue;
        if (given.n == ACTIVATION_MAX) {
            close(fd);
            continue;
        }
        given.v[given.n++] = (struct activation){named ? name : STR("unknown"), fd};
    }
}

void activation_init(void)
{
    uint64_t count = number_of("LISTEN_FDS");
    bool ours = number_of("LISTEN_PID") == (uint64_t)getpid();
    ASSERT(!given.v);
    if (ours && count && count <= (uint64_t)sysconf(_SC_OPEN_MAX))
        take(count);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

unsigned activation_count(void)
{
    return given.n;
}

struct activation *activation_at(unsigned i)
{
    ASSERT(i < given.n);
    return &given.v[i];
}

struct activation *activation_next(struct str name, unsigned *i)
{
    while (*i < given.n) {
        struct activation *a = &given.v[(*i)++];
        if (a->fd >= 0 && str_eq(a->name, name))
            return a;
    }
    return NULL;
}

void activation_fini(void)
{
    for (unsigned i = 0; i < given.n; i++)
        if (given.v[i].fd >= 0)
            close(given.v[i].fd);
    free(given.v);
    free(given.names);
    given.v = NULL;
    given.names = NULL;
    given.n = 0;
}
