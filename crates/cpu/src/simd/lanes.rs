//! Vectors of 64-bit lanes: the few operations that the kernels are written in.

use core::arch::x86_64::*;
use core::fmt::Debug;

/// Runs intrinsics on behalf of a token.
macro_rules! intrinsics {
    ($($body:tt)*) => {{
        // SAFETY: the intrinsics used here need no more than the features of the token `self`, and a token is only made
        // where `Path::detect` or `Path::available` found them.
        #[allow(unused_unsafe)]
        unsafe { $($body)* }
    }};
}

/// A token for an instruction set that works on vectors of `WIDTH` words. Having one proves that the processor has it.
///
/// Every method is meant to be inlined into a function that enables the features, where it is one instruction or a few.
pub(crate) trait Lanes: Copy + Send + Sync + Debug {
    /// A vector.
    type V: Copy;
    /// Words in a vector.
    const WIDTH: usize;
    /// log2 of `WIDTH`: levels of a transform whose operands lie in one vector.
    const LEVELS: usize;
    /// Whether [`reduce_once`](Self::reduce_once) takes any word.
    const FULL_RANGE: bool;

    /// Reads a vector.
    ///
    /// # Safety
    /// `WIDTH` words can be read at `from`.
    unsafe fn load(self, from: *const u64) -> Self::V;
    /// Writes a vector.
    ///
    /// # Safety
    /// `WIDTH` words can be written at `to`.
    unsafe fn store(self, to: *mut u64, x: Self::V);
    /// The same word in every lane.
    fn splat(self, x: u64) -> Self::V;
    /// `a + b` mod 2^64.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b` mod 2^64.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// Bitwise and.
    fn and(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a >> BITS`.
    fn shr<const BITS: u32>(self, a: Self::V) -> Self::V;
    /// `a << BITS`.
    fn shl<const BITS: u32>(self, a: Self::V) -> Self::V;
    /// `x - bound` where that is not negative, else `x`, for `bound <= 2^63` and, without [`FULL_RANGE`](Self::FULL_RANGE),
    /// `x < 2^63`.
    fn reduce_once(self, x: Self::V, bound: Self::V) -> Self::V;
    /// The product of the low halves of the lanes.
    fn mul_halves(self, a: Self::V, b: Self::V) -> Self::V;
    /// The low word of the product.
    fn mul_low(self, a: Self::V, b: Self::V) -> Self::V;

    /// Reads the factors of a level inside a pair of vectors, level 0 being the widest, stored for the lanes that
    /// [`descend`](Self::descend) leaves, for those lanes or the ones that [`ascend`](Self::ascend) leaves.
    ///
    /// # Safety
    /// `WIDTH` words can be read at `from`.
    #[inline(always)]
    unsafe fn load_lanes(self, _level: usize, _descending: bool, from: *const u64) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { self.load(from) }
    }

    /// From two consecutive vectors to the operands of the widest level inside a vector (`level` 0), or from the results
    /// of one such level to the operands of the next. Which lane holds what is found out by applying this to indices.
    fn descend(self, level: usize, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// From the results of the narrowest level to two consecutive vectors.
    fn leave(self, x: Self::V, y: Self::V) -> (Self::V, Self::V);
    /// From two consecutive vectors to the operands of the narrowest level, as if their words stood in reverse order: which
    /// begins an inverse transform.
    fn enter_reversed(self, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// The even and the odd lanes of two consecutive vectors.
    fn unzip(self, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// From the results of inverse level `level` (counted from the narrowest) to the operands of the next, or after the
    /// widest to two consecutive vectors in their true order.
    fn ascend(self, level: usize, x: Self::V, y: Self::V) -> (Self::V, Self::V);

    /// A hint that the cache line at `from`, which need not exist, is going to be read.
    fn prefetch(self, from: *const u64);
    /// The same for what is read later: it need not come closer than the second-level cache.
    fn prefetch_outer(self, from: *const u64);

    /// Keeps the compiler from moving instructions on these vectors across this place: its scheduler would rather finish
    /// one pair after the other, each waiting for itself.
    #[inline(always)]
    fn fence(self, _: &mut [Self::V]) {}

    /// `x * y >> 64`, up to 2 too small: the product of the low halves and two carries are left out.
    #[inline(always)]
    fn mul_high_approximate(self, x: Self::V, y: Self::V) -> Self::V {
        let (x1, y1) = (self.shr::<32>(x), self.shr::<32>(y));
        let middle = self.add(self.shr::<32>(self.mul_halves(x1, y)), self.shr::<32>(self.mul_halves(x, y1)));
        self.add(self.mul_halves(x1, y1), middle)
    }
}

/// AVX-512 F, DQ, VL and BW: eight lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The processor has AVX-512 F, DQ, VL and BW.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

impl Avx512 {
    /// `x + bound` where x, a signed number of at least `-bound`, is negative, else `x`.
    #[inline(always)]
    pub(crate) fn raise_once(self, x: __m512i, bound: __m512i) -> __m512i {
        intrinsics!(_mm512_min_epu64(x, _mm512_add_epi64(x, bound)))
    }

    /// [`load_lanes`](Lanes::load_lanes) from a table that has every factor once: `2 << level` words, each for the lanes of
    /// its block.
    ///
    /// # Safety
    /// So many words can be read.
    #[inline(always)]
    pub(crate) unsafe fn load_spread(self, level: usize, descending: bool, from: *const u64) -> __m512i {
        // SAFETY: the caller's promise; unaligned access is allowed.
        intrinsics!(match level {
            0 => {
                let words = _mm512_castsi128_si512(_mm_loadu_si128(from.cast()));
                let lanes = if descending {
                    _mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1)
                } else {
                    _mm512_setr_epi64(0, 0, 1, 1, 0, 0, 1, 1)
                };
                _mm512_permutexvar_epi64(lanes, words)
            }
            1 => {
                let words = _mm512_castsi256_si512(_mm256_loadu_si256(from.cast()));
                _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), words)
            }
            _ => _mm512_loadu_si512(from.cast()),
        })
    }

    /// Lane i of the result is lane `indices[i]` of `x`.
    #[inline(always)]
    pub(crate) fn permute(self, x: __m512i, indices: __m512i) -> __m512i {
        intrinsics!(_mm512_permutexvar_epi64(indices, x))
    }
}

impl Lanes for Avx512 {
    type V = __m512i;
    const WIDTH: usize = 8;
    const LEVELS: usize = 3;
    const FULL_RANGE: bool = true;

    #[inline(always)]
    unsafe fn load(self, from: *const u64) -> __m512i {
        // SAFETY: the caller's promise; unaligned access is allowed.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64, x: __m512i) {
        // SAFETY: the caller's promise; unaligned access is allowed.
        unsafe { _mm512_storeu_si512(to.cast(), x) }
    }

    #[inline(always)]
    fn splat(self, x: u64) -> __m512i {
        intrinsics!(_mm512_set1_epi64(x as i64))
    }

    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_add_epi64(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_sub_epi64(a, b))
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_and_si512(a, b))
    }

    #[inline(always)]
    fn shr<const BITS: u32>(self, a: __m512i) -> __m512i {
        intrinsics!(_mm512_srli_epi64::<BITS>(a))
    }

    #[inline(always)]
    fn shl<const BITS: u32>(self, a: __m512i) -> __m512i {
        intrinsics!(_mm512_slli_epi64::<BITS>(a))
    }

    #[inline(always)]
    fn reduce_once(self, x: __m512i, bound: __m512i) -> __m512i {
        intrinsics!(_mm512_min_epu64(x, _mm512_sub_epi64(x, bound)))
    }

    #[inline(always)]
    fn mul_halves(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_mul_epu32(a, b))
    }

    #[inline(always)]
    fn mul_low(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_mullo_epi64(a, b))
    }

    #[inline(always)]
    unsafe fn load_lanes(self, level: usize, descending: bool, from: *const u64) -> __m512i {
        // SAFETY: the caller's promise; unaligned access is allowed.
        intrinsics!({
            let factors = _mm512_loadu_si512(from.cast());
            match (level, descending) {
                (0, false) => _mm512_shuffle_i64x2::<0x88>(factors, factors),
                _ => factors,
            }
        })
    }

    // With a = a0..a7 and b = b0..b7, one character per pair of lanes:
    //   level 0  x = a01 a23 b01 b23   y = a45 a67 b45 b67
    //   level 1  x = a01 b01 a45 b45   y = a23 b23 a67 b67
    //   level 2  x = a02 b02 a46 b46   y = a13 b13 a57 b57
    #[inline(always)]
    fn descend(self, level: usize, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        intrinsics!(match level {
            0 => (_mm512_shuffle_i64x2::<0x44>(a, b), _mm512_shuffle_i64x2::<0xee>(a, b)),
            1 => (_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b)),
            _ => (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)),
        })
    }

    #[inline(always)]
    fn leave(self, x: __m512i, y: __m512i) -> (__m512i, __m512i) {
        intrinsics!({
            let first = _mm512_setr_epi64(0, 8, 1, 9, 4, 12, 5, 13);
            let second = _mm512_setr_epi64(2, 10, 3, 11, 6, 14, 7, 15);
            (_mm512_permutex2var_epi64(x, first, y), _mm512_permutex2var_epi64(x, second, y))
        })
    }

    #[inline(always)]
    fn prefetch(self, from: *const u64) {
        intrinsics!(_mm_prefetch::<_MM_HINT_T0>(from.cast()));
    }

    #[inline(always)]
    fn prefetch_outer(self, from: *const u64) {
        intrinsics!(_mm_prefetch::<_MM_HINT_T1>(from.cast()));
    }

    // With a and b reversed, word k of the first vector is b(7-k), of the second a(7-k). Then, backwards from level 2 above:
    // x = a01 b01 a45 b45, then x = a01 b01 a23 b23, then b and a, reversed.
    #[inline(always)]
    fn enter_reversed(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        intrinsics!({
            let even = _mm512_setr_epi64(15, 13, 7, 5, 11, 9, 3, 1);
            let odd = _mm512_setr_epi64(14, 12, 6, 4, 10, 8, 2, 0);
            (_mm512_permutex2var_epi64(a, even, b), _mm512_permutex2var_epi64(a, odd, b))
        })
    }

    #[inline(always)]
    fn unzip(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        intrinsics!({
            let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
            let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
            (_mm512_permutex2var_epi64(a, even, b), _mm512_permutex2var_epi64(a, odd, b))
        })
    }

    #[inline(always)]
    fn fence(self, r: &mut [__m512i]) {
        let length = r.len();
        if length == 16
            && let Some(r) = r.first_chunk_mut()
        {
            intrinsics!(fence16(r));
        } else if length == 8
            && let Some(r) = r.first_chunk_mut()
        {
            intrinsics!(fence8(r));
        }
    }

    #[inline(always)]
    fn ascend(self, level: usize, x: __m512i, y: __m512i) -> (__m512i, __m512i) {
        intrinsics!(match level {
            0 => (_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y)),
            1 => (_mm512_shuffle_i64x2::<0x44>(x, y), _mm512_shuffle_i64x2::<0xee>(x, y)),
            _ => {
                let first = _mm512_setr_epi64(15, 14, 11, 10, 7, 6, 3, 2);
                let second = _mm512_setr_epi64(13, 12, 9, 8, 5, 4, 1, 0);
                (_mm512_permutex2var_epi64(x, first, y), _mm512_permutex2var_epi64(x, second, y))
            }
        })
    }
}

macro_rules! fences {
    ($name:ident $count:literal: $($register:ident)*) => {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn $name(r: &mut [__m512i; $count]) {
            let [$(mut $register),*] = *r;
            // SAFETY: no instruction at all, only a claim to have changed the registers.
            unsafe {
                core::arch::asm!($(concat!("/* {", stringify!($register), "} */"),)* $($register = inout(zmm_reg) $register,)*
                    options(pure, nomem, nostack, preserves_flags));
            }
            *r = [$($register),*];
        }
    };
}

fences!(fence8 8: a b c d e f g h);
fences!(fence16 16: a b c d e f g h i j k l m n o p);

/// AVX2: four lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The processor has AVX2.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

impl Lanes for Avx2 {
    type V = __m256i;
    const WIDTH: usize = 4;
    const LEVELS: usize = 2;
    const FULL_RANGE: bool = false;

    #[inline(always)]
    unsafe fn load(self, from: *const u64) -> __m256i {
        // SAFETY: the caller's promise; unaligned access is allowed.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64, x: __m256i) {
        // SAFETY: the caller's promise; unaligned access is allowed.
        unsafe { _mm256_storeu_si256(to.cast(), x) }
    }

    #[inline(always)]
    fn splat(self, x: u64) -> __m256i {
        intrinsics!(_mm256_set1_epi64x(x as i64))
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        intrinsics!(_mm256_add_epi64(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        intrinsics!(_mm256_sub_epi64(a, b))
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        intrinsics!(_mm256_and_si256(a, b))
    }

    #[inline(always)]
    fn shr<const BITS: u32>(self, a: __m256i) -> __m256i {
        intrinsics!(_mm256_srl_epi64(a, _mm_cvtsi32_si128(BITS as i32)))
    }

    #[inline(always)]
    fn shl<const BITS: u32>(self, a: __m256i) -> __m256i {
        intrinsics!(_mm256_sll_epi64(a, _mm_cvtsi32_si128(BITS as i32)))
    }

    #[inline(always)]
    fn reduce_once(self, x: __m256i, bound: __m256i) -> __m256i {
        intrinsics!({
            // Keeps x where the difference has its sign bit set.
            let difference = _mm256_sub_epi64(x, bound);
            let (x, d) = (_mm256_castsi256_pd(x), _mm256_castsi256_pd(difference));
            _mm256_castpd_si256(_mm256_blendv_pd(d, x, d))
        })
    }

    #[inline(always)]
    fn mul_halves(self, a: __m256i, b: __m256i) -> __m256i {
        intrinsics!(_mm256_mul_epu32(a, b))
    }

    #[inline(always)]
    fn mul_low(self, a: __m256i, b: __m256i) -> __m256i {
        intrinsics!({
            // Both cross products, side by side in the halves of a lane, and their sum in its upper half.
            let cross = _mm256_mullo_epi32(a, _mm256_shuffle_epi32::<0xb1>(b));
            let cross = _mm256_add_epi32(_mm256_slli_epi64::<32>(cross), cross);
            let upper = _mm256_and_si256(cross, _mm256_set1_epi64x(-1 << 32));
            _mm256_add_epi64(_mm256_mul_epu32(a, b), upper)
        })
    }

    // With a = a0..a3 and b = b0..b3: level 0 x = a01 b01, y = a23 b23; level 1 x = a0 a2 b0 b2, y = a1 a3 b1 b3.
    #[inline(always)]
    fn descend(self, level: usize, a: __m256i, b: __m256i) -> (__m256i, __m256i) {
        intrinsics!(match level {
            0 => (_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)),
            _ => (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)),
        })
    }

    #[inline(always)]
    fn leave(self, x: __m256i, y: __m256i) -> (__m256i, __m256i) {
        let (x, y) = self.descend(1, x, y);
        self.descend(0, x, y)
    }

    #[inline(always)]
    fn prefetch(self, from: *const u64) {
        intrinsics!(_mm_prefetch::<_MM_HINT_T0>(from.cast()));
    }

    #[inline(always)]
    fn prefetch_outer(self, from: *const u64) {
        intrinsics!(_mm_prefetch::<_MM_HINT_T1>(from.cast()));
    }

    #[inline(always)]
    fn enter_reversed(self, a: __m256i, b: __m256i) -> (__m256i, __m256i) {
        let (high, low) = self.descend(0, b, a);
        let (odd, even) = self.descend(1, low, high);
        (even, odd)
    }

    #[inline(always)]
    fn unzip(self, a: __m256i, b: __m256i) -> (__m256i, __m256i) {
        let (x, y) = self.descend(0, a, b);
        self.descend(1, x, y)
    }

    #[inline(always)]
    fn ascend(self, level: usize, x: __m256i, y: __m256i) -> (__m256i, __m256i) {
        if level == 0 {
            return self.descend(1, x, y);
        }
        let (first, second) = self.descend(0, x, y);
        intrinsics!((_mm256_permute4x64_epi64::<0x1b>(second), _mm256_permute4x64_epi64::<0x1b>(first)))
    }
}

/// What AVX-512 IFMA adds to [`Avx512`]: products of the low 52 bits of the lanes, accumulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ifma(());

impl Ifma {
    /// # Safety
    /// The processor has AVX-512 IFMA.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }

    /// `a << count`, lane by lane.
    #[inline(always)]
    pub(crate) fn shl_by(self, a: __m512i, count: __m512i) -> __m512i {
        intrinsics!(_mm512_sllv_epi64(a, count))
    }

    /// `sum + (a mod 2^52) (b mod 2^52) mod 2^52`.
    #[inline(always)]
    pub(crate) fn madd_low(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_madd52lo_epu64(sum, a, b))
    }

    /// `sum + ((a mod 2^52) (b mod 2^52) >> 52)`.
    #[inline(always)]
    pub(crate) fn madd_high(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_madd52hi_epu64(sum, a, b))
    }
}
