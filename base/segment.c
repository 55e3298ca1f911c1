/*
 * segment.c - see segment.h.
 */
#include "base/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int segment_create(const char *name, size_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ASSERT(fd >= 0);
    ASSERT(ftruncate(fd, (off_t)size) == 0);
    ASSERT(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    return fd;
}

void segment_write(int fd, size_t at, const void *p, size_t n)
{
    ASSERT(pwrite(fd, p, n, (off_t)at) == (ssize_t)n);
}

const char *segment_map(int fd, size_t size, const char *other_size, void **at)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_of_errno(errno);
    if (st.st_size != (off_t)size)
        return other_size;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_of_errno(errno);
    *at = p;
    return NULL;
}
