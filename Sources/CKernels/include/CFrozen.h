// Products with frozen matrices that are kept in few bits: bfloat16, 8-bit integers and 4-bit normal floats.
//
// The matrix stands as rows × columns. Of an 8- or 4-bit matrix each row is cut into blocks of FL_BLOCK values, which share
// a float as scale; a last block may be shorter. What is stored is exact: a product differs from one in float32 with the
// widened values only by the order of its sums and, in fl_frozen_multiply, by rounding the other factor to bfloat16.
#ifndef FEDLORA_CFROZEN_H
#define FEDLORA_CFROZEN_H

#include <stddef.h>
#include <stdint.h>

/// Values that share a scale.
#define FL_BLOCK 64

/// How a frozen matrix is kept.
enum {
  /// The upper half of a float: one sign, eight exponent and seven mantissa bits.
  FL_FROZEN_BF16 = 0,
  /// scale · q with q from −127 to 127.
  FL_FROZEN_INT8 = 1,
  /// scale · table[q] with the sixteen quantiles of QLoRA's NF4 (Dettmers and others, arXiv:2305.14314, appendix E); two
  /// values a byte, the earlier in the lower bits.
  FL_FROZEN_NF4 = 2,
};

/// A frozen matrix.
typedef struct {
  int kind;
  size_t rows;
  size_t columns;
  /// bf16: rows × columns values. int8: the same. nf4: rows × ⌈columns / 2⌉ bytes.
  const void *_Nonnull values;
  /// rows × ⌈columns / FL_BLOCK⌉; null for bf16.
  const float *_Nullable scales;
} fl_frozen;

/// The sixteen values of NF4, ascending.
extern const float fl_nf4_values[16];

/// Nearest bfloat16, ties to even; NaN stays NaN.
void fl_to_bf16(const float *_Nonnull x, uint16_t *_Nonnull y, size_t n);
/// One row of `columns` values into 8 bits: q = round(x / scale), ties to even, scale = largest magnitude / 127.
void fl_to_int8(const float *_Nonnull x, int8_t *_Nonnull q, float *_Nonnull scales, size_t columns);
/// One row of `columns` values into 4 bits: the nearest of scale · table, the lower of two as near; scale = largest magnitude.
void fl_to_nf4(const float *_Nonnull x, uint8_t *_Nonnull q, float *_Nonnull scales, size_t columns);

/// `count` rows from row `first` on, widened to floats.
void fl_frozen_widen(const fl_frozen *_Nonnull w, size_t first, size_t count, float *_Nonnull out);

/// y (m × rows) = x (m × columns) · Wᵀ, added to y where `accumulates` is not 0; in float32. For few rows of x, where
/// reading W is what takes the time.
void fl_frozen_dot(const fl_frozen *_Nonnull w, const float *_Nonnull x, size_t m, float *_Nonnull y, int accumulates);

/// Whether this processor multiplies bfloat16 (AVX-512 BF16), so that `fl_frozen_multiply` may be called.
int fl_has_bf16(void);
/// Makes the calling thread, and no other, do without those instructions, for tests; 0 allows them again.
void fl_forbid_bf16(int forbids);
/// Bytes of scratch memory that `fl_frozen_multiply` needs for `m` rows.
size_t fl_frozen_scratch(const fl_frozen *_Nonnull w, int transposes, size_t m);
/// y = x · Wᵀ (m × rows, x being m × columns) where `transposes` is not 0, else y = x · W (m × columns, x being m × rows);
/// added to y where `accumulates` is not 0. x and W are rounded to bfloat16, sums are float32. `scratch` is aligned to 64.
void fl_frozen_multiply(const fl_frozen *_Nonnull w, int transposes, const float *_Nonnull x, size_t m, float *_Nonnull y,
                        int accumulates, void *_Nonnull scratch);

#endif
