/* Counts what a process does to files below a folder, and lets one of these operations fail.
 *
 * The environment says which: CAMPAIGN_BELOW names the folder, CAMPAIGN_AT the operation, CAMPAIGN_FAULT what befalls
 * it: "kill" (SIGKILL before it), "torn" (half of it is done, then SIGKILL), "full" (ENOSPC, from then on), "broken"
 * (EIO, once), "readonly" (EROFS, from then on) or "" (count only). At the end the number of operations is written
 * into the file CAMPAIGN_COUNT. Loaded with LD_PRELOAD, so what C and C++ libraries do counts too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long count;
static long at = -1;
static char below[PATH_MAX], fault[16];

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define FAIL(path) do { int e = fails(path); if (e > 0) { errno = e; return -1; } if (e < 0) die(); } while (0)
#define WITHIN(fd) char buffer[PATH_MAX]; const char *path = fd > 2 && *below ? path_of(fd, buffer) : NULL

__attribute__((constructor)) static void arm(void) {
    const char *what = getenv("CAMPAIGN_FAULT"), *when = getenv("CAMPAIGN_AT"), *where = getenv("CAMPAIGN_BELOW");
    if (!what || !when || !where) return;
    snprintf(fault, sizeof fault, "%s", what);
    snprintf(below, sizeof below, "%s", where);
    at = atol(when);
}

__attribute__((destructor)) static void tell(void) {
    const char *name = getenv("CAMPAIGN_COUNT");
    *below = 0;
    FILE *file = name ? fopen(name, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld", atomic_load(&count));
    fclose(file);
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

/* 0; the error with which the call is to fail; or -1: it is to be done by half, then the process ends. */
static int fails(const char *path) {
    if (!*below || !path || strncmp(path, below, strlen(below))) return 0;
    long now = atomic_fetch_add(&count, 1) + 1;
    if (at < 0 || now < at) return 0;
    if (!strcmp(fault, "kill")) die();
    if (!strcmp(fault, "torn")) return -1;
    if (!strcmp(fault, "full")) return ENOSPC;
    if (!strcmp(fault, "readonly")) return EROFS;
    if (!strcmp(fault, "broken") && now == at) return EIO;
    return 0;
}

static const char *path_of(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return buffer;
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write); WITHIN(fd);
    int e = fails(path);
    if (e > 0) { errno = e; return -1; }
    if (e < 0) { real(fd, data, size / 2); die(); }
    return real(fd, data, size);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64); WITHIN(fd);
    int e = fails(path);
    if (e > 0) { errno = e; return -1; }
    if (e < 0) { real(fd, data, size / 2, offset); die(); }
    return real(fd, data, size, offset);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }
ssize_t writev(int fd, const struct iovec *parts, int number) {
    REAL(writev); WITHIN(fd);
    int e = fails(path);
    if (e > 0) { errno = e; return -1; }
    if (e < 0) { real(fd, parts, (number + 1) / 2); die(); }
    return real(fd, parts, number);
}
size_t fwrite(const void *data, size_t size, size_t number, FILE *file) {
    REAL(fwrite); int fd = fileno(file); WITHIN(fd);
    int e = fails(path);
    if (e > 0) { errno = e; return 0; }
    if (e < 0) { real(data, size, number / 2, file); fflush(file); die(); }
    return real(data, size, number, file);
}
int fflush(FILE *file) {
    REAL(fflush); int fd = file ? fileno(file) : -1; WITHIN(fd);
    int e = fails(path);
    if (e > 0) { errno = e; return EOF; }
    if (e < 0) die();
    return real(file);
}
static int creates(int flags) { return flags & (O_CREAT | O_TRUNC); }
#define OPEN(name) int name(const char *path, int flags, ...) { \
    REAL(name); va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    if (creates(flags)) FAIL(path); \
    return real(path, flags, mode); }
OPEN(open)
OPEN(open64)
#define FOPEN(name) FILE *name(const char *path, const char *mode) { \
    REAL(name); int e = *mode == 'r' ? 0 : fails(path); \
    if (e > 0) { errno = e; return NULL; } if (e < 0) die(); \
    return real(path, mode); }
FOPEN(fopen)
FOPEN(fopen64)
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); WITHIN(fd); FAIL(path); return real(fd, size); }
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fsync(int fd) { REAL(fsync); WITHIN(fd); FAIL(path); return real(fd); }
int rename(const char *from, const char *to) { REAL(rename); FAIL(to); return real(from, to); }
/* A full disk still lets files be removed. */
#define REMOVE(path) do { if (strcmp(fault, "full")) FAIL(path); } while (0)
int unlink(const char *path) { REAL(unlink); REMOVE(path); return real(path); }
int rmdir(const char *path) { REAL(rmdir); REMOVE(path); return real(path); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); FAIL(path); return real(path, mode); }
