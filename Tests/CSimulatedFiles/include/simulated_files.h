/// A SQLite file system (VFS) that leads every path below "/simulated/" to functions of the caller's, and every other
/// path to the machine's own file system. Locks and shared memory are kept here, for connections of this process.
#pragma once

#include <stdint.h>

/// What the caller does for files. Handles are the caller's, 0 or more. Functions that can fail return 0, or an errno.
typedef struct {
  /// Opens a file, making it where `create` is not 0; puts a handle at `handle`.
  int (*open)(const char *path, int create, int64_t *handle);
  /// Reads up to `amount` bytes; puts how many there were at `got`.
  int (*read)(int64_t handle, void *buffer, int64_t amount, int64_t offset, int64_t *got);
  int (*write)(int64_t handle, const void *buffer, int64_t amount, int64_t offset);
  int (*truncate)(int64_t handle, int64_t size);
  int (*sync)(int64_t handle);
  int (*size)(int64_t handle, int64_t *size);
  void (*close)(int64_t handle);
  /// Removes a file; with `sync` its folder is made durable too.
  int (*remove)(const char *path, int sync);
  int (*exists)(const char *path);
} simulated_file_calls;

/// Registers the file system as SQLite's default, once in a process.
/// - Returns: a SQLite result code, 0 where all is well.
int simulated_files_register(simulated_file_calls calls);
