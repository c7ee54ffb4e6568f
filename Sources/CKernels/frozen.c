#include "CFrozen.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// QLoRA's NF4: quantiles of a normal distribution, zero among them, scaled to [−1, 1].
const float fl_nf4_values[16] = {-1.0f,
                                 -0.6961928009986877f,
                                 -0.5250730514526367f,
                                 -0.39491748809814453f,
                                 -0.28444138169288635f,
                                 -0.18477343022823334f,
                                 -0.09105003625154495f,
                                 0.0f,
                                 0.07958029955625534f,
                                 0.16093020141124725f,
                                 0.24611230194568634f,
                                 0.33791524171829224f,
                                 0.44070982933044434f,
                                 0.5626170039176941f,
                                 0.7229568362236023f,
                                 1.0f};

// A test may forbid its own thread the wide instructions; nobody else notices.
static _Thread_local int is_narrowed = 0;

void fl_forbid_bf16(int forbids) { is_narrowed = forbids; }

static inline size_t blocks(size_t columns) { return (columns + FL_BLOCK - 1) / FL_BLOCK; }

static inline float widened(uint16_t value) {
  union { uint32_t i; float f; } bits = {(uint32_t)value << 16};
  return bits.f;
}

static inline uint16_t narrowed(float value) {
  union { float f; uint32_t i; } bits = {value};
  // A NaN must not lose the bits that make it one.
  if (value != value) return (uint16_t)(bits.i >> 16) | 0x40;
  return (uint16_t)((bits.i + 0x7FFF + ((bits.i >> 16) & 1)) >> 16);
}

void fl_to_bf16(const float *x, uint16_t *y, size_t n) {
  for (size_t i = 0; i < n; i++) y[i] = narrowed(x[i]);
}

