/*
 * roles.h - the three processes' entry points, and the order in which master and children talk.
 *
 * A child is started as `headgate --role=worker` (or agent) with its message socket at descriptor
 * 3, privileges already given up. What the master sends a worker, in this order:
 *
 *   HELLO, SETUP, ROWS, RESCUE, TICKET_KEYS, ACCESS_LOG (if it is on), CERT*, CHALLENGE*, then
 *   ROOT*, CONFIG, INSTANCE*
 *
 * The worker answers CONFIG_DONE and, once (after sandbox_worker with the roots that came before
 * the first CONFIG), READY; then it gets LISTENER*. Afterwards, at any time: INSTANCE,
 * INSTANCE_GONE, CERT, CHALLENGE, TICKET_KEYS, ACCESS_LOG, LISTENER, LISTENER_DROP, and for a
 * reload ROOT* and CONFIG of one new generation. ROOTs of a generation come before its CONFIG; a
 * worker keeps those of the old one for the snapshots that still use them. CONFIG_DONE with ok 0
 * means: the old one is still in use. A worker that was sent a second CONFIG before it answered the
 * first answers both.
 *
 *   LISTENER_DROP: accept until nothing is queued, close, answer LISTENER_DROPPED.
 *   CHALLENGE: shown from then on, or no more; one that begins is answered by CHALLENGE_DONE.
 *   DRAIN: as LISTENER_DROP for whatever it still has; finish what is under way; exit with 0.
 *   The socket's end (the master died): serve on; the next master calls at RESCUE's socket, gets
 *   ORPHAN and ORPHAN_LISTENER*, and sends nothing but INSTANCE_GONE and DRAIN (master_orphans.c).
 *
 * SETUP.slot is the process's own number: its slot of the stats segment and its name in logs
 * ("worker 3"). LISTENER.slot says whose listener it is; `lent` when that worker is not this one.
 *
 * The agent gets HELLO, SETUP, CONFIG; answers CONFIG_DONE, READY, CERT*, CERTS_DONE; a CONFIG of a
 * new generation is answered by CONFIG_DONE, CERT* and CERTS_DONE of that generation. CERTS_DONE
 * with ok 0: some certificate could not be made, the first cause is in the tail. What it wants to
 * be shown to a CA it says by CHALLENGE; CHALLENGE_DONE comes when every worker that accepts
 * connections shows it, or the hook has put it into the DNS. What it does not take back itself goes
 * with it.
 */
#ifndef HG_ROLES_H
#define HG_ROLES_H

#define ROLE_FD           3 /* the message socket of a child */
#define ROLE_WORKERS_MAX  256
#define ROLE_STATS_MASTER 256 /* slots of the stats segment */
#define ROLE_STATS_AGENT  257

/* Each returns the process's exit status. */
int master_main(const char *config_file); /* `headgate run`; config_file: absolute */
int worker_main(int msg_fd);
int agent_main(int msg_fd);

#endif
