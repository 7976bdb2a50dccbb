// The row-wise and pointwise parts of a transformer's block, each in one pass over memory. Rows belong to warps and stay in registers;
// pointwise kernels take four columns to a thread and go down the rows with their bias in registers.
#include "element.cuh"

constexpr u32 WARPS = 8;    // rows of a block

template <class F> DEVICE float over_warp(float x, F join) {
#pragma unroll
    for (u32 by = 16; by > 0; by /= 2) x = join(x, __shfl_xor_sync(~0u, x, (int)by));
    return x;
}
DEVICE float warp_sum(float x) {
    return over_warp(x, [](float a, float b) { return a + b; });
}
DEVICE float warp_max(float x) {
    return over_warp(x, [](float a, float b) { return fmaxf(a, b); });
}

// The row of this warp.
DEVICE u64 warp_row() { return (u64)blockIdx.x * WARPS + threadIdx.x / 32; }

// Rows of at most 32 HELD elements. x covers the rows, 8 to a block.
template <class T, u32 HELD> DEVICE void softmax(const SoftmaxArgs& args) {
    if (warp_row() >= args.rows) return;
    T* x = static_cast<T*>(args.x) + warp_row() * args.width;
    const u32 lane = threadIdx.x & 31, width = args.width;
    float v[HELD], top = -INFINITY, sum = 0.0f;
#pragma unroll
    for (u32 k = 0; k < HELD; k++) {
        v[k] = lane + 32 * k < width ? widen(x[lane + 32 * k]) : -INFINITY;
        top = fmaxf(top, v[k]);
    }
    top = warp_max(top);
    // exp(scale (x - top)) as a power of two.
    const float scale = args.scale * LOG2_E;
#pragma unroll
    for (u32 k = 0; k < HELD; k++) {
        v[k] = exp2f((v[k] - top) * scale);
        sum += v[k];
    }
    const float share = 1.0f / warp_sum(sum);
#pragma unroll
    for (u32 k = 0; k < HELD; k++)
        if (lane + 32 * k < width) narrow(v[k] * share, x[lane + 32 * k]);
}

// Rows of at most LAYER_NORM_WIDTH elements, a multiple of 4. x covers the rows, 8 to a block.
template <class T> DEVICE void layer_norm(const LayerNormArgs& args) {
    constexpr u32 HELD = LAYER_NORM_WIDTH / 128;
    if (warp_row() >= args.rows) return;
    const u32 lane = threadIdx.x & 31, fours = args.width / 4;
    const auto* x = static_cast<const Four<T>*>(args.x) + warp_row() * fours;
    auto* out = static_cast<Four<T>*>(args.out) + warp_row() * fours;
    const auto *weight = static_cast<const Four<T>*>(args.weight), *bias = static_cast<const Four<T>*>(args.bias);
    float v[HELD][4], sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (u32 k = 0; k < HELD; k++) {
        Four<T> four = {};
        if (lane + 32 * k < fours) four = x[lane + 32 * k];
#pragma unroll
        for (u32 i = 0; i < 4; i++) sum += v[k][i] = widen(four.at[i]);
    }
    const float mean = warp_sum(sum) / (float)args.width;
#pragma unroll
    for (u32 k = 0; k < HELD; k++)
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            v[k][i] -= mean;
            if (lane + 32 * k < fours) squares += v[k][i] * v[k][i];
        }
    const float unit = 1.0f / sqrtf(warp_sum(squares) / (float)args.width + args.epsilon);
#pragma unroll
    for (u32 k = 0; k < HELD; k++) {
        if (lane + 32 * k >= fours) continue;
        const Four<T> w = weight[lane + 32 * k], b = bias[lane + 32 * k];
        Four<T> four;
#pragma unroll
        for (u32 i = 0; i < 4; i++) narrow(v[k][i] * unit * widen(w.at[i]) + widen(b.at[i]), four.at[i]);
        out[lane + 32 * k] = four;
    }
}

