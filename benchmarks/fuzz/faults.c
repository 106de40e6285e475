/* Preloaded: makes the nth call that changes a file below a folder fail, as a full disk or missing rights would.

   arm(folder, n, mode): n counts calls from 1, 0 counts and fails none. Modes: 0 the disk is full from then on; 1 this
   one call is not permitted; 2 half of what is written arrives, and the disk is full from then on. calls(): a line for
   each call so far, "name path". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[PATH_MAX], *lines;
static long nth, seen, used, room;
static int kind;

void arm(const char *folder, long n, int mode) {
    strncpy(below, folder, sizeof below - 1);
    nth = n, kind = mode, seen = 0, used = 0;
}

const char *calls(void) { return used ? lines : ""; }

static int inside(const char *path) { return *below && path && !strncmp(path, below, strlen(below)); }

/* The path of an open file, or NULL. */
static const char *path_of(int fd) {
    static char path[PATH_MAX];
    char link[64];
    if (!*below) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return NULL;
    path[size] = 0;
    return path;
}

/* 0: go on; 1: fail; 2: half of it, then fail. */
static int fails(const char *call, const char *path, int writes) {
    if (!inside(path)) return 0;
    long now = ++seen, more = strlen(call) + strlen(path) + 3;
    if (used + more > room) lines = realloc(lines, room = 2 * (used + more));
    used += snprintf(lines + used, more, "%s %s\n", call, path);
    if (!nth || now < nth || (kind == 1 && now > nth)) return 0;
    if (kind == 2 && now == nth && writes) return 2;
    errno = kind == 1 ? EACCES : ENOSPC;
    return 1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                                                      \
    int name(const char *path, int flags, ...) {                                        \
        REAL(name);                                                                     \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && fails(#name, path, 0)) return -1; \
        return real(path, flags, mode);                                                 \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                    \
    int name(int at, const char *path, int flags, ...) {                                \
        REAL(name);                                                                     \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && fails(#name, path, 0)) return -1; \
        return real(at, path, flags, mode);                                             \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *bytes, size_t size) {
    REAL(write);
    int how = fails("write", path_of(fd), size > 1);
    return how == 1 ? -1 : real(fd, bytes, how == 2 ? size / 2 : size);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    REAL(pwrite64);
    int how = fails("pwrite", path_of(fd), size > 1);
    return how == 1 ? -1 : real(fd, bytes, how == 2 ? size / 2 : size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    int how = fails("writev", path_of(fd), count > 1);
    return how == 1 ? -1 : real(fd, parts, how == 2 ? count / 2 : count);
}

FILE *fopen64(const char *path, const char *mode) {
    REAL(fopen64);
    return strpbrk(mode, "wa+") && fails("fopen64", path, 0) ? NULL : real(path, mode);
}

#define ON_FD(name, declared, passed)                                                   \
    int name declared { REAL(name); return fails(#name, path_of(fd), 0) ? -1 : real passed; }
ON_FD(fsync, (int fd), (fd))
ON_FD(fdatasync, (int fd), (fd))
ON_FD(ftruncate, (int fd, off_t size), (fd, size))
ON_FD(ftruncate64, (int fd, off64_t size), (fd, size))
ON_FD(fchmod, (int fd, mode_t mode), (fd, mode))
ON_FD(futimens, (int fd, const struct timespec times[2]), (fd, times))

#define ON_PATH(name, declared, passed)                                                 \
    int name declared { REAL(name); return fails(#name, path, 0) ? -1 : real passed; }
ON_PATH(rename, (const char *path, const char *to), (path, to))
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH(chmod, (const char *path, mode_t mode), (path, mode))
ON_PATH(link, (const char *path, const char *to), (path, to))
ON_PATH(unlink, (const char *path), (path))
ON_PATH(rmdir, (const char *path), (path))
ON_PATH(unlinkat, (int at, const char *path, int flags), (at, path, flags))
ON_PATH(renameat, (int at, const char *path, int to_at, const char *to), (at, path, to_at, to))
ON_PATH(utimensat, (int at, const char *path, const struct timespec times[2], int flags), (at, path, times, flags))
