// CUDA C++ for a host compiler: enough of it to run the kernels of arras on the CPU, one fiber per CUDA thread. Included by
// kernels/include/platform.h wherever the compiler is not nvcc.
#pragma once
#define ARRAS_HOST 1

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict
#define __align__(n) alignas(n)
#define DEVICE inline __attribute__((always_inline))

namespace arras_host {

struct Dim {
    unsigned x, y, z;
};

// What the running fiber sees. One launch at a time per thread of the host.
struct Context {
    Dim thread, block, threads, blocks;
    unsigned char* shared;
    size_t shared_bytes;
};
extern __thread Context context;

// Ends the launch with a message; does not return to the fiber.
[[noreturn, gnu::format(printf, 1, 2)]] void fail(const char* format, ...);

void wait_block();
void wait_warp(unsigned mask);
// Gives `value` to the other lanes of `mask` and returns that of lane `source`.
uint64_t exchange(unsigned mask, uint64_t value, unsigned source);
// Which lanes of `mask` say yes.
unsigned vote(unsigned mask, bool yes);
// Poisons static shared memory at the start of every block.
void know_shared(void* memory, size_t bytes);

inline unsigned lane() { return context.thread.x & 31; }

// An array in shared memory that checks its indices.
template <class T> class Shared {
    T* first;
    size_t count;

public:
    explicit Shared(size_t elements) : first(reinterpret_cast<T*>(context.shared)), count(elements) {
        if (count == 0) fail("dynamic shared memory is used, but the launch has none");
    }
    template <class I> T& operator[](I index) const {
        if (size_t(index) >= count) fail("shared memory index %lld of %zu", (long long)index, count);
        return first[index];
    }
    operator T*() const { return first; }
};

// A kernel that can be launched: arguments are the bytes of its structure.
struct Kernel {
    const char* name;
    const char* file;
    void (*run)(const void* arguments);
    size_t argument_bytes;
    unsigned max_threads;
};

struct Registration {
    Registration(const Kernel& kernel);
};

constexpr unsigned first_of(unsigned threads, unsigned = 0) { return threads; }

}  // namespace arras_host

#define KERNEL(name, Arguments, ...)                                                                                   \
    static void name(const Arguments& args);                                                                           \
    static const arras_host::Registration name##_registration({ARRAS_NAME(name), __FILE__,                             \
        [](const void* arguments) { name(*static_cast<const Arguments*>(arguments)); }, sizeof(Arguments),             \
        arras_host::first_of(__VA_ARGS__)});                                                                           \
    static void name(const Arguments& args)
#define ARRAS_NAME(name) ARRAS_STRING(name)
#define ARRAS_STRING(name) #name

#define DYNAMIC_SHARED(T, name) const arras_host::Shared<T> name(arras_host::context.shared_bytes / sizeof(T))
#define STATIC_SHARED(T, name, count)                                                                                  \
    static thread_local T name[count];                                                                                 \
    arras_host::know_shared(name, sizeof name)

#define threadIdx (arras_host::context.thread)
#define blockIdx (arras_host::context.block)
#define blockDim (arras_host::context.threads)
#define gridDim (arras_host::context.blocks)

inline void __syncthreads() { arras_host::wait_block(); }
inline void __syncwarp(unsigned mask = ~0u) { arras_host::wait_warp(mask); }

namespace arras_host {
template <class T> T shuffle(unsigned mask, T value, unsigned source) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = exchange(mask, bits, source);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
}  // namespace arras_host

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    unsigned lane = arras_host::lane();
    return arras_host::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    unsigned lane = arras_host::lane(), source = lane ^ bits;
    return arras_host::shuffle(mask, value, (source & ~(width - 1)) > (lane & ~(width - 1)) ? lane : source);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    unsigned lane = arras_host::lane(), source = lane + by;
    return arras_host::shuffle(mask, value, (source ^ lane) & ~(width - 1) ? lane : source);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    unsigned lane = arras_host::lane();
    return arras_host::shuffle(mask, value, (lane & (width - 1)) >= by ? lane - by : lane);
}
inline unsigned __ballot_sync(unsigned mask, int yes) { return arras_host::vote(mask, yes != 0); }
inline int __any_sync(unsigned mask, int yes) { return arras_host::vote(mask, yes != 0) != 0; }
inline int __all_sync(unsigned mask, int yes) { return arras_host::vote(mask, yes != 0) == mask; }

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return uint64_t((unsigned __int128)(a)*b >> 64); }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int i = 0; i < 32; i++) reversed |= (x >> i & 1) << (31 - i);
    return reversed;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return unsigned((uint64_t(high) << 32 | low) << (by & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return unsigned((uint64_t(high) << 32 | low) >> (by & 31));
}
template <class T> T __ldg(const T* address) { return *address; }
template <class T> T __ldcs(const T* address) { return *address; }
template <class T> T __ldcg(const T* address) { return *address; }
template <class T> void __stcs(T* address, T value) { *address = value; }

inline double __longlong_as_double(long long bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline long long __double_as_longlong(double value) {
    long long bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dsqrt_rn(double x) { return std::sqrt(x); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
// To nearest, ties to even: the host's rounding mode.
inline long long __double2ll_rn(double x) { return std::llrint(x); }
inline double __ll2double_rn(long long x) { return double(x); }
inline double __ull2double_rn(unsigned long long x) { return double(x); }

template <class T> T atomicMin(T* address, T value) {
    T old = *address;
    if (value < old) *address = value;
    return old;
}

template <class T> T atomicMax(T* address, T value) {
    T old = *address;
    if (old < value) *address = value;
    return old;
}

template <class T> constexpr T min(T a, T b) { return b < a ? b : a; }
template <class T> constexpr T max(T a, T b) { return a < b ? b : a; }

struct alignas(16) ulonglong2 {
    unsigned long long x, y;
};
inline ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
