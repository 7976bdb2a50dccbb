// The row-wise and pointwise parts of a transformer's block as they are defined: the oracles of vit/fused.cu, and what serves widths that
// those cannot. A thread does a row (x covers the rows) or a value (x covers a row, y shares the rows).
#include "element.cuh"

template <class T> DEVICE void softmax(const SoftmaxArgs& args) {
    const u64 row = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= args.rows) return;
    T* x = static_cast<T*>(args.x) + row * args.width;
    float top = -INFINITY, sum = 0.0f;
    for (u32 i = 0; i < args.width; i++) top = fmaxf(top, widen(x[i]));
    auto power = [&](u32 i) { return exp2f((widen(x[i]) - top) * (args.scale * LOG2_E)); };
    for (u32 i = 0; i < args.width; i++) sum += power(i);
    for (u32 i = 0; i < args.width; i++) narrow(power(i) / sum, x[i]);
}

template <class T> DEVICE void layer_norm(const LayerNormArgs& args) {
    const u64 row = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= args.rows) return;
    const T *x = static_cast<const T*>(args.x) + row * args.width, *weight = static_cast<const T*>(args.weight),
            *bias = static_cast<const T*>(args.bias);
    T* out = static_cast<T*>(args.out) + row * args.width;
    float mean = 0.0f, variance = 0.0f;
    for (u32 i = 0; i < args.width; i++) mean += widen(x[i]);
    mean /= (float)args.width;
    for (u32 i = 0; i < args.width; i++) variance += (widen(x[i]) - mean) * (widen(x[i]) - mean);
    const float unit = 1.0f / sqrtf(variance / (float)args.width + args.epsilon);
    for (u32 i = 0; i < args.width; i++) narrow((widen(x[i]) - mean) * unit * widen(weight[i]) + widen(bias[i]), out[i]);
}

// visit(place, column) for every value that this thread is for.
template <class Visit> DEVICE void each_value(const BiasArgs& args, Visit visit) {
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= args.width) return;
    for (u64 row = blockIdx.y; row < args.rows; row += gridDim.y) visit(row * args.width + column, column);
}

template <class T> DEVICE void add_bias(const BiasArgs& args) {
    T* x = static_cast<T*>(args.x);
    const T* bias = static_cast<const T*>(args.bias);
    each_value(args, [=](u64 at, u32 column) { narrow(widen(x[at]) + widen(bias[column]), x[at]); });
}

template <class T> DEVICE void residual(const BiasArgs& args) {
    T* x = static_cast<T*>(args.x);
    const T *y = static_cast<const T*>(args.y), *bias = static_cast<const T*>(args.bias);
    each_value(args, [=](u64 at, u32 column) { narrow(widen(x[at]) + (widen(y[at]) + widen(bias[column])), x[at]); });
}

template <class T, class Activation> DEVICE void activate(const BiasArgs& args) {
    T* x = static_cast<T*>(args.x);
    const T* bias = static_cast<const T*>(args.bias);
    each_value(args, [=](u64 at, u32 column) { narrow(Activation::of(widen(x[at]) + widen(bias[column])), x[at]); });
}

template <class T> DEVICE void swiglu(const BiasArgs& args) {
    T* x = static_cast<T*>(args.x);
    const T *y = static_cast<const T*>(args.y), *bias = static_cast<const T*>(args.bias);
    const u32 width = args.width;
    each_value(args, [=](u64 at, u32 column) {
        const u64 from = 2 * at - column;
        const float a = widen(y[from]) + widen(bias[column]), b = widen(y[from + width]) + widen(bias[width + column]);
        narrow(a * logistic(a) * b, x[at]);
    });
}

#define ALL(type, T)                                                                                                   \
    KERNEL(arras_vit_softmax_simple_##type, SoftmaxArgs, 256) { softmax<T>(args); }                                    \
    KERNEL(arras_vit_layer_norm_simple_##type, LayerNormArgs, 256) { layer_norm<T>(args); }                            \
    KERNEL(arras_vit_add_bias_simple_##type, BiasArgs, 256) { add_bias<T>(args); }                                     \
    KERNEL(arras_vit_residual_simple_##type, BiasArgs, 256) { residual<T>(args); }                                     \
    KERNEL(arras_vit_gelu_simple_##type, BiasArgs, 256) { activate<T, Gelu>(args); }                                   \
    KERNEL(arras_vit_gelu_tanh_simple_##type, BiasArgs, 256) { activate<T, GeluTanh>(args); }                          \
    KERNEL(arras_vit_quick_gelu_simple_##type, BiasArgs, 256) { activate<T, QuickGelu>(args); }                        \
    KERNEL(arras_vit_relu_simple_##type, BiasArgs, 256) { activate<T, Relu>(args); }                                   \
    KERNEL(arras_vit_swiglu_simple_##type, BiasArgs, 256) { swiglu<T>(args); }

ALL(f32, float)
ALL(bf16, Bf16)
