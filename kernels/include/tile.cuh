// The part of a transform that one block of threads does: a tile of 2^BITS values, 16 to a thread, and the exchanges
// between its passes through shared memory.
#pragma once

#include "butterfly.cuh"

// The bits [LOW, HIGH) of a tile index are transformed; bits above HIGH number rows of the tile, bits below LOW columns.
// BEFORE stages of the whole transform come before those of the tile.
template <int BITS_, int LOW, int HIGH, int BEFORE>
struct Tile {
    static constexpr int BITS = BITS_;
    static constexpr u32 THREADS = tile_threads(BITS);
    static constexpr int PASSES = (HIGH - LOW + 3) / 4;
    static constexpr u32 SHARED_WORDS = tile_words(BITS);
    static_assert(LOW <= 5 && HIGH - LOW >= 4 && HIGH <= BITS, "tile");

    // Stages of a pass, passes counted in the forward direction.
    static __host__ METHOD constexpr int stages(int pass) { return HIGH - LOW - 4 * pass < 4 ? HIGH - LOW - 4 * pass : 4; }
    // Stages of the whole transform before a pass.
    static __host__ METHOD constexpr int before(int pass) { return BEFORE + 4 * pass; }
    // In a pass, register r of a thread holds the value whose tile index has r at this bit and the thread number around it.
    static __host__ METHOD constexpr int bit(int pass) { return HIGH - 4 * (pass + 1) > LOW ? HIGH - 4 * (pass + 1) : LOW; }

    // The tile index is first(bit) + step(bit, r).
    static METHOD u32 first(int bit) {
        return ((threadIdx.x >> bit) << (bit + 4)) | (threadIdx.x & ((1u << bit) - 1));
    }
    static __host__ METHOD constexpr u32 step(int bit, u32 r) { return r << bit; }

    // One word of padding to 16: sixteen lanes that read or write in one of the patterns above meet sixteen banks. The bits
    // of `first` and `step` are disjoint, so padding distributes over their sum.
    static __host__ METHOD constexpr u32 padded(u32 index) { return index + (index >> 4); }

    // Hands values from the owners of bit FROM to those of bit TO. A thread writes the places it has read last, so the
    // barrier between writing and reading is the only one. Up to bit 5 a warp owns the same 512 places.
    template <int FROM, int TO, class Word>
    static METHOD void exchange(Word* shared, Word (&x)[VALUES]) {
        Word* to = shared + padded(first(FROM));
#pragma unroll
        for (u32 r = 0; r < VALUES; r++) to[padded(step(FROM, r))] = x[r];
        if constexpr (FROM <= 5 && TO <= 5)
            __syncwarp();
        else
            __syncthreads();
        const Word* from = shared + padded(first(TO));
#pragma unroll
        for (u32 r = 0; r < VALUES; r++) x[r] = from[padded(step(TO, r))];
    }

    // Forward: from values at bit(0) to values at bit(PASSES - 1). `tile` counts tiles of rows, 0 for tiles of columns.
    template <class Form, int PASS = 0>
    static METHOD void forward(const Form& form, typename Form::Word* shared, typename Form::Word (&x)[VALUES],
                               const typename Form::Factor* table, u32 tile) {
        forward_pass<Form, stages(PASS), before(PASS)>(form, x, table + block(PASS, tile));
        if constexpr (PASS + 1 < PASSES) {
            exchange<bit(PASS), bit(PASS + 1)>(shared, x);
            forward<Form, PASS + 1>(form, shared, x, table, tile);
        }
    }

    // Inverse: from values at bit(PASSES - 1) to values at bit(0). With `LAST` the tile ends the transform.
    template <class Form, bool LAST, int PASS = PASSES - 1, class End>
    static METHOD void inverse(const Form& form, typename Form::Word* shared, typename Form::Word (&x)[VALUES],
                               const typename Form::Factor* table, u32 tile, const End* end) {
        constexpr bool END = LAST && PASS == 0;
        inverse_pass<Form, stages(PASS), before(PASS), END>(form, x, table + block(PASS, tile), end);
        if constexpr (!END) between_inverse_passes<Form, stages(PASS)>(form, x);
        if constexpr (PASS > 0) {
            exchange<bit(PASS), bit(PASS - 1)>(shared, x);
            inverse<Form, LAST, PASS - 1, End>(form, shared, x, table, tile, end);
        }
    }

  private:
    // The block number H of a thread in a pass (see Twiddles).
    static METHOD u32 block(int pass, u32 tile) {
        return (tile << (BITS - 4 - bit(pass))) | (threadIdx.x >> bit(pass));
    }
};
