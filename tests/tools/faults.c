/* Copyright: (c) 2026, nebula.provision contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Preloaded by faults.py: counts every call that takes room on, or settles something in, the file system below
 * FAULTS_ROOT, over all processes of a run, and fails the one that is to fail. strace can do so per thread only, and
 * knows paths but no directories.
 *
 * FAULTS_COUNTER  a file of 8 bytes, shared: how many there were
 * FAULTS_AT       the number of the call to fail, from 1; 0 for none
 * FAULTS_ERRNO    with what; 0: instead of it, the caller and its process group stop, as for SIGSTOP; -1: they end, as
 *                 for SIGKILL
 * FAULTS_CONNECTS 1: connections to sockets count as well, wherever these are
 * FAULTS_STAYS    1: and all that take room after it, as on a disk that is full
 * FAULTS_LOG      a file: a line for each call
 * FAULTS_LIES     syncs of paths that hold this are reported as done, and not done
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static int64_t *counter;
static int64_t at;
static int number, stays, connects, logged = -1;
static const char *root, *lies;
static size_t length;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS_COUNTER"), *log = getenv("FAULTS_LOG");
    root = getenv("FAULTS_ROOT");
    if (!root || !path)
        return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (shared == MAP_FAILED)
        return;
    at = atoll(getenv("FAULTS_AT") ?: "0");
    number = atoi(getenv("FAULTS_ERRNO") ?: "28");
    stays = atoi(getenv("FAULTS_STAYS") ?: "0");
    connects = atoi(getenv("FAULTS_CONNECTS") ?: "0");
    length = strlen(root);
    lies = getenv("FAULTS_LIES");
    if (log) {
        int first = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CLOEXEC);
        /* Programs may count on the lowest numbers. */
        logged = first < 0 ? -1 : fcntl(first, F_DUPFD_CLOEXEC, 500);
        syscall(SYS_close, first);
    }
    counter = shared;
}

static int below(const char *path)
{
    return path && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int removes(const char *call)
{
    return strcmp(call, "unlink") == 0 || strcmp(call, "rmdir") == 0;
}

/* shown: what is written down of it. 1: the call is to fail, errno is set. */
static int counted(const char *call, const char *shown)
{
    int64_t n = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    /* A full disk does not keep anybody from removing. */
    int hit = at && !removes(call) && (n == at || (stays && n > at));
    if (logged >= 0) {
        char line[PATH_MAX * 2];
        int size = snprintf(line, sizeof line, "%lld %s %s%s\n", (long long)n, call, shown, hit ? " !" : "");
        syscall(SYS_write, logged, line, size);
    }
    if (hit && number <= 0) {
        syscall(SYS_kill, 0, number ? SIGKILL : SIGSTOP);
        return 0;
    }
    if (hit)
        errno = number;
    return hit;
}

static int fails(const char *call, const char *path)
{
    return counted(call, path + length);
}

static int fails_at(const char *call, int directory, const char *path)
{
    char whole[PATH_MAX * 2], link[64];
    if (!counter || !path)
        return 0;
    if (path[0] != '/') {
        char base[PATH_MAX];
        ssize_t size;
        if (directory == AT_FDCWD)
            size = readlink("/proc/self/cwd", base, sizeof base - 1);
        else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
            size = readlink(link, base, sizeof base - 1);
        }
        if (size < 0)
            return 0;
        base[size] = 0;
        snprintf(whole, sizeof whole, "%s/%s", base, path);
        path = whole;
    }
    return below(path) ? fails(call, path) : 0;
}

static int fails_fd(const char *call, int fd)
{
    char path[PATH_MAX], link[64];
    int before = errno;
    if (!counter)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = before;
    if (size <= 0 || path[0] != '/')
        return 0;
    path[size] = 0;
    return below(path) ? fails(call, path) : 0;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define BY_FD(type, name, declared, passed) \
    type name declared \
    { \
        REAL(name); \
        return fails_fd(#name, fd) ? -1 : real passed; \
    }

BY_FD(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
BY_FD(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t to), (fd, data, size, to))
BY_FD(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t to), (fd, data, size, to))
BY_FD(ssize_t, writev, (int fd, const struct iovec *data, int count), (fd, data, count))
BY_FD(ssize_t, pwritev, (int fd, const struct iovec *data, int count, off_t to), (fd, data, count, to))
BY_FD(ssize_t, pwritev64, (int fd, const struct iovec *data, int count, off64_t to), (fd, data, count, to))
BY_FD(int, fallocate, (int fd, int mode, off_t from, off_t size), (fd, mode, from, size))
BY_FD(int, fallocate64, (int fd, int mode, off64_t from, off64_t size), (fd, mode, from, size))

static int lied(int fd)
{
    char path[PATH_MAX], link[64];
    if (!counter || !lies)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0)
        return 0;
    path[size] = 0;
    return below(path) && strstr(path + length, lies) != NULL;
}

