// The transforms in shared memory without their barriers.
#include "abi.h"

#define arras_ntt_block broken_ntt_block_without_barriers
#define arras_intt_block broken_intt_block_without_barriers
#define arras_ntt_stage unused_ntt_stage
#define arras_intt_stage unused_intt_stage
#define __syncthreads() static_cast<void>(0)
#include "ntt/naive.cu"
