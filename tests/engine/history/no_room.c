/* Preloaded before the C library: while the file that NO_ROOM_IF names is there, nothing below the folder NO_ROOM_BELOW
 * takes a byte, as where a user's disk quota is used up: EDQUOT, of which SQLite makes "disk I/O error".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int used_up(int fd) {
    const char *flag = getenv("NO_ROOM_IF"), *folder = getenv("NO_ROOM_BELOW");
    char link[64], path[4096];
    if (!flag || !folder || access(flag, F_OK)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return !strncmp(path, folder, strlen(folder));
}

#define NEXT(f) static __typeof__(&f) next; if (!next) next = (__typeof__(next))dlsym(RTLD_NEXT, #f)
#define REFUSE(fd) do { if (used_up(fd)) { errno = EDQUOT; return -1; } } while (0)

ssize_t write(int fd, const void *data, size_t n) {
    NEXT(write); REFUSE(fd); return next(fd, data, n);
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    NEXT(pwrite); REFUSE(fd); return next(fd, data, n, at);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    NEXT(pwrite64); REFUSE(fd); return next(fd, data, n, at);
}
int fallocate(int fd, int mode, off_t at, off_t n) {
    NEXT(fallocate); REFUSE(fd); return next(fd, mode, at, n);
}
int fallocate64(int fd, int mode, off64_t at, off64_t n) {
    NEXT(fallocate64); REFUSE(fd); return next(fd, mode, at, n);
}
int posix_fallocate(int fd, off_t at, off_t n) {
    NEXT(posix_fallocate);
    return used_up(fd) ? EDQUOT : next(fd, at, n);
}
int posix_fallocate64(int fd, off64_t at, off64_t n) {
    NEXT(posix_fallocate64);
    return used_up(fd) ? EDQUOT : next(fd, at, n);
}
