// What one input may cost: memory and processor time, measured while a target runs.
//
// Linking this file replaces malloc and its relatives for the whole process, so it belongs into programs of its own.
#ifndef FEDLORA_METER_H
#define FEDLORA_METER_H

#include <stddef.h>
#include <stdint.h>

// Why a process ended itself. It is kept in the flight record, so that the parent reads it after the process is gone.
enum { METER_NONE = 0, METER_MEMORY = 1, METER_TIME = 2, METER_PROPERTY = 3 };

// The input that is running, in memory that is shared with the parent process through a file.
typedef struct {
  uint64_t index;      // number of the input that is running or was the last to run
  uint64_t accepted;   // inputs so far that the parser accepted
  uint64_t peak;       // largest number of bytes that one input took beyond its start
  uint32_t cause;      // one of METER_
  uint32_t length;     // bytes of the input
  uint8_t bytes[];
} flight_record;

// The fields of the record are read by another process whenever this one dies, so they are written here, in order.
void flight_begin(flight_record *record, uint64_t index, const uint8_t *bytes, uint32_t length);

// Counts from here: more than `bytes` live bytes beyond what was live, or more than `milliseconds` of processor time over all
// threads, end the process by a trap after the cause was noted in `record` (which may be null). 0 for no limit.
void meter_arm(flight_record *record, uint64_t bytes, uint64_t milliseconds);

// Stops counting. Returns the largest number of live bytes since `meter_arm`.
uint64_t meter_disarm(void);

// Makes the blocks of memory count that the calling thread asks for.
void meter_watch(void);

// Leaves out what the code of one shared library asks for itself, by a part of its file's name. Returns 0 where no such library
// is loaded.
int meter_leave_out(const char *library);

// How many blocks of memory were asked for since `meter_arm`, by all threads that are watched.
uint64_t meter_blocks(void);

// Whether this build can count memory (not under AddressSanitizer, which has an allocator of its own).
int meter_counts_memory(void);

#endif
