// Element-wise kernels of the training engine, with run-time dispatch over the processor's vector width.
//
// Every function takes plain contiguous float arrays unless a stride is named. Rows are the slow dimension.
// Variants for AVX-512, AVX2 with FMA, and the baseline are compiled from one source (kernels.inc); the first call
// picks the widest that the processor has. Sums inside a row are reassociated, so variants differ in the last bits.
#ifndef FEDLORA_CKERNELS_H
#define FEDLORA_CKERNELS_H

#include "CFrozen.h"

#include <stddef.h>
#include <stdint.h>

/// Name of the variant in use: "avx512", "avx2" or "baseline".
const char *_Nonnull fl_variant(void);
/// Makes the calling thread, and no other, use a narrower variant (0 baseline, 1 avx2, 2 avx512; −1 the widest again),
/// for tests. Returns the one now in use.
int fl_select_variant(int variant);

/// y[i] = x[i] Φ(x[i]), the exact GELU. 16 flops and 8 bytes an element. `x` may equal `y`.
void fl_gelu_forward(const float *_Nonnull x, float *_Nonnull y, size_t n);
/// dx[i] = dy[i] (Φ(x) + x φ(x)). `dx` may equal `dy`.
void fl_gelu_backward(const float *_Nonnull x, const float *_Nonnull dy, float *_Nonnull dx, size_t n);

/// Each row of `s` (rows × cols, contiguous) becomes softmax(scale · row); `lse[row]` its log-sum-exp.
void fl_softmax_rows(float *_Nonnull s, float *_Nonnull lse, size_t rows, size_t cols, float scale);
/// Each row of `s` becomes exp(scale · row − lse[row]): the softmax again from the stored log-sum-exp.
void fl_softmax_restore(float *_Nonnull s, const float *_Nonnull lse, size_t rows, size_t cols, float scale);
/// dp becomes scale · p ∘ (dp − Σ p ∘ dp) row by row: the gradient with respect to the scores.
void fl_softmax_backward(const float *_Nonnull p, float *_Nonnull dp, size_t rows, size_t cols, float scale);

/// sum = x + residual, y = (sum − mean) · rstd · gamma + beta by row. `sum` may equal `x`.
void fl_add_layernorm_forward(const float *_Nonnull x, const float *_Nonnull residual, const float *_Nonnull gamma,
                              const float *_Nonnull beta, float epsilon, float *_Nonnull sum, float *_Nonnull y,
                              float *_Nonnull mean, float *_Nonnull rstd, size_t rows, size_t cols);
/// y = layer norm of x by row, as above without a residual.
void fl_layernorm_forward(const float *_Nonnull x, const float *_Nonnull gamma, const float *_Nonnull beta,
                          float epsilon, float *_Nonnull y, float *_Nonnull mean, float *_Nonnull rstd, size_t rows,
                          size_t cols);
/// dx = gradient of layer norm with respect to its input; gamma and beta are frozen. `dx` may equal `dy`.
void fl_layernorm_backward(const float *_Nonnull dy, const float *_Nonnull x, const float *_Nonnull mean,
                           const float *_Nonnull rstd, const float *_Nonnull gamma, float *_Nonnull dx, size_t rows,
                           size_t cols);

/// y = x · rstd · gamma by row with rstd = 1 / √(mean of x² + epsilon): RMSNorm (Zhang and Sennrich, arXiv:1910.07467).
void fl_rmsnorm_forward(const float *_Nonnull x, const float *_Nonnull gamma, float epsilon, float *_Nonnull y,
                        float *_Nonnull rstd, size_t rows, size_t cols);
/// dx = gradient of RMSNorm with respect to its input; gamma is frozen. `dx` may equal `dy`.
void fl_rmsnorm_backward(const float *_Nonnull dy, const float *_Nonnull x, const float *_Nonnull rstd,
                         const float *_Nonnull gamma, float *_Nonnull dx, size_t rows, size_t cols);

