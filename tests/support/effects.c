/* Counts what a program does to the files below some directories, and ends or fails it there.
 *
 * Preloaded (LD_PRELOAD). An effect is a call that changes the file system or makes a change
 * durable. libfiu's `fiu-run` fails calls at random; this tries each call there is, once, and what
 * it finds is found again under the same number. Of its environment it reads
 *
 *     EFFECTS_BELOW     the directories, by colons; calls on descriptors elsewhere do not count
 *     EFFECTS_LOG       a file that gets the name of each effect, one a line
 *     EFFECTS_KILL_AT   SIGKILL instead of effect number N, from 1
 *     EFFECTS_FAIL_AT   effect number N fails with EFFECTS_ERRNO
 *     EFFECTS_STICKY    and so do all later ones: that need room, or for EROFS all
 *     EFFECTS_READS     count what is read instead: files, opened ones, directories, stat of a name
 *     EFFECTS_MET       a file that is made when the effect is reached
 *
 * when it is loaded, and again when `preloaded_begin` is called: in a process that was forked.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

static atomic_int done;
static int log_fd = -1;
static long kill_at, fail_at, fail_with, sticky, reads;
static char below[4096];

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) void preloaded_begin(void) {
    const char *log = getenv("EFFECTS_LOG"), *top = getenv("EFFECTS_BELOW");
    done = 0;
    kill_at = number("EFFECTS_KILL_AT");
    fail_at = number("EFFECTS_FAIL_AT");
    fail_with = number("EFFECTS_ERRNO");
    sticky = number("EFFECTS_STICKY");
    reads = number("EFFECTS_READS");
    if (top) snprintf(below, sizeof below, "%s", top);
    if (log) log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_below(const char *path) {
    for (const char *top = below, *end; *top; top = *end ? end + 1 : end) {
        end = strchrnul(top, ':');
        size_t length = end - top;
        if (!strncmp(path, top, length) && (path[length] == '/' || !path[length])) return 1;
    }
    return 0;
}

static int counts(int fd) {
    char link[64], path[4096];
    if (!below[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* Not through our own `open`, which counts. */
static int creat_met(void) {
    const char *met = getenv("EFFECTS_MET");
    return met ? (int)syscall(SYS_openat, AT_FDCWD, met, O_WRONLY | O_CREAT, 0600) : -1;
}

