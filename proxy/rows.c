/*
 * rows.c - the segment behind rows.h: a directory of names that the master writes, and an area of
 * cells for each process.
 *
 * The directory's entries change under their readers: `seq` is odd while one is written, and who
 * copied a name looks at it again. The master never reads back what it wrote there, since workers
 * could have scribbled over it; it keeps its own list.
 */
#include "proxy/rows.h"

#include <sys/mman.h>

#include "base/segment.h"

#define FOR_EVER UINT64_MAX

const int64_t row_bounds_us[] = {1000,    2500,    5000,     10000,    25000,
                                 50000,   100000,  250000,   500000,   1000000,
                                 2500000, 5000000, 10000000, 30000000, 60000000};

static const struct {
    unsigned rows;
    size_t size; /* of the values */
    const char *labels[ROWS_LABELS_MAX];
} kinds[ROW_KIND_COUNT] = {
#define X(kind, n, type, ...) [ROW_##kind] = {n, sizeof(type), {__VA_ARGS__}},
    ROW_KINDS(X)
#undef X
};

static const struct {
    enum row_kind kind;
    size_t offset, n;
} gauges[] = {
#define TYPE_SERVICE           struct service_row
#define TYPE_LISTENER          struct listener_row
#define X(kind, first, number) {ROW_##kind, offsetof(TYPE_##kind, first), number},
    ROW_GAUGES(X)
#undef X
};

#define X(kind, n, ...) +n
enum { ROWS_ALL = 0 ROW_KINDS(X) };
#undef X

struct entry {
    uint32_t seq;
    uint32_t key_n; /* 0: nobody's */
    uint64_t hash;
    uint64_t shown_until; /* ms, loop time; FOR_EVER: in the configuration; 0: not yet */
    char key[ROWS_KEY_MAX];
};

struct head {
    uint64_t bytes; /* of the whole: another version's differs */
    uint32_t attached[ROWS_PROCESSES];
    uint32_t folded[ROW_KIND_COUNT];
    struct entry entries[ROWS_ALL];
};

/* A cell: how many snapshots of the process use it, then the values. */
struct cell {
    int64_t users;
    int64_t v[];
};

static struct head *head; /* NULL until attached */
static char *areas;
static unsigned self;
static struct cell *nowhere[ROW_KIND_COUNT]; /* what is counted into before */

/* The master's own list. */
static struct owned {
    bool taken;
    uint32_t round;
    uint64_t hash, until;
    uint32_t key_n;
    char key[ROWS_KEY_MAX];
} owned[ROWS_ALL];
static uint32_t round_now;
static unsigned folded_now[ROW_KIND_COUNT];

/* ---- places ---- */

static unsigned first_of(enum row_kind k)
{
    unsigned n = 0;
    for (unsigned i = 0; i < k; i++)
        n += kinds[i].rows;
    return n;
}

static size_t cell_size(enum row_kind k)
{
    return sizeof(struct cell) + kinds[k].size;
}

static size_t area_of_kind(enum row_kind k)
{
    size_t n = 0;
    for (unsigned i = 0; i < k; i++)
        n += kinds[i].rows * cell_size((enum row_kind)i);
    return n;
}

static size_t page_up(size_t n)
{
    return (n + 4095) & ~(size_t)4095;
}

static size_t area_size(void)
{
    return page_up(area_of_kind(ROW_KIND_COUNT));
}

static size_t segment_size(void)
{
    return page_up(sizeof(struct head)) + area_size() * ROWS_PROCESSES;
}

static struct cell *cell_at(unsigned process, enum row_kind k, unsigned row)
{
    return (struct cell *)(void *)(areas + process * area_size() + area_of_kind(k) +
                                   row * cell_size(k));
}

static int64_t get(const int64_t *v)
{
    return __atomic_load_n(v, __ATOMIC_RELAXED);
}

void row_observe(struct row_histogram *h, uint64_t us)
{
    unsigned i = 0;
    while (i < ROW_BOUNDS && us > (uint64_t)row_bounds_us[i])
        i++;
    row_add(&h->bucket[i], 1);
    row_add(&h->sum_us, (int64_t)us);
}

/* ---- keys ---- */

/* The labels one behind the other; 0 when they do not fit: such a name has no row of its own. */
static uint32_t key_make(enum row_kind k, const struct row_key *key, char mem[static ROWS_KEY_MAX])
{
    struct out o = out_on(mem, ROWS_KEY_MAX);
    for (unsigned i = 0; i < ROWS_LABELS_MAX && kinds[k].labels[i]; i++) {
        out_str(&o, key->label[i]);
        out_char(&o, '\0');
    }
    return o.over ? 0 : (uint32_t)o.n;
}