/// Turns element j of the first `rotary` of each head with element j + rotary / 2 by the angle whose cosine and sine
/// stand at [row][j] (rows × rotary / 2 each), in place: rotary positions (Su and others, arXiv:2104.09864) with the
/// halves of a head as pairs. `sign` −1 turns back, which is also the gradient.
void fl_rotate(float *_Nonnull x, const float *_Nonnull cosine, const float *_Nonnull sine, size_t rows, size_t heads,
               size_t headSize, size_t rotary, float sign);

/// y[i] = gate[i] · σ(gate[i]) · up[i]: SwiGLU (Shazeer, arXiv:2002.05202).
void fl_silu_gate_forward(const float *_Nonnull gate, const float *_Nonnull up, float *_Nonnull y, size_t n);
/// The gradients of gate and up from that of y. `dup` may equal `dy`.
void fl_silu_gate_backward(const float *_Nonnull gate, const float *_Nonnull up, const float *_Nonnull dy,
                           float *_Nonnull dgate, float *_Nonnull dup, size_t n);

/// y[i] = x[i] σ(2u), u = √(2/π) (x + 0.044715 x³): GELU in its tanh form (Hendrycks and Gimpel, arXiv:1606.08415).
void fl_gelu_tanh_forward(const float *_Nonnull x, float *_Nonnull y, size_t n);
/// y[i] = x[i] σ(x[i]).
void fl_silu_forward(const float *_Nonnull x, float *_Nonnull y, size_t n);
/// y[i] = max(x[i], 0).
void fl_relu_forward(const float *_Nonnull x, float *_Nonnull y, size_t n);
/// dx[i] = dy[i] times the slope of the function at x[i]; 0 for relu at 0. `dx` may equal `dy`.
void fl_gelu_tanh_backward(const float *_Nonnull x, const float *_Nonnull dy, float *_Nonnull dx, size_t n);
void fl_silu_backward(const float *_Nonnull x, const float *_Nonnull dy, float *_Nonnull dx, size_t n);
void fl_relu_backward(const float *_Nonnull x, const float *_Nonnull dy, float *_Nonnull dx, size_t n);

/// y[i] = f(gate[i]) · up[i] for the function in the name, and the gradients of both from that of y; `dup` may equal `dy`.
void fl_gelu_gate_forward(const float *_Nonnull gate, const float *_Nonnull up, float *_Nonnull y, size_t n);
void fl_gelu_tanh_gate_forward(const float *_Nonnull gate, const float *_Nonnull up, float *_Nonnull y, size_t n);
void fl_relu_gate_forward(const float *_Nonnull gate, const float *_Nonnull up, float *_Nonnull y, size_t n);
void fl_gelu_gate_backward(const float *_Nonnull gate, const float *_Nonnull up, const float *_Nonnull dy,
                           float *_Nonnull dgate, float *_Nonnull dup, size_t n);
void fl_gelu_tanh_gate_backward(const float *_Nonnull gate, const float *_Nonnull up, const float *_Nonnull dy,
                                float *_Nonnull dgate, float *_Nonnull dup, size_t n);
void fl_relu_gate_backward(const float *_Nonnull gate, const float *_Nonnull up, const float *_Nonnull dy,
                           float *_Nonnull dgate, float *_Nonnull dup, size_t n);

/// x[i] becomes cap · tanh(scale · x[i] / cap): a soft bound on scores, as Gemma 2 has it (arXiv:2408.00118).
void fl_soft_cap(float *_Nonnull x, size_t n, float scale, float cap);
/// The derivative of that with respect to x from its result: slope[i] = scale · (1 − (y[i] / cap)²).
void fl_soft_cap_slope(const float *_Nonnull y, float *_Nonnull slope, size_t n, float scale, float cap);

/// Copies `rows` rows of `cols` elements; the rows are `x_step` and `y_step` elements apart.
void fl_copy_rows(float *_Nonnull y, size_t y_step, const float *_Nonnull x, size_t x_step, size_t rows, size_t cols);
/// y[i] *= x[i].
void fl_multiply(float *_Nonnull y, const float *_Nonnull x, size_t n);

