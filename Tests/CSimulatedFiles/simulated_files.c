#include "simulated_files.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

static const char prefix[] = "/simulated/";
static simulated_file_calls calls;
static sqlite3_vfs *real;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/// What the connections to one file share: its locks, and the memory of its WAL index.
typedef struct node {
  struct node *next;
  char *path;
  int references;
  int shared, reserved, exclusive;
  void **regions;
  int region_count;
  int mappings;
  int shm_shared[SQLITE_SHM_NLOCK];
  int shm_exclusive[SQLITE_SHM_NLOCK];
} node;
static node *nodes;

typedef struct {
  sqlite3_file base;
  int64_t handle;
  int level;
  int is_mapped;
  unsigned shm_shared, shm_exclusive;
  node *node;
} file;

static int failure(int error, int otherwise) {
  return error == 0 ? SQLITE_OK : error == ENOSPC ? SQLITE_FULL : otherwise;
}

static node *take_node(const char *path) {
  pthread_mutex_lock(&mutex);
  node *found = nodes;
  while (found && strcmp(found->path, path) != 0) found = found->next;
  if (!found) {
    found = calloc(1, sizeof(node));
    found->path = strdup(path);
    found->next = nodes;
    nodes = found;
  }
  found->references += 1;
  pthread_mutex_unlock(&mutex);
  return found;
}

static void forget_regions(node *node) {
  for (int index = 0; index < node->region_count; index += 1) free(node->regions[index]);
  free(node->regions);
  node->regions = NULL;
  node->region_count = 0;
}

static void give_node(node *node) {
  pthread_mutex_lock(&mutex);
  node->references -= 1;
  if (node->references == 0) {
    struct node **place = &nodes;
    while (*place != node) place = &(*place)->next;
    *place = node->next;
    forget_regions(node);
    free(node->path);
    free(node);
  }
  pthread_mutex_unlock(&mutex);
}

static int unlock_to(file *file, int level) {
  pthread_mutex_lock(&mutex);
  node *node = file->node;
  if (file->level >= SQLITE_LOCK_EXCLUSIVE && level < SQLITE_LOCK_EXCLUSIVE) node->exclusive = 0;
  if (file->level >= SQLITE_LOCK_RESERVED && level < SQLITE_LOCK_RESERVED) node->reserved = 0;
  if (file->level >= SQLITE_LOCK_SHARED && level < SQLITE_LOCK_SHARED) node->shared -= 1;
  if (level < file->level) file->level = level;
  pthread_mutex_unlock(&mutex);
  return SQLITE_OK;
}

static int file_close(sqlite3_file *base) {
  file *f = (file *)base;
  unlock_to(f, SQLITE_LOCK_NONE);
  calls.close(f->handle);
  give_node(f->node);
  return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *buffer, int amount, sqlite3_int64 offset) {
  int64_t got = 0;
  int error = calls.read(((file *)base)->handle, buffer, amount, offset, &got);
  if (error) return SQLITE_IOERR_READ;
  if (got == amount) return SQLITE_OK;
  memset((char *)buffer + got, 0, (size_t)(amount - got));
  return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *base, const void *buffer, int amount, sqlite3_int64 offset) {
  return failure(calls.write(((file *)base)->handle, buffer, amount, offset), SQLITE_IOERR_WRITE);
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size) {
  return failure(calls.truncate(((file *)base)->handle, size), SQLITE_IOERR_TRUNCATE);
}

static int file_sync(sqlite3_file *base, int flags) {
  (void)flags;
  return failure(calls.sync(((file *)base)->handle), SQLITE_IOERR_FSYNC);
}

static int file_size(sqlite3_file *base, sqlite3_int64 *size) {
  int64_t found = 0;
  int error = calls.size(((file *)base)->handle, &found);
  *size = found;
  return failure(error, SQLITE_IOERR_FSTAT);
}

