#define _GNU_SOURCE
#include "meter.h"

#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define METER_HAS_OTHER_ALLOCATOR 1
#endif
#endif

static _Atomic int armed;
static _Atomic int64_t live;
static _Atomic int64_t peak;
static _Atomic uint64_t blocks;
static _Thread_local int watched;
static int64_t limit;
static flight_record *current;

static void end(uint32_t cause, const char *text, size_t length) {
  atomic_store(&armed, 0);
  if (current) current->cause = cause;
  if (write(2, text, length) < 0) { /* Nobody reads it; the record says it too. */
  }
  // Not abort(): from here a backtrace finds its way up, through the C library it does not.
  __builtin_trap();
}

// No allocation and no locale here: this runs inside malloc.
static void refuse_memory(int64_t asked) {
  char text[160] = "fuzz: an input takes more memory than its target may: ";
  size_t at = strlen(text);
  char digits[24];
  int count = 0;
  for (uint64_t rest = (uint64_t)asked; rest || !count; rest /= 10) digits[count++] = (char)('0' + rest % 10);
  while (count) text[at++] = digits[--count];
  memcpy(text + at, " bytes\n", 7);
  end(METER_MEMORY, text, at + 7);
}

static void time_is_over(int signal) {
  (void)signal;
  static const char text[] = "fuzz: an input takes more time than its target may\n";
  end(METER_TIME, text, sizeof text - 1);
}

void flight_begin(flight_record *record, uint64_t index, const uint8_t *bytes, uint32_t length) {
  record->cause = METER_NONE;
  record->length = length;
  if (length) memcpy(record->bytes, bytes, length);
  record->index = index;
  atomic_signal_fence(memory_order_seq_cst);
}

static void set_timer(uint64_t milliseconds) {
  struct itimerval timer = {{0, 0}, {(time_t)(milliseconds / 1000), (suseconds_t)(milliseconds % 1000 * 1000)}};
  setitimer(ITIMER_PROF, &timer, NULL);
}

void meter_arm(flight_record *record, uint64_t bytes, uint64_t milliseconds) {
  current = record;
  limit = bytes ? (int64_t)bytes : INT64_MAX;
  atomic_store(&live, 0);
  atomic_store(&peak, 0);
  atomic_store(&blocks, 0);
  if (milliseconds) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = time_is_over;
    sigaction(SIGPROF, &action, NULL);
    set_timer(milliseconds);
  }
  atomic_store(&armed, 1);
}

uint64_t meter_disarm(void) {
  atomic_store(&armed, 0);
  set_timer(0);
  return (uint64_t)atomic_load(&peak);
}

void meter_watch(void) { watched = 1; }

// Where the code of the library lies whose blocks do not count.
static uintptr_t left_out_from, left_out_to;

static int find_library(struct dl_phdr_info *library, size_t size, void *name) {
  (void)size;
  if (!library->dlpi_name || !strstr(library->dlpi_name, name)) return 0;
  for (int index = 0; index < library->dlpi_phnum; index++) {
    const ElfW(Phdr) *segment = &library->dlpi_phdr[index];
    if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X)) continue;
    uintptr_t from = library->dlpi_addr + segment->p_vaddr;
    // Of several, as linkers of late write them, everything from the first to the last.
    if (!left_out_from) left_out_from = from;
    left_out_to = from + segment->p_memsz;
  }
  return left_out_from != 0;
}

int meter_leave_out(const char *name) { return dl_iterate_phdr(find_library, (void *)name); }

uint64_t meter_blocks(void) { return atomic_load(&blocks); }

#ifdef METER_HAS_OTHER_ALLOCATOR

int meter_counts_memory(void) { return 0; }

#else

int meter_counts_memory(void) { return 1; }

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

#define CALLER __builtin_return_address(0)

// Asked before the system is, so that a request for a terabyte is a finding and not a null pointer.
static inline void ask(size_t size) {
  if (!atomic_load_explicit(&armed, memory_order_relaxed)) return;
  int64_t now = atomic_load_explicit(&live, memory_order_relaxed);
  if (size > (size_t)limit || (now > 0 ? now : 0) > limit - (int64_t)size) refuse_memory((int64_t)size + now);
}

static inline void *took(void *block, const void *caller) {
  if (block && atomic_load_explicit(&armed, memory_order_relaxed)) {
    int counts = (uintptr_t)caller < left_out_from || (uintptr_t)caller >= left_out_to;
    if (watched && counts) atomic_fetch_add_explicit(&blocks, 1, memory_order_relaxed);
    int64_t size = (int64_t)malloc_usable_size(block);
    int64_t now = atomic_fetch_add(&live, size) + size;
    int64_t most = atomic_load_explicit(&peak, memory_order_relaxed);
    while (now > most && !atomic_compare_exchange_weak(&peak, &most, now)) {
    }
  }
  return block;
}

static inline void gave(void *block) {
  if (block && atomic_load_explicit(&armed, memory_order_relaxed)) {
    atomic_fetch_sub(&live, (int64_t)malloc_usable_size(block));
  }
}

void *malloc(size_t size) {
  ask(size);
  return took(__libc_malloc(size), CALLER);
}

void *calloc(size_t count, size_t size) {
  size_t all;
  if (__builtin_mul_overflow(count, size, &all)) {
    errno = ENOMEM;
    return NULL;
  }
  ask(all);
  return took(__libc_calloc(count, size), CALLER);
}

void *realloc(void *block, size_t size) {
  size_t old = block ? malloc_usable_size(block) : 0;
  if (size > old) ask(size - old);
  gave(block);
  void *result = __libc_realloc(block, size);
  if (!result && size && block) took(block, CALLER);
  return took(result, CALLER);
}

void free(void *block) {
  gave(block);
  __libc_free(block);
}

static inline void *take_aligned(size_t alignment, size_t size, const void *caller) {
  ask(size);
  return took(__libc_memalign(alignment, size), caller);
}

void *memalign(size_t alignment, size_t size) { return take_aligned(alignment, size, CALLER); }

void *aligned_alloc(size_t alignment, size_t size) { return take_aligned(alignment, size, CALLER); }

int posix_memalign(void **result, size_t alignment, size_t size) {
  if (alignment % sizeof(void *) || (alignment & (alignment - 1)) || !alignment) return EINVAL;
  void *block = take_aligned(alignment, size, CALLER);
  if (!block) return ENOMEM;
  *result = block;
  return 0;
}

#endif
