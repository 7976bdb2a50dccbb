// The structures of the transformer's kernels, mirrored field by field in crates/cuda/src/vit.rs; what abi.h says of itself holds here too.
// Rows of `width` elements lie one after the other. Elements are floats, or bf16 as 16-bit words: the kernel's name says which.
#pragma once
#include "platform.h"

// x = softmax(scale x) by rows; scale > 0
struct SoftmaxArgs {
    void* x;
    u64 rows;
    u32 width;
    float scale;
};
static_assert(sizeof(SoftmaxArgs) == 24, "vit.rs");

// out = (x - mean) / sqrt(variance + epsilon) * weight + bias by rows
struct LayerNormArgs {
    const void* x;
    void* out;
    const void* weight;
    const void* bias;
    u64 rows;
    u32 width;
    float epsilon;
};
static_assert(sizeof(LayerNormArgs) == 48, "vit.rs");

// x = f(x, y, bias), the bias repeated over rows. SwiGLU writes rows of `width` from rows of 2 `width` of y, with a bias of as many.
struct BiasArgs {
    void* x;
    const void* y;
    const void* bias;
    u64 rows;
    u32 width;
    u32 reserved;
};
static_assert(sizeof(BiasArgs) == 40, "vit.rs");

// out = x as doubles
struct WidenArgs {
    const void* x;
    double* out;
    u64 count;
};
static_assert(sizeof(WidenArgs) == 24, "vit.rs");

// Widths that the warp-wide kernels hold in registers: multiples of 4 for a layer norm.
constexpr u32 SOFTMAX_NARROW = 256, SOFTMAX_WIDE = 1024, LAYER_NORM_WIDTH = 1536;
