#include "CKernels.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define NAME(x) base_##x
#include "kernels.inc"
#undef NAME

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi2"))), apply_to = function)
#define NAME(x) avx2_##x
#include "kernels.inc"
#undef NAME
#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2"), \
                                            min_vector_width(512))), apply_to = function)
#define NAME(x) avx512_##x
#include "kernels.inc"
#undef NAME
#pragma clang attribute pop
#endif

// −1: not chosen yet. Choosing twice from two threads gives the same answer, so relaxed order is enough.
static _Atomic int chosen = -1;

static int widest(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

// A test may narrow its own thread; nobody else notices. −1: not narrowed.
static _Thread_local int narrowed = -1;

static inline int variant(void) {
  if (narrowed >= 0) return narrowed;
  int v = atomic_load_explicit(&chosen, memory_order_relaxed);
  if (v < 0) {
    v = widest();
    atomic_store_explicit(&chosen, v, memory_order_relaxed);
  }
  return v;
}

int fl_select_variant(int wanted) {
  int best = widest();
  narrowed = wanted < 0 || wanted > best ? -1 : wanted;
  return variant();
}

const char *fl_variant(void) {
  static const char *const names[] = {"baseline", "avx2", "avx512"};
  return names[variant()];
}

#if defined(__x86_64__)
#define DISPATCH(call)             \
  switch (variant()) {             \
    case 2: return avx512_##call;  \
    case 1: return avx2_##call;    \
    default: return base_##call;   \
  }
#else
#define DISPATCH(call) return base_##call;
#endif

void fl_gelu_forward(const float *x, float *y, size_t n) { DISPATCH(gelu_forward(x, y, n)) }
void fl_gelu_backward(const float *x, const float *dy, float *dx, size_t n) { DISPATCH(gelu_backward(x, dy, dx, n)) }
void fl_softmax_rows(float *s, float *lse, size_t rows, size_t cols, float scale) {
  DISPATCH(softmax_rows(s, lse, rows, cols, scale))
}
void fl_softmax_restore(float *s, const float *lse, size_t rows, size_t cols, float scale) {
  DISPATCH(softmax_restore(s, lse, rows, cols, scale))
}
void fl_softmax_backward(const float *p, float *dp, size_t rows, size_t cols, float scale) {
  DISPATCH(softmax_backward(p, dp, rows, cols, scale))
}
void fl_layernorm_forward(const float *x, const float *gamma, const float *beta, float epsilon, float *y, float *mean,
                          float *rstd, size_t rows, size_t cols) {
  DISPATCH(layernorm_forward(x, gamma, beta, epsilon, y, mean, rstd, rows, cols))
}
void fl_add_layernorm_forward(const float *x, const float *residual, const float *gamma, const float *beta,
                              float epsilon, float *sum, float *y, float *mean, float *rstd, size_t rows, size_t cols) {
  DISPATCH(add_layernorm_forward(x, residual, gamma, beta, epsilon, sum, y, mean, rstd, rows, cols))
}
void fl_layernorm_backward(const float *dy, const float *x, const float *mean, const float *rstd, const float *gamma,
                           float *dx, size_t rows, size_t cols) {
  DISPATCH(layernorm_backward(dy, x, mean, rstd, gamma, dx, rows, cols))
}
void fl_rmsnorm_forward(const float *x, const float *gamma, float epsilon, float *y, float *rstd, size_t rows,
                        size_t cols) {
  DISPATCH(rmsnorm_forward(x, gamma, epsilon, y, rstd, rows, cols))
}
void fl_rmsnorm_backward(const float *dy, const float *x, const float *rstd, const float *gamma, float *dx, size_t rows,
                         size_t cols) {
  DISPATCH(rmsnorm_backward(dy, x, rstd, gamma, dx, rows, cols))
}
void fl_rotate(float *x, const float *cosine, const float *sine, size_t rows, size_t heads, size_t headSize,
               size_t rotary, float sign) {
  DISPATCH(rotate(x, cosine, sine, rows, heads, headSize, rotary, sign))
}
void fl_silu_gate_forward(const float *gate, const float *up, float *y, size_t n) {
  DISPATCH(silu_gate_forward(gate, up, y, n))
}
void fl_silu_gate_backward(const float *gate, const float *up, const float *dy, float *dgate, float *dup, size_t n) {
  DISPATCH(silu_gate_backward(gate, up, dy, dgate, dup, n))
}
void fl_gelu_tanh_forward(const float *x, float *y, size_t n) { DISPATCH(gelu_tanh_forward(x, y, n)) }
void fl_gelu_tanh_backward(const float *x, const float *dy, float *dx, size_t n) { DISPATCH(gelu_tanh_backward(x, dy, dx, n)) }
void fl_silu_forward(const float *x, float *y, size_t n) { DISPATCH(silu_forward(x, y, n)) }
void fl_silu_backward(const float *x, const float *dy, float *dx, size_t n) { DISPATCH(silu_backward(x, dy, dx, n)) }
void fl_relu_forward(const float *x, float *y, size_t n) { DISPATCH(relu_forward(x, y, n)) }
void fl_relu_backward(const float *x, const float *dy, float *dx, size_t n) { DISPATCH(relu_backward(x, dy, dx, n)) }
void fl_gelu_gate_forward(const float *gate, const float *up, float *y, size_t n) {
  DISPATCH(gelu_gate_forward(gate, up, y, n))
}
void fl_gelu_gate_backward(const float *gate, const float *up, const float *dy, float *dgate, float *dup, size_t n) {
  DISPATCH(gelu_gate_backward(gate, up, dy, dgate, dup, n))
}
void fl_gelu_tanh_gate_forward(const float *gate, const float *up, float *y, size_t n) {
  DISPATCH(gelu_tanh_gate_forward(gate, up, y, n))
}
void fl_gelu_tanh_gate_backward(const float *gate, const float *up, const float *dy, float *dgate, float *dup, size_t n) {
  DISPATCH(gelu_tanh_gate_backward(gate, up, dy, dgate, dup, n))
}
void fl_relu_gate_forward(const float *gate, const float *up, float *y, size_t n) {
  DISPATCH(relu_gate_forward(gate, up, y, n))
}
void fl_relu_gate_backward(const float *gate, const float *up, const float *dy, float *dgate, float *dup, size_t n) {
  DISPATCH(relu_gate_backward(gate, up, dy, dgate, dup, n))
}
void fl_soft_cap(float *x, size_t n, float scale, float cap) { DISPATCH(soft_cap(x, n, scale, cap)) }
void fl_soft_cap_slope(const float *y, float *slope, size_t n, float scale, float cap) {
  DISPATCH(soft_cap_slope(y, slope, n, scale, cap))
}
void fl_multiply(float *y, const float *x, size_t n) { DISPATCH(multiply(y, x, n)) }
void fl_copy_rows(float *y, size_t y_step, const float *x, size_t x_step, size_t rows, size_t cols) {
  for (size_t r = 0; r < rows; r++) memcpy(y + r * y_step, x + r * x_step, cols * sizeof(float));
}
void fl_softmax_causal(float *s, float *lse, size_t rows, size_t cols, size_t past, float scale, size_t window) {
  DISPATCH(softmax_causal(s, lse, rows, cols, past, scale, window))
}
void fl_softmax_causal_restore(float *s, const float *lse, size_t rows, size_t cols, size_t past, float scale,
                               size_t window) {
  DISPATCH(softmax_causal_restore(s, lse, rows, cols, past, scale, window))
}
float fl_softmax_scaled(float *x, size_t n, float factor, float *largest) {
  DISPATCH(softmax_scaled(x, n, factor, largest))
}
void fl_add(float *y, const float *x, size_t n) { DISPATCH(add(y, x, n)) }
void fl_axpy(float a, const float *x, float *y, size_t n) { DISPATCH(axpy(a, x, y, n)) }
void fl_quantise_add(const float *x, float scale, int32_t *sum, size_t n) { DISPATCH(quantise_add(x, scale, sum, n)) }
void fl_vera_fold(const float *projection, const float *b, const float *d, float *folded, size_t outputs, size_t rank) {
  DISPATCH(vera_fold(projection, b, d, folded, outputs, rank))
}
void fl_vera_unfold(const float *grad, const float *projection, const float *b, const float *d, float *gradD,
                    float *gradB, size_t outputs, size_t rank) {
  DISPATCH(vera_unfold(grad, projection, b, d, gradD, gradB, outputs, rank))
}
void fl_add_int32(int64_t *y, const int32_t *x, size_t n) { DISPATCH(add_int32(y, x, n)) }
void fl_scale(float a, float *y, size_t n) { DISPATCH(scale(a, y, n)) }
void fl_fill_rows(float *y, const float *row, size_t rows, size_t cols) {
  for (size_t r = 0; r < rows; r++) memcpy(y + r * cols, row, cols * sizeof(float));
}
void fl_add_column_sums(const float *x, float *out, size_t rows, size_t cols) {
  DISPATCH(add_column_sums(x, out, rows, cols))
}
double fl_sum_squares(const float *x, size_t n) { DISPATCH(sum_squares(x, n)) }
void fl_dropout(const float *x, float *y, size_t n, uint64_t key, uint32_t base, uint32_t threshold, float keepScale) {
  DISPATCH(dropout(x, y, n, key, base, threshold, keepScale))
}
void fl_adamw_step(float *p, const float *g, float *m, float *v, size_t n, float lr, float beta1, float beta2,
                   float epsilon, float decay, double correction1, double correction2) {
  DISPATCH(adamw_step(p, g, m, v, n, lr, beta1, beta2, epsilon, decay, correction1, correction2))
}
void fl_sgd_step(float *p, const float *g, float *buffer, size_t n, float lr, float momentum, float decay,
                 int isFirst) {
  DISPATCH(sgd_step(p, g, buffer, n, lr, momentum, decay, isFirst))
}
