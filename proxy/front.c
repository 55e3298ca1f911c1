/*
 * front.c - connections between accept and the protocol that takes them over.
 */
#include "proxy/front.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/stats.h"

static unsigned count;

unsigned front_count(void)
{
    return count;
}

void front_leave(struct front_pass *pass)
{
    if (!pass->row)
        return;
    count--;
    stats_dec(connections);
    row_add(&pass->row->connections, -1);
    pass->row = NULL;
}

void front_accepted(int fd, const struct sockaddr *peer, const struct front_door *door)
{
    struct front_pass pass = {.ip = net_ip_of(peer), .row = door->row};
    int on = 1;
    net_ip_text(pass.ip, pass.ip_text);
    if (pass.ip.family != NET_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    count++;
    stats_inc(connections_total);
    stats_inc(connections);
    row_add(&pass.row->accepted, 1);
    row_add(&pass.row->connections, 1);
    door->enter(fd, &pass, door);
}