static float largest_magnitude(const float *x, size_t n) {
  float top = 0;
  for (size_t i = 0; i < n; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
  return top;
}

void fl_to_int8(const float *x, int8_t *q, float *scales, size_t columns) {
  for (size_t start = 0; start < columns; start += FL_BLOCK) {
    size_t n = columns - start < FL_BLOCK ? columns - start : FL_BLOCK;
    float scale = largest_magnitude(x + start, n) / 127.0f;
    scales[start / FL_BLOCK] = scale;
    for (size_t i = 0; i < n; i++) q[start + i] = scale > 0 ? (int8_t)lrintf(x[start + i] / scale) : 0;
  }
}

void fl_to_nf4(const float *x, uint8_t *q, float *scales, size_t columns) {
  memset(q, 0, (columns + 1) / 2);
  for (size_t start = 0; start < columns; start += FL_BLOCK) {
    size_t n = columns - start < FL_BLOCK ? columns - start : FL_BLOCK;
    float scale = largest_magnitude(x + start, n);
    scales[start / FL_BLOCK] = scale;
    for (size_t i = 0; i < n; i++) {
      float value = scale > 0 ? x[start + i] / scale : 0;
      int code = 0;
      // The table ascends: a value belongs to the next entry where it lies beyond the middle of the two.
      while (code < 15 && value > 0.5f * (fl_nf4_values[code] + fl_nf4_values[code + 1])) code++;
      q[(start + i) / 2] |= (uint8_t)(code << (4 * ((start + i) & 1)));
    }
  }
}

// A stretch of one row, widened.
static void widen_stretch(const fl_frozen *w, size_t row, size_t first, size_t n, float *out) {
  if (w->kind == FL_FROZEN_BF16) {
    const uint16_t *from = (const uint16_t *)w->values + row * w->columns + first;
    for (size_t i = 0; i < n; i++) out[i] = widened(from[i]);
    return;
  }
  const float *scales = w->scales + row * blocks(w->columns);
  if (w->kind == FL_FROZEN_INT8) {
    const int8_t *from = (const int8_t *)w->values + row * w->columns;
    for (size_t i = 0; i < n; i++) out[i] = scales[(first + i) / FL_BLOCK] * from[first + i];
    return;
  }
  const uint8_t *from = (const uint8_t *)w->values + row * ((w->columns + 1) / 2);
  for (size_t i = first; i < first + n; i++) {
    out[i - first] = scales[i / FL_BLOCK] * fl_nf4_values[(from[i / 2] >> (4 * (i & 1))) & 15];
  }
}

#if defined(__x86_64__)

#define WIDE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"), min_vector_width(512)))
/// Columns of a panel: two registers.
#define PANEL 32
/// Rows of x that a tile takes: with two registers each, and two for the panel, all of the thirty-two.
#define TILE 14

// −1: not asked yet. Asking twice from two threads gives the same answer, so relaxed order is enough.
static _Atomic int has_bf16 = -1;

int fl_has_bf16(void) {
  int known = atomic_load_explicit(&has_bf16, memory_order_relaxed);
  if (known < 0) {
    __builtin_cpu_init();
    known = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512bf16");
    atomic_store_explicit(&has_bf16, known, memory_order_relaxed);
  }
  return known && !is_narrowed;
}

// Sixteen values of a row from column `first` on, a multiple of 16 with as many left.
WIDE static inline __m512 sixteen(const fl_frozen *w, size_t row, size_t first) {
  if (w->kind == FL_FROZEN_BF16) {
    const uint16_t *from = (const uint16_t *)w->values + row * w->columns + first;
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from)), 16);
  }
  __m512 scale = _mm512_set1_ps(w->scales[row * blocks(w->columns) + first / FL_BLOCK]);
  if (w->kind == FL_FROZEN_INT8) {
    const int8_t *from = (const int8_t *)w->values + row * w->columns + first;
    return _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)from))));
  }
  const uint8_t *from = (const uint8_t *)w->values + row * ((w->columns + 1) / 2) + first / 2;
  // A byte in each 64-bit lane: its lower half stays below, its upper half goes up.
  __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const void *)from));
  __m512i codes = _mm512_or_si512(_mm512_and_si512(bytes, _mm512_set1_epi64(15)),
                                  _mm512_slli_epi64(_mm512_srli_epi64(bytes, 4), 32));
  return _mm512_mul_ps(scale, _mm512_permutexvar_ps(codes, _mm512_loadu_ps(fl_nf4_values)));
}

WIDE static void widen_row_wide(const fl_frozen *w, size_t row, float *out) {
  size_t column = 0;
  for (; column + 16 <= w->columns; column += 16) _mm512_storeu_ps(out + column, sixteen(w, row, column));
  if (column < w->columns) widen_stretch(w, row, column, w->columns - column, out + column);
}

WIDE static void dot_wide(const fl_frozen *w, const float *x, size_t m, float *y, int accumulates) {
  size_t whole = w->columns & ~(size_t)15;
  float rest[16];
  for (size_t row = 0; row < w->rows; row++) {
    if (whole < w->columns) widen_stretch(w, row, whole, w->columns - whole, rest);
    for (size_t i = 0; i < m; i++) {
      const float *own = x + i * w->columns;
      __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
      size_t column = 0;
      for (; column + 32 <= whole; column += 32) {
        even = _mm512_fmadd_ps(_mm512_loadu_ps(own + column), sixteen(w, row, column), even);
        odd = _mm512_fmadd_ps(_mm512_loadu_ps(own + column + 16), sixteen(w, row, column + 16), odd);
      }
      if (column < whole) even = _mm512_fmadd_ps(_mm512_loadu_ps(own + column), sixteen(w, row, column), even);
      float sum = _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
      for (column = whole; column < w->columns; column++) sum += own[column] * rest[column - whole];
      y[i * w->rows + row] = sum + (accumulates ? y[i * w->rows + row] : 0);
    }
  }
}

WIDE static void to_bf16_wide(const float *x, uint16_t *y, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    _mm256_storeu_si256((void *)(y + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + i)));
  }
  for (; i < n; i++) y[i] = narrowed(x[i]);
}

