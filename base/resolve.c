/*
 * resolve.c - a bounded number of threads that look up names, and the looks that wait for one. A
 * look belongs to whoever asked; what its thread works on belongs to the thread until that has
 * written its address into the pipe: a look that is cancelled leaves it behind.
 */
#include "base/resolve.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/loop.h"

#define THREADS_MAX 16
#define PATIENT_MAX 8 /* of them for looks that may wait */
#define STACK_BYTES (256 * 1024)

/* What a thread works on; it knows nothing else of the process. */
struct job {
    int done_fd;          /* where its own address is written when it is done */
    struct resolve *look; /* NULL: cancelled; the loop's alone */
    bool patient;         /* the loop's alone */
    int family, flags;
    int rc;    /* of getaddrinfo */
    int error; /* errno with EAI_SYSTEM */
    struct addrinfo *found;
    char name[];
};

struct resolve {
    struct list link; /* while it waits */
    struct job *job;
    resolve_done *done;
    void *ctx;
};

static struct {
    struct list waiting;
    unsigned threads, patient; /* at work; patient: those of them that would have waited */
    int pipe[2];
    struct event ev;
    bool piped, watched;
} self = {.waiting = {&self.waiting, &self.waiting}};

/* ---- the thread ---- */

static void job_finish(struct job *j)
{
    while (write(j->done_fd, &j, sizeof(j)) < 0 && errno == EINTR)
        ;
}

static void *job_run(void *arg)
{
    struct job *j = arg;
    const struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM, .ai_family = j->family, .ai_flags = j->flags};
    j->rc = getaddrinfo(j->name, NULL, &hints, &j->found);
    j->error = errno;
    job_finish(j);
    return NULL;
}

static int job_thread(struct job *j)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return rc;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    /* Signals are the loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&thread, &attr, job_run, j);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

static void job_free(struct job *j)
{
    if (j->found)
        freeaddrinfo(j->found);
    free(j);
}

/* ---- the loop ---- */

/* The first that waits and may go; NULL: none. */
static struct resolve *next_one(void)
{
    if (self.threads >= THREADS_MAX)
        return NULL;
    LIST_EACH (&self.waiting, l) {
        struct resolve *r = container_of(l, struct resolve, link);
        if (!r->job->patient || self.patient < PATIENT_MAX)
            return r;
    }
    return NULL;
}

static void go_on(void)
{
    for (struct resolve *r = next_one(); r; r = next_one()) {
        struct job *j = r->job;
        list_remove(&r->link);
        self.threads++;
        self.patient += j->patient;
        int rc = job_thread(j);
        if (rc == 0)
            continue;
        /* Told like any other failure, later. */
        j->rc = EAI_SYSTEM;
        j->error = rc;
        job_finish(j);
    }
}

static void job_over(struct job *j)
{
    struct resolve *r = j->look;
    self.threads--;
    self.patient -= j->patient;
    if (r) {
        const struct resolve_result result = {
            .rc = j->rc,
            .err = j->rc == EAI_SYSTEM && j->error ? err_of_errno(j->error)
                   : j->rc                         ? gai_strerror(j->rc)
                                                   : NULL,
            .found = j->found,
        };
        r->job = NULL;
        r->done(r->ctx, &result);
        free(r);
    }
    job_free(j);
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
    struct job *j;
    (void)what, (void)arg;
    while (read(fd, &j, sizeof(j)) == (ssize_t)sizeof(j))
        job_over(j);
    go_on();
}

static void set_up(void)
{
    if (!self.piped) {
        int rc = pipe2(self.pipe, O_CLOEXEC);
        ASSERT(rc == 0);
        const char *err = fd_nonblock(self.pipe[0]);
        ASSERT(!err);
        self.piped = true;
    }
    if (!self.watched) {
        event_assign(&self.ev, loop_base(), self.pipe[0], EV_READ | EV_PERSIST, on_done, NULL);
        event_add(&self.ev, NULL);
        self.watched = true;
    }
}

struct resolve *resolve_start(const char *name, enum resolve_kind kind, resolve_done *done,
                              void *ctx)
{
    const size_t n = strlen(name) + 1;
    struct resolve *r = calloc(1, sizeof(*r));
    struct job *j = calloc(1, sizeof(*j) + n);
    ASSERT(r && j);
    set_up();
    memcpy(j->name, name, n);
    j->done_fd = self.pipe[1];
    j->look = r;
    j->patient = kind != RESOLVE_USABLE;
    j->family = kind == RESOLVE_A ? AF_INET : kind == RESOLVE_AAAA ? AF_INET6 : AF_UNSPEC;
    j->flags = kind == RESOLVE_USABLE ? AI_ADDRCONFIG : 0;
    r->job = j;
    r->done = done;
    r->ctx = ctx;
    list_append(&self.waiting, &r->link);
    go_on();
    return r;
}

void resolve_cancel(struct resolve **look)
{
    struct resolve *r = *look;
    *look = NULL;
    if (!r || !r->job)
        return; /* its `done` is running: it goes by itself */
    if (list_linked(&r->link)) {
        list_remove(&r->link);
        job_free(r->job);
    } else {
        r->job->look = NULL;
    }
    free(r);
}

void resolve_fini(void)
{
    ASSERT(list_empty(&self.waiting));
    if (!self.watched)
        return;
    on_done(self.pipe[0], 0, NULL); /* what was cancelled and is done by now */
    event_del(&self.ev);
    self.watched = false;
    /* The pipe stays: threads may still write to it until the process ends. */
}
