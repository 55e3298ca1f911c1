/*
 * supervise_backend.h - the backends of test_supervise.c, friendly and hostile: what the test
 * program does when it is started as `test_supervise --backend MODE LISTEN FOLDER`.
 */
#ifndef HG_SUPERVISE_BACKEND_H
#define HG_SUPERVISE_BACKEND_H

#include "tests/unit/supervise_fixture.h"

static const char *be_dir;
static int be_listener = -1;
static struct sockaddr_storage be_addr;
static socklen_t be_len;
static volatile sig_atomic_t be_close, be_open;

static void be_flag(int sig)
{
    *(sig == SIGUSR1 ? &be_close : &be_open) = 1;
}

/* Whole or not there: who waits for it may end its writer at once. */
static void be_note(const char *name, int value)
{
    char path[256], aside[sizeof(path) + 16];
    snprintf(path, sizeof(path), "%s/%s", be_dir, name);
    snprintf(aside, sizeof(aside), "%s.%d", path, (int)getpid());
    FILE *f = fopen(aside, "w");
    if (!f)
        _exit(40);
    fprintf(f, "%d\n", value);
    if (fclose(f) != 0 || rename(aside, path) != 0)
        _exit(43);
}

static bool be_has(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", be_dir, name);
    return access(path, F_OK) == 0;
}

static void be_parse(const char *listen_at)
{
    memset(&be_addr, 0, sizeof(be_addr));
    if (!strncmp(listen_at, "unix:", 5)) {
        struct sockaddr_un *un = (struct sockaddr_un *)&be_addr;
        un->sun_family = AF_UNIX;
        snprintf(un->sun_path, sizeof(un->sun_path), "%s", listen_at + 5);
        be_len = sizeof(*un);
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)&be_addr;
        const char *colon = strrchr(listen_at, ':');
        in->sin_family = AF_INET;
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        in->sin_port = htons((uint16_t)atoi(colon ? colon + 1 : "0"));
        be_len = sizeof(*in);
    }
}

static void be_listen(void)
{
    int one = 1;
    be_listener = socket(be_addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(be_listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(be_listener, (struct sockaddr *)&be_addr, be_len) < 0 || listen(be_listener, 64) < 0) {
        perror("listen");
        _exit(41);
    }
}

static void be_answer(int fd, const char *mode)
{
    char request[4096];
    const char *answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    if (read(fd, request, sizeof(request)) <= 0)
        return;
    if (!strcmp(mode, "garbage"))
        answer = "\x01\x02 lorem ipsum\r\n";
    if (!strcmp(mode, "slow-start") && !be_has("warm")) {
        be_note("asked", 1);
        answer = "HTTP/1.1 503 Not Yet\r\nContent-Length: 0\r\n\r\n";
    }
    (void)!write(fd, answer, strlen(answer));
}

static void be_serve(const char *mode)
{
    for (;;) {
        if (be_close && be_listener >= 0) {
            close(be_listener);
            be_listener = -1;
            be_close = 0;
        }
        if (be_open && be_listener < 0) {
            be_listen();
            be_open = 0;
        }
        if (be_listener < 0) {
            /* The window between the check and pause() is closed by the supervisor's looks: the
             * test sends its signal once, so wait with a mask instead. */
            sigset_t block, before;
            sigemptyset(&block);
            sigaddset(&block, SIGUSR2);
            sigprocmask(SIG_BLOCK, &block, &before);
            if (!be_open)
                sigsuspend(&before);
            sigprocmask(SIG_SETMASK, &before, NULL);
            continue;
        }
        int fd = accept(be_listener, NULL, NULL);
        if (fd < 0)
            continue;
        be_answer(fd, mode);
        close(fd);
    }
}

NORETURN static void be_wait_for_ever(void)
{
    for (;;)
        pause();
}

/* A child that ignores TERM; `new_session` with a second fork: the daemon of the books. */
static void be_child(bool new_session, bool bare)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (new_session) {
            setsid();
            if (fork() != 0)
                _exit(0);
            if (bare) {
                /* Without its maker's environment nothing but the user tells whose it is. */
                char *const argv[] = {self_exe,      (char[]){"--backend"},     (char[]){"child"},
                                      (char[]){"-"}, (char *)(uintptr_t)be_dir, NULL};
                char *const none[] = {NULL};
                execve(self_exe, argv, none);
                _exit(42);
            }
        }
        signal(SIGTERM, SIG_IGN);
        be_note("child", (int)getpid());
        be_wait_for_ever();
    }
    if (new_session)
        waitpid(pid, NULL, 0);
}

static void be_chatter(void)
{
    printf("one\n\n");
    fflush(stdout);
    fprintf(stderr, "two\r\n");
    printf("with \x1b[31m colour\r\n");
    for (int k = 0; k < 100000; k++)
        putchar('x');
    printf("\nno end");
    fflush(stdout);
}

static void be_print(void)
{
    static char line[201];
    memset(line, 'y', 199);
    line[199] = '\n';
    for (uint64_t n = 0; n < 100 * 1000 * 1000 || !be_has("enough"); n += 200)
        fwrite(line, 1, 200, stdout);
    fflush(stdout);
}

/* The first time somebody else gets the port before us. */
static void be_port_thief(const char *listen_at)
{
    if (be_has("taken"))
        return;
    be_note("port", atoi(strrchr(listen_at, ':') + 1));
    while (!be_has("taken"))
        poll(NULL, 0, 1);
    fprintf(stderr, "address already in use\n");
    exit(1);
}

NORETURN static void backend_main(const char *mode, const char *listen_at, const char *where)
{
    be_dir = where;
    struct sigaction sa = {.sa_handler = be_flag}; /* no SA_RESTART: accept() must end */
    sigaction(SIGUSR1, &sa, NULL);
    sigaction(SIGUSR2, &sa, NULL);
    if (!strcmp(mode, "exit3")) {
        fprintf(stderr, "no good\n");
        exit(3);
    }
    if (!strcmp(mode, "killed"))
        kill(getpid(), SIGKILL);
    if (!strcmp(mode, "deaf"))
        be_wait_for_ever();
    if (!strcmp(mode, "stubborn"))
        signal(SIGTERM, SIG_IGN);
    if (!strcmp(mode, "child")) {
        signal(SIGTERM, SIG_IGN);
        be_note("child", (int)getpid());
        be_wait_for_ever();
    }
    if (!strcmp(mode, "forker"))
        be_child(false, false);
    if (!strcmp(mode, "daemon") || !strcmp(mode, "naked-daemon"))
        be_child(true, !strcmp(mode, "naked-daemon"));
    if (!strcmp(mode, "leaver")) {
        be_child(true, false);
        while (!be_has("child"))
            poll(NULL, 0, 1);
        exit(0);
    }
    if (!strcmp(mode, "chatter"))
        be_chatter();
    if (!strcmp(mode, "printer"))
        be_print();
    if (!strcmp(mode, "port-thief"))
        be_port_thief(listen_at);
    be_parse(listen_at);
    be_listen();
    be_serve(mode);
    exit(0);
}

#endif
