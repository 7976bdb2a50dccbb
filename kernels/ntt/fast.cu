// Transforms of polynomials in one or two kernels. See include/transform.cuh.
#include "transform.cuh"

#define WHOLE(log, form, Form)                                                                                         \
    TRANSFORM(arras_ntt_whole_##log##_##form, TransformArgs, Form, Whole<log>) {                                           \
        DYNAMIC_SHARED(u64, shared);                                                                                   \
        forward_kernel<Whole<log>, true, Form>(args, shared);                                                          \
    }                                                                                                                  \
    TRANSFORM(arras_intt_whole_##log##_##form, TransformArgs, Form, Whole<log>) {                                          \
        DYNAMIC_SHARED(u64, shared);                                                                                   \
        inverse_kernel<Whole<log>, true, Form>(args, shared);                                                          \
    }

#define COLUMNS(rows, form, Form)                                                                                      \
    TRANSFORM(arras_ntt_columns_##rows##_##form, TransformArgs, Form, Columns<rows>) {                                     \
        DYNAMIC_SHARED(u64, shared);                                                                                   \
        forward_kernel<Columns<rows>, false, Form>(args, shared);                                                      \
    }                                                                                                                  \
    TRANSFORM(arras_intt_columns_##rows##_##form, TransformArgs, Form, Columns<rows>) {                                    \
        DYNAMIC_SHARED(u64, shared);                                                                                   \
        inverse_kernel<Columns<rows>, true, Form>(args, shared);                                                       \
    }

#define ROWS(rows, columns, form, Form)                                                                                \
    TRANSFORM(arras_ntt_rows_##rows##_##columns##_##form, TransformArgs, Form, Rows<rows, columns>) {                      \
        DYNAMIC_SHARED(u64, shared);                                                                                   \
        forward_kernel<Rows<rows, columns>, true, Form>(args, shared);                                                 \
    }                                                                                                                  \
    TRANSFORM(arras_intt_rows_##rows##_##columns##_##form, TransformArgs, Form, Rows<rows, columns>) {                     \
        DYNAMIC_SHARED(u64, shared);                                                                                   \
        inverse_kernel<Rows<rows, columns>, false, Form>(args, shared);                                                \
    }

#define ALL(form, Form)                                                                                                \
    WHOLE(11, form, Form)                                                                                              \
    WHOLE(12, form, Form)                                                                                              \
    WHOLE(13, form, Form)                                                                                              \
    COLUMNS(7, form, Form)                                                                                             \
    COLUMNS(8, form, Form)                                                                                             \
    ROWS(7, 7, form, Form)                                                                                             \
    ROWS(8, 7, form, Form)                                                                                             \
    ROWS(8, 8, form, Form)                                                                                             \
    ROWS(8, 9, form, Form)

ALL(shifted, Shifted)
ALL(lazy, Lazy)
ALL(harvey, Harvey<u64>)

// Brings the twiddle factors of the selected limbs from the order of powers to that of a decomposition (see Twiddles).
KERNEL(arras_arrange_twiddles, ArrangeArgs, 256) {
    const Shape& shape = args.shape;
    const u32 from = blockIdx.x * blockDim.x + threadIdx.x;
    if (from >> shape.log_degree) return;
    const Limb& limb = shape.limb[shape.id[blockIdx.y]];
    u32 to = 0;
    if (from != 0) {
        const u32 stage = 31 - __clz((int)from);
        const u32 first = stage < args.rows ? 0 : args.rows;
        const u32 length = (stage < args.rows ? args.rows : shape.log_degree) - first;
        const u32 before = stage - (stage - first) % 4;
        const u32 left = length - (before - first), stages = left < 4 ? left : 4;
        const u32 groups = VALUES >> stages, j = stage - before;
        const u32 block = from - (1u << stage), u = block & ((1u << j) - 1), group = block >> j;
        to = (((1u << j) + u) << before) + group % groups * ((1u << before) / groups) + group / groups;
    }
    const u64 row = (u64)blockIdx.y << shape.log_degree;
    args.forward[row + to] = limb.forward[from];
    args.inverse[row + to] = limb.inverse[from];
}
