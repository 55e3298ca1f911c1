/*
 * cli_socket.c - finding the configuration and the server that runs it. A server must be reachable
 * while its file is broken: then running servers are asked which file is theirs.
 */
#include "proxy/cli.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "conf/conf.h"
#include "proxy/admin.h"

#define SOCKET_NAME  "/admin.sock"
#define FLAG_ACCEPTS 0x10000u /* __SO_ACCEPTCON in /proc/net/unix */

const char *cli_config_file(struct cli *c)
{
    const char *file = c->config;
    if (!file && geteuid() != 0) {
        const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
        if (base && base[0] == '/')
            file = arena_fmt(c->arena, "%s/headgate/headgate.yaml", base).p;
        else if (home)
            file = arena_fmt(c->arena, "%s/.config/headgate/headgate.yaml", home).p;
    }
    if (!file)
        file = "/etc/headgate/headgate.yaml";
    char *cwd = getcwd(NULL, 0);
    struct str path = file_resolve(c->arena, str_of(cwd ? cwd : "/"), str_of(file));
    free(cwd);
    return path.p;
}

static const char *socket_of_config(struct cli *c, const char *file)
{
    const char *socket = NULL;
    struct diags *d = diags_new();
    struct conf_source *src = conf_source_fs(file);
    struct conf *conf = conf_load(src, CONF_OFFLINE, d);
    if (conf) {
        socket = arena_strz(c->arena, conf->admin.socket);
        conf_unref(&conf);
    }
    conf_source_close(&src);
    diags_free(&d);
    return socket;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return strcmp(a, b) == 0 ||
           (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

/* Whoever owns the configuration says with it where everything is: the same may be believed of that
 * user's server. To root, any other user's would be a way to be told lies. */
static bool owns(uid_t uid, const char *file)
{
    struct stat st;
    return stat(file, &st) == 0 && st.st_uid == uid;
}

/* Only our own servers and root's are believed, as root also the file's owner's; and none may keep
 * us waiting. */
static bool trustworthy(const char *path, const char *file)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct ucred who;
    socklen_t len = sizeof(who);
    if (strlen(path) >= sizeof(addr.sun_path))
        return false;
    memcpy(addr.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
              getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
              (who.uid == geteuid() || who.uid == 0 || (geteuid() == 0 && owns(who.uid, file)));
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool serves(struct cli *c, const char *path, const char *file)
{
    if (!trustworthy(path, file))
        return false;
    const char *err;
    json_t *ask = json_pack("{s:s}", "verb", "status");
    json_t *status = admin_call(c->arena, path, ask, false, &err);
    json_decref(ask);
    const char *its = json_string_value(json_object_get(json_object_get(status, "config"), "file"));
    bool yes = its && same_file(its, file);
    json_decref(status);
    return yes;
}

/* The path of a listening socket named admin.sock in a line of /proc/net/unix, or NULL. */
static const char *candidate(struct cli *c, char *line)
{
    unsigned flags;
    line[strcspn(line, "\n")] = '\0';
    char *path = strchr(line, '/');
    size_t n = path ? strlen(path) : 0;
    if (sscanf(line, "%*s %*s %*s %x", &flags) != 1 || !(flags & FLAG_ACCEPTS) ||
        n < sizeof(SOCKET_NAME) || strcmp(path + n - (sizeof(SOCKET_NAME) - 1), SOCKET_NAME) != 0)
        return NULL;
    return arena_strz(c->arena, (struct str){path, n});
}

static const char *socket_of_running(struct cli *c, const char *file)
{
    FILE *f = fopen("/proc/net/unix", "re");
    char line[512];
    const char *found = NULL;
    while (f && !found && fgets(line, sizeof(line), f)) {
        const char *path = candidate(c, line);
        if (path && serves(c, path, file))
            found = path;
    }
    if (f)
        fclose(f);
    return found;
}

static const char *state_of_running(struct cli *c, const char *file)
{
    const char *socket = socket_of_running(c, file), *err;
    json_t *ask = json_pack("{s:s}", "verb", "status");
    json_t *reply = socket ? admin_call(c->arena, socket, ask, false, &err) : NULL;
    const char *its = json_string_value(json_object_get(json_object_get(reply, "config"), "state"));
    const char *state = its ? arena_strz(c->arena, str_of(its)) : NULL;
    json_decref(ask);
    json_decref(reply);
    return state;
}

/* The server first: what a file leaves open depends on who runs it, which need not be who asks. */
const char *cli_state_folder(struct cli *c, const char **err)
{
    const char *file = cli_config_file(c), *state = state_of_running(c, file);
    if (state)
        return state;
    struct diags *d = diags_new();
    struct conf_source *src = conf_source_fs(file);
    struct conf *conf = conf_load(src, CONF_OFFLINE, d);
    if (conf) {
        state = arena_strz(c->arena, conf->state);
        conf_unref(&conf);
    } else {
        bool there = access(file, F_OK) == 0 || errno != ENOENT;
        *err =
            there
                ? arena_fmt(c->arena, "%s cannot be used: `headgate check --config %s` says why",
                            file, file)
                      .p
                : arena_fmt(c->arena, "there is no %s: name the server's file with --config", file)
                      .p;
    }
    conf_source_close(&src);
    diags_free(&d);
    return state;
}

const char *cli_socket_path(struct cli *c)
{
    if (c->socket)
        return c->socket;
    const char *file = cli_config_file(c), *path = socket_of_config(c, file);
    if (!path)
        path = socket_of_running(c, file);
    if (path)
        return path;
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (geteuid() != 0 && runtime && runtime[0] == '/')
        return arena_fmt(c->arena, "%s/headgate/admin.sock", runtime).p;
    return "/run/headgate/admin.sock";
}