static uint32_t key_other(enum row_kind k, char mem[static ROWS_KEY_MAX])
{
    const struct row_key key = {{STR(ROW_OTHER), STR(ROW_OTHER), STR(ROW_OTHER)}};
    return key_make(k, &key, mem);
}

/* ---- life ---- */

int rows_create(void)
{
    const uint64_t bytes = segment_size();
    int fd = segment_create("headgate-rows", bytes);
    segment_write(fd, offsetof(struct head, bytes), &bytes, sizeof(bytes));
    return fd;
}

const char *rows_attach(int fd, unsigned process)
{
    void *at;
    if (process >= ROWS_PROCESSES)
        return "no such process in the segment of rows";
    const char *err = segment_map(
        fd, segment_size(), "the segment of rows has another size: it is another version's", &at);
    if (err)
        return err;
    if (head)
        munmap(head, segment_size());
    head = at;
    areas = (char *)at + page_up(sizeof(struct head));
    self = process;
    __atomic_store_n(&head->attached[process], 1, __ATOMIC_RELAXED);
    return NULL;
}

void rows_process_died(unsigned process)
{
    ASSERT(process < ROWS_PROCESSES);
    if (!head || !head->attached[process])
        return;
    for (unsigned k = 0; k < ROW_KIND_COUNT; k++)
        for (unsigned row = 0; row < kinds[k].rows; row++)
            if (row == 0 || owned[first_of((enum row_kind)k) + row].taken)
                row_set(&cell_at(process, (enum row_kind)k, row)->users, 0);
    for (size_t i = 0; i < ARRAY_LEN(gauges); i++)
        for (unsigned row = 0; row < kinds[gauges[i].kind].rows; row++) {
            struct cell *c = cell_at(process, gauges[i].kind, row);
            const size_t at = gauges[i].offset / sizeof(int64_t);
            if (row != 0 && !owned[first_of(gauges[i].kind) + row].taken)
                continue;
            for (size_t v = 0; v < gauges[i].n; v++)
                row_set(&c->v[at + v], 0);
        }
}

/* ---- use ---- */

static bool entry_is(const struct entry *e, uint64_t hash, const char *key, uint32_t n)
{
    return e->hash == hash && e->key_n == n && memcmp(e->key, key, n) == 0;
}

/* The row of that name, or 0. */
static unsigned row_find(enum row_kind k, const struct row_key *key)
{
    char mem[ROWS_KEY_MAX];
    const uint32_t n = key_make(k, key, mem);
    const uint64_t hash = fnv1a(FNV1A_BASIS, (struct str){mem, n});
    const struct entry *e = &head->entries[first_of(k)];
    for (unsigned i = 1; n && i < kinds[k].rows; i++)
        if (entry_is(&e[i], hash, mem, n))
            return i;
    return 0;
}

