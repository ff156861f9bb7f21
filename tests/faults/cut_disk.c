/* A disk that is cut off: while the file CUT_FLAG exists, calls for what lies below CUT_BELOW fail with error CUT_ERROR.

   A library for LD_PRELOAD: it stands before the C library in Python, HDF5 and all others alike. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int is_cut(const char *path) {
    const char *flag = getenv("CUT_FLAG"), *below = getenv("CUT_BELOW"), *error = getenv("CUT_ERROR");
    int before = errno, found;
    if (flag == NULL || below == NULL || error == NULL || path == NULL || strncmp(path, below, strlen(below)) != 0)
        return 0;
    found = syscall(SYS_access, flag, F_OK) == 0;
    errno = found ? atoi(error) : before;
    return found;
}

static int is_cut_file(int file) {
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlink, link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_cut(path);
}

#define NEXT(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return is_cut(path) ? -1 : NEXT(name)(path, flags, mode);                                                      \
    }
#define OPEN_AT(name)                                                                                                  \
    int name(int folder, const char *path, int flags, ...) {                                                           \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return is_cut(path) ? -1 : NEXT(name)(folder, path, flags, mode);                                              \
    }
#define OF_PATH(type, name, failed, parameters, arguments)                                                             \
    type name parameters { return is_cut(path) ? failed : NEXT(name) arguments; }
#define OF_FILE(type, name, parameters, arguments)                                                                     \
    type name parameters { return is_cut_file(file) ? -1 : NEXT(name) arguments; }

OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)
OF_PATH(DIR *, opendir, NULL, (const char *path), (path))
OF_PATH(int, stat, -1, (const char *path, struct stat *found), (path, found))
OF_PATH(int, lstat, -1, (const char *path, struct stat *found), (path, found))
OF_PATH(int, stat64, -1, (const char *path, struct stat64 *found), (path, found))
OF_PATH(int, lstat64, -1, (const char *path, struct stat64 *found), (path, found))
OF_PATH(int, access, -1, (const char *path, int mode), (path, mode))
OF_PATH(int, mkdir, -1, (const char *path, mode_t mode), (path, mode))
OF_PATH(int, rmdir, -1, (const char *path), (path))
OF_PATH(int, unlink, -1, (const char *path), (path))
OF_PATH(int, rename, -1, (const char *path, const char *other), (path, other))
OF_PATH(int, link, -1, (const char *path, const char *other), (path, other))
OF_FILE(ssize_t, read, (int file, void *data, size_t size), (file, data, size))
OF_FILE(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
OF_FILE(ssize_t, pread, (int file, void *data, size_t size, off_t at), (file, data, size, at))
OF_FILE(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
OF_FILE(ssize_t, pread64, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
OF_FILE(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
OF_FILE(int, fsync, (int file), (file))
OF_FILE(int, fstat, (int file, struct stat *found), (file, found))
OF_FILE(int, fstat64, (int file, struct stat64 *found), (file, found))
OF_FILE(int, ftruncate64, (int file, off64_t size), (file, size))
OF_FILE(int, flock, (int file, int operation), (file, operation))