/// As `fl_softmax_rows` where row r sees the last `window` columns up to past + r < cols; the others become 0.
void fl_softmax_causal(float *_Nonnull s, float *_Nonnull lse, size_t rows, size_t cols, size_t past, float scale,
                       size_t window);
/// As `fl_softmax_restore` under the same mask.
void fl_softmax_causal_restore(float *_Nonnull s, const float *_Nonnull lse, size_t rows, size_t cols, size_t past,
                               float scale, size_t window);

/// One row of `n` > 0 values becomes factor · softmax(row); with factor 0 it stays as it is. Returns its log-sum-exp, and its largest
/// value in `largest`.
float fl_softmax_scaled(float *_Nonnull x, size_t n, float factor, float *_Nonnull largest);

/// y[i] += x[i].
void fl_add(float *_Nonnull y, const float *_Nonnull x, size_t n);
/// y[i] += a · x[i].
void fl_axpy(float a, const float *_Nonnull x, float *_Nonnull y, size_t n);
/// sum[i] += scale · x[i] rounded to the nearest integer (ties to even); |scale · x[i]| must be below 2^23.
void fl_quantise_add(const float *_Nonnull x, float scale, int32_t *_Nonnull sum, size_t n);
/// y[i] += x[i].
void fl_add_int32(int64_t *_Nonnull y, const int32_t *_Nonnull x, size_t n);
/// y[i] *= a.
void fl_scale(float a, float *_Nonnull y, size_t n);
/// Every row of y becomes `row`.
void fl_fill_rows(float *_Nonnull y, const float *_Nonnull row, size_t rows, size_t cols);
/// out[c] += Σ over rows of x[row][c].
void fl_add_column_sums(const float *_Nonnull x, float *_Nonnull out, size_t rows, size_t cols);
/// Σ x[i]² in double precision.
double fl_sum_squares(const float *_Nonnull x, size_t n);

/// folded[i][k] = b[i] · projection[i][k] · d[k], of outputs × rank: VeRA's scales folded into its frozen projection.
void fl_vera_fold(const float *_Nonnull projection, const float *_Nonnull b, const float *_Nonnull d,
                  float *_Nonnull folded, size_t outputs, size_t rank);
/// The gradients of VeRA's scales from that of the folded matrix (outputs × rank), added to what is there:
/// gradD[k] += Σ_i grad[i][k] · b[i] · projection[i][k], gradB[i] += Σ_k grad[i][k] · projection[i][k] · d[k].
/// Either may be null.
void fl_vera_unfold(const float *_Nonnull grad, const float *_Nonnull projection, const float *_Nonnull b,
                    const float *_Nonnull d, float *_Nullable gradD, float *_Nullable gradB, size_t outputs,
                    size_t rank);

/// Inverted dropout: y[i] = x[i] · keepScale where a hash of (key, base + i) is at least `threshold`, else 0.
/// The same key and place (modulo 2^32) drop the same elements, so the backward pass needs no stored mask, and a part
/// of an array gets its part of the mask. `y` may equal `x`.
void fl_dropout(const float *_Nonnull x, float *_Nonnull y, size_t n, uint64_t key, uint32_t base, uint32_t threshold,
                float keepScale);

/// One AdamW step with decoupled weight decay; `correction1` = 1 − β1ᵗ, `correction2` = 1 − β2ᵗ.
void fl_adamw_step(float *_Nonnull p, const float *_Nonnull g, float *_Nonnull m, float *_Nonnull v, size_t n,
                   float lr, float beta1, float beta2, float epsilon, float decay, double correction1,
                   double correction2);
/// One SGD step with momentum: g += decay · p; buffer = momentum · buffer + g (or g on the first step); p −= lr · buffer.
void fl_sgd_step(float *_Nonnull p, const float *_Nonnull g, float *_Nonnull buffer, size_t n, float lr,
                 float momentum, float decay, int isFirst);

#endif