// Transposes 16 × 16 words of 32 bits.
WIDE static inline void transpose(const uint32_t *from, size_t stride, uint32_t *to, size_t stride_to) {
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_ps(from + i * stride);
  for (int i = 0; i < 8; i++) {
    b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    a[4 * i] = (__m512)_mm512_unpacklo_pd((__m512d)b[4 * i], (__m512d)b[4 * i + 2]);
    a[4 * i + 1] = (__m512)_mm512_unpackhi_pd((__m512d)b[4 * i], (__m512d)b[4 * i + 2]);
    a[4 * i + 2] = (__m512)_mm512_unpacklo_pd((__m512d)b[4 * i + 1], (__m512d)b[4 * i + 3]);
    a[4 * i + 3] = (__m512)_mm512_unpackhi_pd((__m512d)b[4 * i + 1], (__m512d)b[4 * i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    b[i] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88);
    b[i + 4] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xDD);
    b[i + 8] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
    b[i + 12] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xDD);
  }
  for (int i = 0; i < 8; i++) {
    _mm512_storeu_ps(to + i * stride_to, _mm512_shuffle_f32x4(b[i], b[i + 8], 0x88));
    _mm512_storeu_ps(to + (i + 8) * stride_to, _mm512_shuffle_f32x4(b[i], b[i + 8], 0xDD));
  }
}

/// Most of the reduction that a panel holds: with more it would leave the second-level cache.
#define DEPTH 2048

// The panel of rows `first` to `first` + 31 and columns `from` to `to` − 1 for x · Wᵀ: pairs of neighbouring columns, pair
// after pair, 32 rows each. `from` is a multiple of 16; what lies beyond the last row or column is zero. `strip` holds 32
// rows of bfloat16, each of an even number of columns.
WIDE static void pack_rows(const fl_frozen *w, size_t first, size_t from, size_t to, uint32_t *panel, uint16_t *strip) {
  size_t count = w->rows - first < PANEL ? w->rows - first : PANEL;
  size_t pairs = (to - from + 1) / 2;
  const uint32_t *source = (const uint32_t *)strip;
  size_t stride = pairs;
  if (w->kind == FL_FROZEN_BF16 && count == PANEL && w->columns % 2 == 0) {
    source = (const uint32_t *)((const uint16_t *)w->values + first * w->columns + from);
    stride = w->columns / 2;
  } else {
    size_t whole = from + ((to - from) & ~(size_t)15);
    float rest[16] = {0};
    for (size_t row = 0; row < PANEL; row++) {
      uint16_t *own = strip + row * 2 * pairs;
      if (row >= count) {
        memset(own, 0, 4 * pairs);
        continue;
      }
      for (size_t column = from; column < whole; column += 16) {
        _mm256_storeu_si256((void *)(own + column - from),
                            (__m256i)_mm512_cvtneps_pbh(sixteen(w, first + row, column)));
      }
      if (whole == to) continue;
      widen_stretch(w, first + row, whole, to - whole, rest);
      for (size_t column = whole; column < to; column++) own[column - from] = narrowed(rest[column - whole]);
      if ((to - from) % 2 != 0) own[to - from] = 0;
    }
  }
  size_t pair = 0;
  for (; pair + 16 <= pairs; pair += 16) {
    transpose(source + pair, stride, panel + pair * PANEL, PANEL);
    transpose(source + 16 * stride + pair, stride, panel + pair * PANEL + 16, PANEL);
  }
  for (; pair < pairs; pair++) {
    // A file's weights need not be aligned to words of 32 bits.
    for (size_t row = 0; row < PANEL; row++) memcpy(panel + pair * PANEL + row, source + row * stride + pair, 4);
  }
}

WIDE static inline __m512i sixteen_bf16(const fl_frozen *w, size_t row, size_t first, size_t count) {
  if (row >= w->rows || count == 0) return _mm512_setzero_si512();
  if (count >= 16) return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(sixteen(w, row, first)));
  float rest[16] = {0};
  widen_stretch(w, row, first, count, rest);
  return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(rest)));
}