#define SYNC(name) \
    int name(int fd) \
    { \
        REAL(name); \
        if (lied(fd)) \
            return 0; \
        return fails_fd(#name, fd) ? -1 : real(fd); \
    }

SYNC(fsync)
SYNC(fdatasync)

/* To shrink a file is how room is made. */
static int grows(int fd, off64_t size)
{
    struct stat64 found;
    return fstat64(fd, &found) != 0 || size > found.st_size;
}

int ftruncate(int fd, off_t size)
{
    REAL(ftruncate);
    return grows(fd, size) && fails_fd("ftruncate", fd) ? -1 : real(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    REAL(ftruncate64);
    return grows(fd, size) && fails_fd("ftruncate", fd) ? -1 : real(fd, size);
}

#define BY_PATH(name, declared, passed) \
    int name declared \
    { \
        REAL(name); \
        return fails_at(#name, AT_FDCWD, path) ? -1 : real passed; \
    }

BY_PATH(truncate, (const char *path, off_t size), (path, size))
BY_PATH(truncate64, (const char *path, off64_t size), (path, size))
BY_PATH(mkdir, (const char *path, mode_t mode), (path, mode))
BY_PATH(symlink, (const char *target, const char *path), (target, path))
BY_PATH(link, (const char *from, const char *path), (from, path))
static int there(int directory, const char *path)
{
    struct stat found;
    return fstatat(directory, path, &found, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What is not there is not removed, and nothing to be told of. */
int unlink(const char *path)
{
    REAL(unlink);
    return there(AT_FDCWD, path) && fails_at("unlink", AT_FDCWD, path) ? -1 : real(path);
}

int rmdir(const char *path)
{
    REAL(rmdir);
    return there(AT_FDCWD, path) && fails_at("rmdir", AT_FDCWD, path) ? -1 : real(path);
}

/* What is renamed is told too: "rename /to < /from" */
int rename(const char *from, const char *path)
{
    REAL(rename);
    char both[PATH_MAX * 2];
    if (counter && below(path)) {
        snprintf(both, sizeof both, "%s < %s", path, below(from) ? from + length : from);
        if (fails("rename", both))
            return -1;
    }
    return real(from, path);
}

int unlinkat(int fd, const char *path, int flags)
{
    REAL(unlinkat);
    return there(fd, path) && fails_at(flags & AT_REMOVEDIR ? "rmdir" : "unlink", fd, path) ? -1 : real(fd, path, flags);
}

int mkdirat(int fd, const char *path, mode_t mode)
{
    REAL(mkdirat);
    return fails_at("mkdir", fd, path) ? -1 : real(fd, path, mode);
}

static int creates(int directory, const char *path, int flags)
{
    struct stat found;
    /* O_TMPFILE holds the bits of O_DIRECTORY. */
    if ((flags & O_TMPFILE) == O_TMPFILE)
        return 1;
    return (flags & O_CREAT) && fstatat(directory, path, &found, AT_SYMLINK_NOFOLLOW) != 0;
}

#define OPEN(name, declared, directory, passed) \
    int name declared \
    { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list list; \
            va_start(list, flags); \
            mode = va_arg(list, mode_t); \
            va_end(list); \
        } \
        if (counter && creates(directory, path, flags) && fails_at("create", directory, path)) \
            return -1; \
        return real passed; \
    }

OPEN(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN(openat, (int fd, const char *path, int flags, ...), fd, (fd, path, flags, mode))
OPEN(openat64, (int fd, const char *path, int flags, ...), fd, (fd, path, flags, mode))

int connect(int fd, const struct sockaddr *to, socklen_t size)
{
    REAL(connect);
    if (counter && connects) {
        const struct sockaddr_un *unix_one = (const struct sockaddr_un *)to;
        const char *shown = to->sa_family == AF_UNIX && size > sizeof to->sa_family ? unix_one->sun_path : "elsewhere";
        if (counted("connect", shown))
            return -1;
    }
    return real(fd, to, size);
}