// Four columns of each row: x covers width / 4, y shares the rows. `f(x, y, bias)` of floats; y is not read unless READ_Y.
template <class T, bool READ_Y, class F> DEVICE void each_four(const BiasArgs& args, F f) {
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x, fours = args.width / 4;
    if (column >= fours) return;
    auto* x = static_cast<Four<T>*>(args.x);
    const auto* y = static_cast<const Four<T>*>(args.y);
    const Four<T> bias = static_cast<const Four<T>*>(args.bias)[column];
    for (u64 row = blockIdx.y; row < args.rows; row += gridDim.y) {
        const u64 at = row * fours + column;
        Four<T> out = x[at], other = {};
        if constexpr (READ_Y) other = y[at];
#pragma unroll
        for (u32 i = 0; i < 4; i++) narrow(f(widen(out.at[i]), widen(other.at[i]), widen(bias.at[i])), out.at[i]);
        x[at] = out;
    }
}

template <class T> DEVICE void swiglu(const BiasArgs& args) {
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x, fours = args.width / 4;
    if (column >= fours) return;
    auto* out = static_cast<Four<T>*>(args.x);
    const auto *y = static_cast<const Four<T>*>(args.y), *bias = static_cast<const Four<T>*>(args.bias);
    const Four<T> bias_a = bias[column], bias_b = bias[fours + column];
    for (u64 row = blockIdx.y; row < args.rows; row += gridDim.y) {
        const u64 from = row * 2 * fours + column;
        const Four<T> first = y[from], second = y[from + fours];
        Four<T> four;
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float a = widen(first.at[i]) + widen(bias_a.at[i]), b = widen(second.at[i]) + widen(bias_b.at[i]);
            narrow(a * logistic(a) * b, four.at[i]);
        }
        out[row * fours + column] = four;
    }
}

template <class T, class Activation> DEVICE void activate(const BiasArgs& args) {
    each_four<T, false>(args, [](float x, float, float bias) { return Activation::of(x + bias); });
}

// x covers the values.
template <class T> DEVICE void to_doubles(const WidenArgs& args) {
    const u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < args.count) args.out[i] = (double)widen(static_cast<const T*>(args.x)[i]);
}

#define ALL(type, T)                                                                                                   \
    KERNEL(arras_vit_softmax_256_##type, SoftmaxArgs, 256) { softmax<T, SOFTMAX_NARROW / 32>(args); }                  \
    KERNEL(arras_vit_softmax_1024_##type, SoftmaxArgs, 256) { softmax<T, SOFTMAX_WIDE / 32>(args); }                   \
    KERNEL(arras_vit_layer_norm_##type, LayerNormArgs, 256) { layer_norm<T>(args); }                                   \
    KERNEL(arras_vit_add_bias_##type, BiasArgs, 256) {                                                                 \
        each_four<T, false>(args, [](float x, float, float bias) { return x + bias; });                                \
    }                                                                                                                  \
    KERNEL(arras_vit_residual_##type, BiasArgs, 256) {                                                                 \
        each_four<T, true>(args, [](float x, float y, float bias) { return x + (y + bias); });                         \
    }                                                                                                                  \
    KERNEL(arras_vit_gelu_##type, BiasArgs, 256) { activate<T, Gelu>(args); }                                          \
    KERNEL(arras_vit_gelu_tanh_##type, BiasArgs, 256) { activate<T, GeluTanh>(args); }                                 \
    KERNEL(arras_vit_quick_gelu_##type, BiasArgs, 256) { activate<T, QuickGelu>(args); }                               \
    KERNEL(arras_vit_relu_##type, BiasArgs, 256) { activate<T, Relu>(args); }                                          \
    KERNEL(arras_vit_swiglu_##type, BiasArgs, 256) { swiglu<T>(args); }                                                \
    KERNEL(arras_vit_widen_##type, WidenArgs, 256) { to_doubles<T>(args); }

ALL(f32, float)
ALL(bf16, Bf16)
