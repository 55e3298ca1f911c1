/*
 * main.c - one program, four lives: the command line, and behind it the master, a worker, the
 * agent. The last two are started by the master only, with their message socket in place.
 */
#include "base/base.h" /* first: it says which C library we want */

#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/proc.h"
#include "proxy/cli.h"
#include "proxy/roles.h"

#define ROLE_OPTION "--role="

static const struct {
    const char *name, *title;
    int (*run)(int msg_fd);
} roles[] = {{"worker", "headgate: worker", worker_main}, {"agent", "headgate: agent", agent_main}};

/* Somebody who types this at a shell has no master at the other end. */
static bool has_master(void)
{
    int type;
    socklen_t len = sizeof(type);
    return getsockopt(ROLE_FD, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
}

static int run_role(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        if (!str_eq(name, str_of(roles[i].name)))
            continue;
        if (!has_master()) {
            fputs("headgate: workers and the agent are started by `headgate run` alone\n", stderr);
            return 2;
        }
        proc_set_title(roles[i].title);
        log_init(roles[i].name, LOG_INFO);
        signal(SIGPIPE, SIG_IGN);
        proc_raise_nofile();
        const char *err = proc_drop((uid_t)-1, (gid_t)-1);
        if (err) {
            log_error("privileges cannot be given up", "cause", "%s", err);
            return 1;
        }
        return roles[i].run(ROLE_FD);
    }
    fputs("headgate: there is no such role\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    proc_save_args(argc, argv);
    struct str first = str_of(argc > 1 ? argv[1] : "");
    if (str_starts(first, STR(ROLE_OPTION))) {
        static char name[16];
        struct str role = str_trim(str_sub(first, sizeof(ROLE_OPTION) - 1, first.n));
        /* The title is written over the arguments. */
        size_t n = MIN(role.n, sizeof(name) - 1);
        memcpy(name, role.p, n);
        /* Nothing runs behind a sandbox's end: a leak checker there could only wait in vain. */
        _exit(run_role((struct str){name, n}));
    }
    return cli_main(argc, argv);
}