// The panel of columns `first` to `first` + 31 and rows `from` to `to` − 1 for x · W: pairs of neighbouring rows, pair after
// pair, 32 columns each. `from` is even; a row `to` that makes the last pair whole must be beyond the last.
WIDE static void pack_columns(const fl_frozen *w, size_t first, size_t from, size_t to, uint32_t *panel) {
  size_t left = w->columns - first;
  for (size_t row = from; row < to; row += 2) {
    for (size_t half = 0; half < 2; half++) {
      size_t column = first + 16 * half;
      size_t count = left > 16 * half ? left - 16 * half : 0;
      __m512i lower = sixteen_bf16(w, row, column, count);
      __m512i upper = sixteen_bf16(w, row + 1, column, count);
      _mm512_storeu_si512(panel + (row - from) / 2 * PANEL + 16 * half,
                          _mm512_or_si512(lower, _mm512_slli_epi32(upper, 16)));
    }
  }
}

// A tile of y: ROWS rows of x, whose pairs stand `stride` words apart, against one panel.
#define TILE_OF(ROWS)                                                                                                  \
  WIDE static void tile_##ROWS(size_t pairs, const uint32_t *x, size_t stride, const uint32_t *panel, float *y,        \
                               size_t stride_y, int adds, __mmask16 left, __mmask16 right) {                           \
    __m512 sums[ROWS][2];                                                                                              \
    for (int row = 0; row < ROWS; row++) sums[row][0] = sums[row][1] = _mm512_setzero_ps();                            \
    for (size_t pair = 0; pair < pairs; pair++) {                                                                      \
      __m512bh first = (__m512bh)_mm512_loadu_si512(panel + pair * PANEL);                                             \
      __m512bh second = (__m512bh)_mm512_loadu_si512(panel + pair * PANEL + 16);                                       \
      _Pragma("clang loop unroll(full)") for (int row = 0; row < ROWS; row++) {                                        \
        __m512bh own = (__m512bh)_mm512_set1_epi32((int)x[row * stride + pair]);                                       \
        sums[row][0] = _mm512_dpbf16_ps(sums[row][0], own, first);                                                     \
        sums[row][1] = _mm512_dpbf16_ps(sums[row][1], own, second);                                                    \
      }                                                                                                                \
    }                                                                                                                  \
    for (int row = 0; row < ROWS; row++) {                                                                             \
      float *to = y + row * stride_y;                                                                                  \
      if (adds) {                                                                                                      \
        sums[row][0] = _mm512_add_ps(sums[row][0], _mm512_maskz_loadu_ps(left, to));                                   \
        sums[row][1] = _mm512_add_ps(sums[row][1], _mm512_maskz_loadu_ps(right, to + 16));                             \
      }                                                                                                                \
      _mm512_mask_storeu_ps(to, left, sums[row][0]);                                                                   \
      _mm512_mask_storeu_ps(to + 16, right, sums[row][1]);                                                             \
    }                                                                                                                  \
  }
TILE_OF(1)
TILE_OF(2)
TILE_OF(3)
TILE_OF(4)
TILE_OF(5)
TILE_OF(6)
TILE_OF(7)
TILE_OF(8)
TILE_OF(9)
TILE_OF(10)
TILE_OF(11)
TILE_OF(12)
TILE_OF(13)
TILE_OF(14)

typedef void (*tile_function)(size_t, const uint32_t *, size_t, const uint32_t *, float *, size_t, int, __mmask16,
                              __mmask16);
static const tile_function tiles[TILE + 1] = {0,      tile_1, tile_2, tile_3,  tile_4,  tile_5,  tile_6, tile_7,
                                              tile_8, tile_9, tile_10, tile_11, tile_12, tile_13, tile_14};

static inline size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

