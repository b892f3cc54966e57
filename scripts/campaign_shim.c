/* Counts what a process does to files below CAMPAIGN_BELOW, and lets the CAMPAIGN_AT-th of it fail.
 *
 * CAMPAIGN_FAULT is "kill" (the process gets SIGKILL), "full" (ENOSPC, from then on) or "broken" (EIO, once).
 * The count of the process is added to the file CAMPAIGN_COUNT when it ends by itself.
 * Loaded with LD_PRELOAD, so what C and C++ libraries do counts as well. */
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
static const char *below, *fault;
static pid_t owner;

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    below = getenv("CAMPAIGN_BELOW");
    fault = getenv("CAMPAIGN_FAULT");
    if (getenv("CAMPAIGN_AT")) at = atol(getenv("CAMPAIGN_AT"));
    if (!fault) fault = "";
    owner = getpid();
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("CAMPAIGN_COUNT");
    if (!path || getpid() != owner) return;
    FILE *file = fopen(path, "a");
    if (file) { fprintf(file, "%ld\n", atomic_load(&count)); fclose(file); }
}

/* 0, or the error with which the call is to fail. */
static int fails(const char *path) {
    if (!below || !path || !strstr(path, below)) return 0;
    long now = atomic_fetch_add(&count, 1) + 1;
    if (at < 0 || now < at) return 0;
    if (!strcmp(fault, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(fault, "full")) return ENOSPC;
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

#define FAIL(path) do { int e = fails(path); if (e) { errno = e; return -1; } } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write); char buffer[PATH_MAX];
    if (fd > 2) FAIL(path_of(fd, buffer));
    return real(fd, data, size);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64); char buffer[PATH_MAX];
    FAIL(path_of(fd, buffer));
    return real(fd, data, size, offset);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(pwrite); char buffer[PATH_MAX];
    FAIL(path_of(fd, buffer));
    return real(fd, data, size, offset);
}
ssize_t writev(int fd, const struct iovec *parts, int number) {
    REAL(writev); char buffer[PATH_MAX];
    FAIL(path_of(fd, buffer));
    return real(fd, parts, number);
}
size_t fwrite(const void *data, size_t size, size_t number, FILE *file) {
    REAL(fwrite); char buffer[PATH_MAX];
    int fd = fileno(file), e = fd > 2 ? fails(path_of(fd, buffer)) : 0;
    if (e) { errno = e; return 0; }
    return real(data, size, number, file);
}
int fsync(int fd) { REAL(fsync); char buffer[PATH_MAX]; FAIL(path_of(fd, buffer)); return real(fd); }
int rename(const char *from, const char *to) { REAL(rename); FAIL(to); return real(from, to); }
int unlink(const char *path) { REAL(unlink); FAIL(path); return real(path); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); FAIL(path); return real(path, mode); }
