// Kernels that hold blocks, registers or shared memory for a time and use little else.
#pragma once
#include "abi.cuh"

__device__ __forceinline__ void doze(u32 ns) { asm volatile("nanosleep.u32 %0;" : : "r"(ns)); }

// One turn = every thread sleeps p0 ns once (paper, section 4.1.1). PTX lets a sleep last 0 to 2 * p0.
BOUNDED_KERNEL(sleep, 1024) {
    enter(stamp, trace);
    TURNS(iterations) doze((u32)p0);
    leave(stamp, trace);
}

// Each block lasts p0 * iterations ns by %globaltimer. Thread 0 watches the clock, the others wait for it.
__device__ __forceinline__ void until(Stamp* stamp, u64* trace, u64 length, bool rest) {
    enter(stamp, trace);
    if (threadIdx.x == 0) {
        u64 end = globaltimer() + length;
        for (u64 now = globaltimer(); now < end; now = globaltimer()) {
            u64 left = end - now;
            // A sleep may last twice as long as asked; the last microseconds are spun.
            if (rest && left > 4000) doze(left > 200000 ? 50000u : (u32)(left / 4));
        }
    }
    leave(stamp, trace);
}
BOUNDED_KERNEL(sleep_until, 1024) { until(stamp, trace, p0 * iterations, true); }
BOUNDED_KERNEL(spin, 1024) { until(stamp, trace, p0 * iterations, false); }

// The launch hog's kernel: nothing but the stamps.
KERNEL(empty) {
    enter(stamp, trace);
    leave(stamp, trace);
}

// One thread writes one stamp around work that has none of its own: p0 = 0 start, 1 end.
KERNEL(stamp) {
    if (stamp == nullptr || threadIdx.x != 0 || blockIdx.x != 0) return;
    u64 t = globaltimer();
    if (p0 == 0) {
        atomicMin(&stamp->start, t);
        stamp->t0 = t;
        stamp->clk0 = clock64();
    } else {
        atomicMin(&stamp->end_inv, ~t);
        stamp->t1 = t;
        stamp->clk1 = clock64();
    }
}

// Register hog: LIVE values loaded from `a` stay live over all sleeps (a load cannot be computed anew), so
// the compiler has to allocate them. One turn = every thread sleeps p0 ns once.
template <int LIVE>
__device__ __forceinline__ void hold_registers(Stamp* stamp, u64* trace, u64 iterations, void* a, u64 p0, u64 p1) {
    enter(stamp, trace);
    u32 v[LIVE];
#pragma unroll
    for (int i = 0; i < LIVE; ++i) asm volatile("ld.volatile.global.u32 %0, [%1];" : "=r"(v[i]) : "l"((u32*)a + i));
    TURNS(iterations) doze((u32)p0);
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < LIVE; ++i) sum = sum * 31u + v[i];
    sink(sum, a, p1);
    leave(stamp, trace);
}
BOUNDED_KERNEL(regs_hog_32, 1024, 2) { hold_registers<26>(stamp, trace, iterations, a, p0, p1); }
BOUNDED_KERNEL(regs_hog_64, 1024, 1) { hold_registers<57>(stamp, trace, iterations, a, p0, p1); }
BOUNDED_KERNEL(regs_hog_128, 512, 1) { hold_registers<122>(stamp, trace, iterations, a, p0, p1); }
BOUNDED_KERNEL(regs_hog_255, 256, 1) { hold_registers<249>(stamp, trace, iterations, a, p0, p1); }

// Shared-memory hog: its dynamic shared memory is held, not used. One turn = a sleep of p0 ns.
BOUNDED_KERNEL(smem_hog, 1024) {
    extern __shared__ u32 held[];
    enter(stamp, trace);
    if (threadIdx.x == 0 && bytes >= 4) held[0] = (u32)p0;
    TURNS(iterations) doze((u32)p0);
    leave(stamp, trace);
}