size_t fl_frozen_scratch(const fl_frozen *w, int transposes, size_t m) {
  size_t depth = transposes ? w->columns : w->rows;
  size_t panel_pairs = ((depth < DEPTH ? depth : DEPTH) + 1) / 2;
  return aligned(m * ((depth + 1) / 2) * 4) + 2 * aligned(panel_pairs * PANEL * 4);
}

void fl_frozen_multiply(const fl_frozen *w, int transposes, const float *x, size_t m, float *y, int accumulates,
                        void *scratch) {
  size_t depth = transposes ? w->columns : w->rows;
  size_t width = transposes ? w->rows : w->columns;
  size_t stride = (depth + 1) / 2;
  size_t panel_pairs = ((depth < DEPTH ? depth : DEPTH) + 1) / 2;
  uint16_t *rounded = scratch;
  uint32_t *panel = (uint32_t *)((char *)scratch + aligned(m * stride * 4));
  uint16_t *strip = (uint16_t *)((char *)panel + aligned(panel_pairs * PANEL * 4));
  for (size_t row = 0; row < m; row++) {
    to_bf16_wide(x + row * depth, rounded + row * 2 * stride, depth);
    if (depth % 2 != 0) rounded[row * 2 * stride + depth] = 0;
  }
  for (size_t from = 0; from < depth; from += DEPTH) {
    size_t to = depth - from < DEPTH ? depth : from + DEPTH;
    for (size_t first = 0; first < width; first += PANEL) {
      if (transposes) {
        pack_rows(w, first, from, to, panel, strip);
      } else {
        pack_columns(w, first, from, to, panel);
      }
      size_t count = width - first;
      __mmask16 left = count >= 16 ? 0xFFFF : (__mmask16)((1u << count) - 1);
      __mmask16 right = count >= 32 ? 0xFFFF : count > 16 ? (__mmask16)((1u << (count - 16)) - 1) : 0;
      for (size_t row = 0; row < m; row += TILE) {
        size_t rows = m - row < TILE ? m - row : TILE;
        tiles[rows]((to - from + 1) / 2, (const uint32_t *)rounded + row * stride + from / 2, stride, panel,
                    y + row * width + first, width, accumulates || from > 0, left, right);
      }
    }
  }
}

#else

int fl_has_bf16(void) { return 0; }
size_t fl_frozen_scratch(const fl_frozen *w, int transposes, size_t m) {
  (void)w, (void)transposes, (void)m;
  return 0;
}
void fl_frozen_multiply(const fl_frozen *w, int transposes, const float *x, size_t m, float *y, int accumulates,
                        void *scratch) {
  (void)w, (void)transposes, (void)x, (void)m, (void)y, (void)accumulates, (void)scratch;
}

#endif

void fl_frozen_widen(const fl_frozen *w, size_t first, size_t count, float *out) {
  for (size_t row = 0; row < count; row++) {
#if defined(__x86_64__)
    if (fl_has_bf16()) {
      widen_row_wide(w, first + row, out + row * w->columns);
      continue;
    }
#endif
    widen_stretch(w, first + row, 0, w->columns, out + row * w->columns);
  }
}

void fl_frozen_dot(const fl_frozen *w, const float *x, size_t m, float *y, int accumulates) {
#if defined(__x86_64__)
  if (fl_has_bf16()) {
    dot_wide(w, x, m, y, accumulates);
    return;
  }
#endif
  float widened_block[FL_BLOCK];
  for (size_t row = 0; row < w->rows; row++) {
    for (size_t i = 0; i < m; i++) {
      float sum = accumulates ? y[i * w->rows + row] : 0;
      for (size_t column = 0; column < w->columns; column += FL_BLOCK) {
        size_t n = w->columns - column < FL_BLOCK ? w->columns - column : FL_BLOCK;
        widen_stretch(w, row, column, n, widened_block);
        for (size_t j = 0; j < n; j++) sum += x[i * w->columns + column + j] * widened_block[j];
      }
      y[i * w->rows + row] = sum;
    }
  }
}
