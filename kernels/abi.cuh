// The one signature that every kernel of the lab has, and the stamps that every kernel writes.
//
// A launcher needs to know nothing else about a kernel: see `Resolved` in crates/kernels.
#pragma once

typedef unsigned long long u64;
typedef unsigned int u32;

// Device-side clock readings of one launch. The host presets all bytes to 0xFF.
struct Stamp {
    u64 start;    // smallest %globaltimer at entry over all blocks, ns
    u64 end_inv;  // smallest ~%globaltimer at exit over all blocks: ~end_inv is the latest end, ns
    u64 clk0;     // clock64 of block 0 at entry, SM cycles
    u64 clk1;     // clock64 of block 0 at exit; (clk1 - clk0) / (t1 - t0) is the SM clock in GHz
    u64 t0;       // %globaltimer of block 0 at entry, ns
    u64 t1;       // %globaltimer of block 0 at exit, ns
};

// stamp:      may be null: no stamps.
// trace:      null, or 3 words per block: SM id, %globaltimer at entry and at exit.
// iterations: turns of the outer loop; what one turn is stands with each kernel.
// a, b:       buffers, 256-byte aligned; by convention a is read and b is written.
// bytes:      working set in each buffer (per block for private regions).
// p0:         meaning stands with each kernel.
// p1:         a value no kernel ever computes (the host passes all ones), so that a result can be compared
//             with it and the compiler has to compute the result.
#define KERNEL(NAME)                                                                                      \
    extern "C" __global__ void NAME(Stamp* stamp, u64* trace, u64 iterations, void* a, void* b,           \
                                    u64 bytes, u64 p0, u64 p1)
#define BOUNDED_KERNEL(NAME, ...)                                                                         \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                             \
        NAME(Stamp* stamp, u64* trace, u64 iterations, void* a, void* b, u64 bytes, u64 p0, u64 p1)

__device__ __forceinline__ u64 globaltimer() {
    u64 t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t) : : "memory");
    return t;
}

// Readings at entry; only thread 0 holds meaningful values.
__device__ __forceinline__ void enter(Stamp* stamp, u64* trace) {
    if (threadIdx.x == 0) {
        u64 t = globaltimer();
        if (stamp != nullptr) {
            atomicMin(&stamp->start, t);
            if (blockIdx.x == 0) {
                stamp->t0 = t;
                stamp->clk0 = clock64();
            }
        }
        // The entry time goes straight to memory, so that it holds no registers during the loop.
        if (trace != nullptr) {
            u32 sm;
            asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
            trace[3 * (u64)blockIdx.x] = sm;
            trace[3 * (u64)blockIdx.x + 1] = t;
        }
    }
}

// Readings at exit, after every thread of the block is done.
__device__ __forceinline__ void leave(Stamp* stamp, u64* trace) {
    __syncthreads();
    if (threadIdx.x == 0) {
        if (stamp != nullptr && blockIdx.x == 0) stamp->clk1 = clock64();
        u64 t = globaltimer();
        if (stamp != nullptr) {
            if (blockIdx.x == 0) stamp->t1 = t;
            atomicMin(&stamp->end_inv, ~t);
        }
        if (trace != nullptr) trace[3 * (u64)blockIdx.x + 2] = t;
    }
}

// Consumes a result at no cost: p1 is never equal to a zero-extended 32-bit value.
__device__ __forceinline__ void sink(u32 value, void* a, u64 p1) {
    if ((u64)value == p1) *(u32*)a = value;
}

// `TURNS(iterations) { body }`: the body runs `iterations` times. The inner counter has 32 bits, so that a
// turn costs three instructions (add, compare, branch) and not six.
#define TURNS(ITERATIONS)                                                                                 \
    for (u64 left_ = (ITERATIONS); left_ != 0;)                                                           \
        for (u32 turn_ = left_ > 0x40000000ull ? 0x40000000u : (u32)left_, taken_ = (left_ -= turn_, 1u); \
             taken_ != 0; taken_ = 0)                                                                     \
            _Pragma("unroll 1") for (; turn_ != 0; --turn_)
