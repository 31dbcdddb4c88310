// Shared-memory bandwidth and bank conflicts.
#pragma once
#include "abi.cuh"

// One turn = 32 loads of 16 bytes per thread: 512 contiguous bytes, 4 wavefronts of 128 bytes, per warp and
// load. All warps read the same 16 KiB; the base moves by p0 (zero, unknown to the compiler) each turn, so
// that no load is loop-invariant.
BOUNDED_KERNEL(smem_vector, 1024) {
    __shared__ __align__(16) uint4 tile[32 * 32];
    enter(stamp, trace);
    for (u32 i = threadIdx.x; i < 32 * 32; i += blockDim.x) tile[i] = make_uint4(i, i, i, i);
    __syncthreads();
    u32 at = (u32)__cvta_generic_to_shared(tile) + (threadIdx.x & 31) * 16, sum = 0;
    TURNS(iterations) {
#pragma unroll
        for (int k = 0; k < 32; ++k) {
            u32 x, y, z, w;
            asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(x), "=r"(y), "=r"(z), "=r"(w) : "r"(at + k * 512));
            sum ^= x ^ y ^ z ^ w;
        }
        at += (u32)p0;
    }
    sink(sum, a, p1);
    leave(stamp, trace);
}

// One turn = 32 loads of 4 bytes per thread, p0 words between neighbouring lanes: with p0 = 2^k, 2^k lanes meet
// in each bank in use and a load takes 2^k wavefronts.
BOUNDED_KERNEL(smem_conflict, 1024) {
    __shared__ u32 tile[32 * 32 + 32];
    enter(stamp, trace);
    for (u32 i = threadIdx.x; i < 32 * 32 + 32; i += blockDim.x) tile[i] = i;
    __syncthreads();
    u32 at = (u32)__cvta_generic_to_shared(tile) + (threadIdx.x & 31) * (u32)p0 * 4, sum = 0;
    u32 zero = (u32)(p1 + 1);
    TURNS(iterations) {
#pragma unroll
        for (int k = 0; k < 32; ++k) {
            u32 x;
            asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(at + k * 4));
            sum ^= x;
        }
        at += zero;
    }
    sink(sum, a, p1);
    leave(stamp, trace);
}
