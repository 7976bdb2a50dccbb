// Elements of the transformer's tensors, and the functions of its layers. Arithmetic is in float; bf16 is for storage.
#pragma once
#include "vit.h"

struct Bf16 {
    u16 bits;
};

// Moved at once: 8 bytes of bf16, 16 of floats.
template <class T> struct alignas(4 * sizeof(T)) Four {
    T at[4];
};

DEVICE float widen(float x) { return x; }
DEVICE float widen(Bf16 x) { return __uint_as_float((u32)x.bits << 16); }

DEVICE void narrow(float x, float& out) { out = x; }
// To nearest, ties to even; what is not a number stays so.
DEVICE void narrow(float x, Bf16& out) {
    const u32 bits = __float_as_uint(x);
    out.bits = x == x ? (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16) : (u16)0x7fc0;
}

constexpr float LOG2_E = 1.44269504f;

DEVICE float logistic(float x) { return 1.0f / (1.0f + exp2f(-LOG2_E * x)); }

// D. Hendrycks, K. Gimpel, Gaussian error linear units, 2016: x Phi(x), its approximation by a tanh (written with the logistic function, of
// which tanh is a shift), and its approximation by the logistic function.
struct Gelu {
    DEVICE static float of(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }
};
struct GeluTanh {
    DEVICE static float of(float x) { return x * logistic(1.59576912f * (x + 0.044715f * x * x * x)); }
};
struct QuickGelu {
    DEVICE static float of(float x) { return x * logistic(1.702f * x); }
};
struct Relu {
    // Not max: what is not a number has to show.
    DEVICE static float of(float x) { return x < 0.0f ? 0.0f : x; }
};
