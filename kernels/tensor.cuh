// Tensor core by the portable warp-wide product: m16n8k16, bf16 inputs, fp32 sums.
#pragma once
#include "abi.cuh"

// One turn = ILP * (32 / ILP) products per warp, in ILP independent chains of sums.
template <int ILP>
__device__ __forceinline__ void mma_body(Stamp* stamp, u64* trace, u64 iterations, void* a, u64 p0, u64 p1) {
    enter(stamp, trace);
    // bf16 pairs near one, different in each lane.
    u32 one = 0x3f803f80u + (u32)p0 + threadIdx.x % 8 * 0x00010001u;
    float d[ILP][4];
#pragma unroll
    for (int i = 0; i < ILP; ++i) d[i][0] = d[i][1] = d[i][2] = d[i][3] = 0.0f;
    TURNS(iterations) {
#pragma unroll
        for (int s = 0; s < 32 / ILP; ++s) {
#pragma unroll
            for (int i = 0; i < ILP; ++i)
                asm volatile(
                    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                    "{%8, %9}, {%0, %1, %2, %3};"
                    : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
                    : "r"(one), "r"(one ^ 1u), "r"(one ^ 2u), "r"(one ^ 3u), "r"(one ^ 4u), "r"(one ^ 5u));
        }
    }
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < ILP; ++i)
        sum ^= __float_as_uint(d[i][0]) ^ __float_as_uint(d[i][1]) ^ __float_as_uint(d[i][2]) ^
               __float_as_uint(d[i][3]);
    sink(sum, a, p1);
    leave(stamp, trace);
}
#define MMA(ILP)                                                                                          \
    BOUNDED_KERNEL(tensor_mma_ilp##ILP, 1024) { mma_body<ILP>(stamp, trace, iterations, a, p0, p1); }
MMA(1)
MMA(2)
MMA(4)
MMA(8)
