/*
 * tally.h - how many connections each address has, over all workers: a shared segment with a table
 * a process, which that process alone writes and the others read. What a process counted goes with
 * it when it dies (tally_process_died), so that nothing leaks whatever it was doing.
 *
 * A table has a fixed size, far more than a worker has connections. An address for which there is
 * no room is not counted: it comes in.
 */
#ifndef HG_TALLY_H
#define HG_TALLY_H

#include "base/net.h"

#define TALLY_PROCESSES 260 /* as many as there are slots in the stats segment */

int tally_create(void); /* master: a memfd of sealed size; dies on failure */
/* Maps it; with a number, this process counts in that table from now on. */
const char *tally_attach(int fd, unsigned process) MUST_USE;
const char *tally_watch(int fd) MUST_USE;  /* maps it, for tally_process_died only */
void tally_process_died(unsigned process); /* its table is empty again */

/*
 * One more connection of the address (of IPv6: of its /64), unless there would then be more than
 * `limit` of it: false, nothing was counted. *held is what tally_drop gives back; NULL when it was
 * not counted. limit 0: any number, but counted, for when a limit comes.
 */
bool tally_take(struct net_ip ip, uint64_t limit, uint64_t **held) MUST_USE;
void tally_drop(uint64_t **held); /* NULL is fine */

#endif