static int file_lock(sqlite3_file *base, int level) {
  file *f = (file *)base;
  node *node = f->node;
  int result = SQLITE_OK;
  pthread_mutex_lock(&mutex);
  if (level > f->level) {
    if (f->level < SQLITE_LOCK_SHARED) {
      if (node->exclusive) result = SQLITE_BUSY;
      else {
        node->shared += 1;
        f->level = SQLITE_LOCK_SHARED;
      }
    }
    if (result == SQLITE_OK && level >= SQLITE_LOCK_RESERVED && f->level < SQLITE_LOCK_RESERVED) {
      if (node->reserved) result = SQLITE_BUSY;
      else {
        node->reserved = 1;
        f->level = SQLITE_LOCK_RESERVED;
      }
    }
    if (result == SQLITE_OK && level == SQLITE_LOCK_EXCLUSIVE) {
      if (node->shared > 1) result = SQLITE_BUSY;
      else {
        node->exclusive = 1;
        f->level = SQLITE_LOCK_EXCLUSIVE;
      }
    }
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

static int file_unlock(sqlite3_file *base, int level) { return unlock_to((file *)base, level); }

static int file_reserved(sqlite3_file *base, int *result) {
  pthread_mutex_lock(&mutex);
  *result = ((file *)base)->node->reserved;
  pthread_mutex_unlock(&mutex);
  return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int operation, void *argument) {
  (void)base; (void)operation; (void)argument;
  return SQLITE_NOTFOUND;
}

static int file_sector(sqlite3_file *base) { (void)base; return 4096; }

/// A torn write leaves the bytes around it alone: that is how the simulated disk tears.
static int file_characteristics(sqlite3_file *base) { (void)base; return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

static int shm_map(sqlite3_file *base, int region, int size, int extend, void volatile **result) {
  file *f = (file *)base;
  node *node = f->node;
  *result = NULL;
  pthread_mutex_lock(&mutex);
  if (!f->is_mapped) {
    f->is_mapped = 1;
    node->mappings += 1;
  }
  if (region >= node->region_count && extend) {
    node->regions = realloc(node->regions, sizeof(void *) * (size_t)(region + 1));
    while (node->region_count <= region) node->regions[node->region_count++] = calloc(1, (size_t)size);
  }
  if (region < node->region_count) *result = node->regions[region];
  pthread_mutex_unlock(&mutex);
  return SQLITE_OK;
}

static int shm_lock(sqlite3_file *base, int offset, int count, int flags) {
  file *f = (file *)base;
  node *node = f->node;
  unsigned mask = ((1u << count) - 1) << offset;
  int result = SQLITE_OK;
  pthread_mutex_lock(&mutex);
  if (flags & SQLITE_SHM_UNLOCK) {
    for (int index = offset; index < offset + count; index += 1) {
      if (f->shm_shared & (1u << index)) node->shm_shared[index] -= 1;
      if (f->shm_exclusive & (1u << index)) node->shm_exclusive[index] = 0;
    }
    f->shm_shared &= ~mask;
    f->shm_exclusive &= ~mask;
  } else if (flags & SQLITE_SHM_SHARED) {
    if (node->shm_exclusive[offset] && !(f->shm_exclusive & mask)) result = SQLITE_BUSY;
    else if (!(f->shm_shared & mask)) {
      node->shm_shared[offset] += 1;
      f->shm_shared |= mask;
    }
  } else {
    for (int index = offset; index < offset + count; index += 1) {
      int own = (f->shm_shared >> index) & 1;
      if (node->shm_shared[index] > own || (node->shm_exclusive[index] && !(f->shm_exclusive & (1u << index)))) {
        result = SQLITE_BUSY;
      }
    }
    if (result == SQLITE_OK) {
      for (int index = offset; index < offset + count; index += 1) node->shm_exclusive[index] = 1;
      f->shm_exclusive |= mask;
    }
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

static void shm_barrier(sqlite3_file *base) { (void)base; __sync_synchronize(); }

static int shm_unmap(sqlite3_file *base, int remove) {
  file *f = (file *)base;
  (void)remove;
  pthread_mutex_lock(&mutex);
  for (int index = 0; index < SQLITE_SHM_NLOCK; index += 1) {
    if (f->shm_shared & (1u << index)) f->node->shm_shared[index] -= 1;
    if (f->shm_exclusive & (1u << index)) f->node->shm_exclusive[index] = 0;
  }
  f->shm_shared = f->shm_exclusive = 0;
  if (f->is_mapped) {
    f->is_mapped = 0;
    f->node->mappings -= 1;
    // As with the machine's own: the memory is gone with the last connection that maps it.
    if (f->node->mappings == 0) forget_regions(f->node);
  }
  pthread_mutex_unlock(&mutex);
  return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
  .iVersion = 2,
  .xClose = file_close,
  .xRead = file_read,
  .xWrite = file_write,
  .xTruncate = file_truncate,
  .xSync = file_sync,
  .xFileSize = file_size,
  .xLock = file_lock,
  .xUnlock = file_unlock,
  .xCheckReservedLock = file_reserved,
  .xFileControl = file_control,
  .xSectorSize = file_sector,
  .xDeviceCharacteristics = file_characteristics,
  .xShmMap = shm_map,
  .xShmLock = shm_lock,
  .xShmBarrier = shm_barrier,
  .xShmUnmap = shm_unmap,
};

static int is_simulated(const char *path) { return path && strncmp(path, prefix, sizeof prefix - 1) == 0; }

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *out) {
  (void)vfs;
  if (!is_simulated(path)) return real->xOpen(real, path, base, flags, out);
  file *f = (file *)base;
  memset(f, 0, sizeof *f);
  int error = calls.open(path, flags & SQLITE_OPEN_CREATE, &f->handle);
  if (error) return failure(error, SQLITE_CANTOPEN);
  f->base.pMethods = &methods;
  f->node = take_node(path);
  if (out) *out = flags;
  return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync) {
  (void)vfs;
  if (!is_simulated(path)) return real->xDelete(real, path, sync);
  int error = calls.remove(path, sync);
  return error == ENOENT ? SQLITE_IOERR_DELETE_NOENT : failure(error, SQLITE_IOERR_DELETE);
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *result) {
  (void)vfs;
  if (!is_simulated(path)) return real->xAccess(real, path, flags, result);
  *result = calls.exists(path);
  return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *path, int size, char *out) {
  (void)vfs;
  if (!is_simulated(path)) return real->xFullPathname(real, path, size, out);
  sqlite3_snprintf(size, out, "%s", path);
  return SQLITE_OK;
}

int simulated_files_register(simulated_file_calls given) {
  static sqlite3_vfs vfs;
  calls = given;
  if (real) return SQLITE_OK;
  real = sqlite3_vfs_find(NULL);
  if (!real) return SQLITE_ERROR;
  vfs = *real;
  vfs.pNext = NULL;
  vfs.zName = "simulated";
  if (vfs.szOsFile < (int)sizeof(file)) vfs.szOsFile = (int)sizeof(file);
  vfs.xOpen = vfs_open;
  vfs.xDelete = vfs_delete;
  vfs.xAccess = vfs_access;
  vfs.xFullPathname = vfs_full_path;
  return sqlite3_vfs_register(&vfs, 1);
}