void *rows_use(enum row_kind k, const struct row_key *key)
{
    if (!head) {
        if (!nowhere[k]) {
            nowhere[k] = mmap(NULL, page_up(cell_size(k)), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            ASSERT(nowhere[k] != MAP_FAILED);
        }
        return nowhere[k]->v;
    }
    struct cell *c = cell_at(self, k, row_find(k, key));
    row_add(&c->users, 1);
    return c->v;
}

void rows_drop(enum row_kind k, const void *cell)
{
    struct cell *c = container_of((int64_t(*)[])(uintptr_t)cell, struct cell, v);
    if (c != nowhere[k])
        row_add(&c->users, -1);
}

/* ---- who has a row ---- */

static void entry_show(unsigned at, uint64_t until)
{
    owned[at].until = until;
    __atomic_store_n(&head->entries[at].shown_until, until, __ATOMIC_RELAXED);
}

static void entry_write(unsigned at, const char *key, uint32_t n, uint64_t hash)
{
    struct entry *e = &head->entries[at];
    struct owned *o = &owned[at];
    __atomic_store_n(&e->seq, e->seq + 1, __ATOMIC_SEQ_CST);
    memcpy(e->key, key, n);
    e->key_n = n;
    e->hash = hash;
    __atomic_store_n(&e->seq, e->seq + 1, __ATOMIC_SEQ_CST);
    *o = (struct owned){.taken = true, .hash = hash, .key_n = n};
    memcpy(o->key, key, n);
}

static bool row_used(enum row_kind k, unsigned row)
{
    for (unsigned p = 0; p < ROWS_PROCESSES; p++)
        if (head->attached[p] && get(&cell_at(p, k, row)->users) > 0)
            return true;
    return false;
}

static void row_clear(enum row_kind k, unsigned row)
{
    for (unsigned p = 0; p < ROWS_PROCESSES; p++)
        if (head->attached[p])
            memset(cell_at(p, k, row), 0, cell_size(k));
}

/* A row for a new name: a fresh one, else the one that vanished first and that nobody uses. */
static unsigned row_free(enum row_kind k, uint64_t now)
{
    const struct owned *o = &owned[first_of(k)];
    unsigned best = 0;
    for (unsigned i = 1; i < kinds[k].rows; i++) {
        if (!o[i].taken)
            return i;
        if (o[i].round != round_now && o[i].until < now && (!best || o[i].until < o[best].until) &&
            !row_used(k, i))
            best = i;
    }
    if (best)
        row_clear(k, best);
    return best;
}

void rows_claim_begin(enum row_kind k)
{
    char mem[ROWS_KEY_MAX];
    round_now++;
    folded_now[k] = 0;
    const unsigned other = first_of(k);
    if (!owned[other].taken) {
        const uint32_t n = key_other(k, mem);
        entry_write(other, mem, n, fnv1a(FNV1A_BASIS, (struct str){mem, n}));
        entry_show(other, FOR_EVER);
    }
}

void rows_claim(enum row_kind k, const struct row_key *key, uint64_t now)
{
    char mem[ROWS_KEY_MAX];
    const unsigned first = first_of(k);
    const uint32_t n = key_make(k, key, mem);
    const uint64_t hash = fnv1a(FNV1A_BASIS, (struct str){mem, n});
    for (unsigned i = first + 1; n && i < first + kinds[k].rows; i++) {
        struct owned *o = &owned[i];
        if (o->taken && o->hash == hash && o->key_n == n && memcmp(o->key, mem, n) == 0) {
            o->round = round_now;
            return;
        }
    }
    const unsigned row = n ? row_free(k, now) : 0;
    if (!row) {
        folded_now[k]++;
        return;
    }
    entry_write(first + row, mem, n, hash);
    owned[first + row].round = round_now;
}

void rows_claim_end(enum row_kind k, bool final, uint64_t now)
{
    const unsigned first = first_of(k);
    if (!final)
        return;
    for (unsigned i = first + 1; i < first + kinds[k].rows; i++) {
        const struct owned *o = &owned[i];
        if (o->taken && o->round == round_now && o->until != FOR_EVER)
            entry_show(i, FOR_EVER);
        else if (o->taken && o->round != round_now && o->until == FOR_EVER)
            entry_show(i, now + ROWS_KEEP_MS);
    }
    __atomic_store_n(&head->folded[k], folded_now[k], __ATOMIC_RELAXED);
}

/* ---- reading ---- */

unsigned rows_capacity(enum row_kind k)
{
    return kinds[k].rows;
}

size_t rows_size(enum row_kind k)
{
    return kinds[k].size;
}

unsigned rows_taken(enum row_kind k)
{
    unsigned n = 0;
    for (unsigned i = 0; head && i < kinds[k].rows; i++)
        n += head->entries[first_of(k) + i].key_n != 0;
    return n;
}

unsigned rows_folded(enum row_kind k)
{
    return head ? __atomic_load_n(&head->folded[k], __ATOMIC_RELAXED) : 0;
}

const char *rows_label(enum row_kind k, unsigned label)
{
    return label < ROWS_LABELS_MAX ? kinds[k].labels[label] : NULL;
}

bool rows_get(enum row_kind k, unsigned row, uint64_t now, char mem[static ROWS_KEY_MAX],
              struct row_key *key)
{
    if (!head || row >= kinds[k].rows)
        return false;
    const struct entry *e = &head->entries[first_of(k) + row];
    const uint32_t seq = __atomic_load_n(&e->seq, __ATOMIC_SEQ_CST);
    const uint32_t n = e->key_n;
    if (!n || n > ROWS_KEY_MAX || (seq & 1) ||
        __atomic_load_n(&e->shown_until, __ATOMIC_RELAXED) <= now)
        return false;
    memcpy(mem, e->key, n);
    if (__atomic_load_n(&e->seq, __ATOMIC_SEQ_CST) != seq)
        return false;
    struct str rest = {mem, n};
    for (unsigned i = 0; i < ROWS_LABELS_MAX && kinds[k].labels[i]; i++)
        if (!str_split(&rest, '\0', &key->label[i]))
            return false;
    return true;
}

void rows_total(enum row_kind k, unsigned row, void *into)
{
    int64_t *sum = into;
    ASSERT(row < kinds[k].rows);
    memset(into, 0, kinds[k].size);
    for (unsigned p = 0; head && p < ROWS_PROCESSES; p++) {
        if (!head->attached[p])
            continue;
        const struct cell *c = cell_at(p, k, row);
        for (size_t i = 0; i < kinds[k].size / sizeof(int64_t); i++)
            sum[i] += get(&c->v[i]);
    }
}

bool rows_total_of(enum row_kind k, const struct row_key *key, void *into)
{
    const unsigned row = head ? row_find(k, key) : 0;
    if (row)
        rows_total(k, row, into);
    return row != 0;
}