/* -1 where the call is to fail. */
static int effect(const char *name, int needs_room) {
    int number = atomic_fetch_add(&done, 1) + 1;
    if (log_fd >= 0) dprintf(log_fd, "%s\n", name);
    if (number == kill_at || number == fail_at) close(creat_met());
    if (number == kill_at) kill(getpid(), SIGKILL);
    int stays = sticky && fail_at && (needs_room || fail_with == EROFS);
    if (number == fail_at || (stays && number > fail_at)) {
        errno = fail_with;
        return -1;
    }
    return 0;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define ON_FD(type, name, room, fd, declared, ...)                                       \
    type name declared {                                                                 \
        REAL(name);                                                                      \
        if (!reads && counts(fd) && effect(#name, room)) return -1;                      \
        return real(__VA_ARGS__);                                                        \
    }
#define ON_PATH(type, name, room, declared, ...)                                         \
    type name declared {                                                                 \
        REAL(name);                                                                      \
        if (below[0] && !reads && effect(#name, room)) return -1;                        \
        return real(__VA_ARGS__);                                                        \
    }
#define READING(type, name, fd, declared, ...)                                           \
    type name declared {                                                                 \
        REAL(name);                                                                      \
        if (reads && counts(fd) && effect(#name, 0)) return -1;                          \
        return real(__VA_ARGS__);                                                        \
    }

ON_FD(ssize_t, write, 1, fd, (int fd, const void *data, size_t size), fd, data, size)
ON_FD(ssize_t, pwrite, 1, fd, (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
ON_FD(ssize_t, pwrite64, 1, fd, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)
ON_FD(ssize_t, writev, 1, fd, (int fd, const struct iovec *parts, int count), fd, parts, count)
ON_FD(int, ftruncate, 0, fd, (int fd, off_t size), fd, size)
ON_FD(int, ftruncate64, 0, fd, (int fd, off64_t size), fd, size)
ON_FD(int, fallocate, 1, fd, (int fd, int mode, off_t at, off_t size), fd, mode, at, size)
ON_FD(int, fallocate64, 1, fd, (int fd, int mode, off64_t at, off64_t size), fd, mode, at, size)
ON_FD(ssize_t, copy_file_range, 1, to,
      (int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags),
      from, from_at, to, to_at, size, flags)
ON_FD(int, fsync, 0, fd, (int fd), fd)
ON_FD(int, fdatasync, 0, fd, (int fd), fd)
ON_FD(int, syncfs, 0, fd, (int fd), fd)
ON_FD(int, fchmod, 0, fd, (int fd, mode_t mode), fd, mode)
ON_FD(int, fchown, 0, fd, (int fd, uid_t user, gid_t group), fd, user, group)
ON_FD(int, futimens, 0, fd, (int fd, const struct timespec times[2]), fd, times)
ON_FD(int, fsetxattr, 1, fd, (int fd, const char *name, const void *value, size_t size, int flags),
      fd, name, value, size, flags)

ON_PATH(int, rename, 1, (const char *from, const char *to), from, to)
ON_PATH(int, renameat, 1, (int from_fd, const char *from, int to_fd, const char *to),
        from_fd, from, to_fd, to)
ON_PATH(int, link, 1, (const char *from, const char *to), from, to)
ON_PATH(int, linkat, 1, (int from_fd, const char *from, int to_fd, const char *to, int flags),
        from_fd, from, to_fd, to, flags)
ON_PATH(int, symlink, 1, (const char *target, const char *path), target, path)
ON_PATH(int, symlinkat, 1, (const char *target, int fd, const char *path), target, fd, path)
ON_PATH(int, unlink, 0, (const char *path), path)
ON_PATH(int, unlinkat, 0, (int fd, const char *path, int flags), fd, path, flags)
ON_PATH(int, rmdir, 0, (const char *path), path)
ON_PATH(int, mkdir, 1, (const char *path, mode_t mode), path, mode)
ON_PATH(int, mkdirat, 1, (int fd, const char *path, mode_t mode), fd, path, mode)
ON_PATH(int, chmod, 0, (const char *path, mode_t mode), path, mode)
ON_PATH(int, fchmodat, 0, (int fd, const char *path, mode_t mode, int flags), fd, path, mode, flags)
ON_PATH(int, chown, 0, (const char *path, uid_t user, gid_t group), path, user, group)
ON_PATH(int, lchown, 0, (const char *path, uid_t user, gid_t group), path, user, group)
ON_PATH(int, fchownat, 0, (int fd, const char *path, uid_t user, gid_t group, int flags),
        fd, path, user, group, flags)
ON_PATH(int, utimensat, 0, (int fd, const char *path, const struct timespec times[2], int flags),
        fd, path, times, flags)
ON_PATH(int, setxattr, 1,
        (const char *path, const char *name, const void *value, size_t size, int flags),
        path, name, value, size, flags)
ON_PATH(int, lsetxattr, 1,
        (const char *path, const char *name, const void *value, size_t size, int flags),
        path, name, value, size, flags)

READING(ssize_t, read, fd, (int fd, void *data, size_t size), fd, data, size)
READING(ssize_t, readv, fd, (int fd, const struct iovec *parts, int count), fd, parts, count)
READING(ssize_t, pread, fd, (int fd, void *data, size_t size, off_t at), fd, data, size, at)
READING(ssize_t, pread64, fd, (int fd, void *data, size_t size, off64_t at), fd, data, size, at)

/* What a disk can not give of an inode: of an open file it has it in memory. */
#define STAT(name, where, declared, ...)                                                 \
    int name declared {                                                                  \
        REAL(name);                                                                      \
        if (reads && (where) && effect(#name, 0)) return -1;                             \
        return real(__VA_ARGS__);                                                        \
    }

STAT(stat, is_below(path), (const char *path, struct stat *found), path, found)
STAT(stat64, is_below(path), (const char *path, struct stat64 *found), path, found)
STAT(lstat, is_below(path), (const char *path, struct stat *found), path, found)
STAT(lstat64, is_below(path), (const char *path, struct stat64 *found), path, found)
STAT(fstatat, path[0] == '/' ? is_below(path) : counts(fd),
     (int fd, const char *path, struct stat *found, int flags), fd, path, found, flags)
STAT(fstatat64, path[0] == '/' ? is_below(path) : counts(fd),
     (int fd, const char *path, struct stat64 *found, int flags), fd, path, found, flags)

/* A file that is made, or emptied, is an effect; opening another one reads its inode. */
static int opened(const char *name, int flags, int fd) {
    int makes = flags & (O_CREAT | O_TRUNC);
    if (fd < 0 || !reads || makes || !counts(fd) || !effect(name, 0)) return fd;
    close(fd);
    errno = fail_with;
    return -1;
}

#define OPENING(name, declared, ...)                                                     \
    int name declared {                                                                  \
        mode_t mode = 0;                                                                 \
        REAL(name);                                                                      \
        if (flags & (O_CREAT | O_TMPFILE)) {                                             \
            va_list more;                                                                \
            va_start(more, flags);                                                       \
            mode = va_arg(more, mode_t);                                                 \
            va_end(more);                                                                \
        }                                                                                \
        int makes = below[0] && !reads && (flags & (O_CREAT | O_TRUNC));                 \
        if (makes && effect(#name, 1)) return -1;                                        \
        return opened(#name, flags, real(__VA_ARGS__, mode));                            \
    }

OPENING(open, (const char *path, int flags, ...), path, flags)
OPENING(open64, (const char *path, int flags, ...), path, flags)
OPENING(openat, (int fd, const char *path, int flags, ...), fd, path, flags)
OPENING(openat64, (int fd, const char *path, int flags, ...), fd, path, flags)

DIR *opendir(const char *path) {
    REAL(opendir);
    DIR *found = real(path);
    if (!found || !reads || !counts(dirfd(found)) || !effect("opendir", 0)) return found;
    closedir(found);
    errno = fail_with;
    return NULL;
}

/* The first entry stands for all: they are read together. */
#define LISTING(type, name)                                                              \
    type *name(DIR *dir) {                                                               \
        REAL(name);                                                                      \
        int first = reads && telldir(dir) == 0 && counts(dirfd(dir));                    \
        return first && effect(#name, 0) ? NULL : real(dir);                             \
    }

LISTING(struct dirent, readdir)
LISTING(struct dirent64, readdir64)
