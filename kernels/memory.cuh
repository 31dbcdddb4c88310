// Copies, reads and writes of global memory.
//
// One turn = one pass of the whole grid over the working set (of each block over its own region where regions
// are private). p0 = pattern | stride << 8, with the pattern one of:
//   0  interleaved: the grid strides over the array, UNROLL * blockDim elements per block and step;
//   1  chunked: each block has one contiguous share of the array;
//   2  private: block i copies `bytes` at offset i * stride of each buffer (paper, section 4.2.1).
#pragma once
#include "abi.cuh"

template <int E> struct Element;
template <> struct Element<4> {
    u32 x;
    template <bool CG> __device__ __forceinline__ void load(const char* p) {
        if (CG) asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(x) : "l"(p));
        else asm volatile("ld.global.u32 %0, [%1];" : "=r"(x) : "l"(p));
    }
    __device__ __forceinline__ void store(char* p) const {
        asm volatile("st.global.u32 [%0], %1;" : : "l"(p), "r"(x) : "memory");
    }
    __device__ __forceinline__ u32 fold() const { return x; }
};
template <> struct Element<8> {
    u32 x, y;
    template <bool CG> __device__ __forceinline__ void load(const char* p) {
        if (CG) asm volatile("ld.global.cg.v2.u32 {%0, %1}, [%2];" : "=r"(x), "=r"(y) : "l"(p));
        else asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(x), "=r"(y) : "l"(p));
    }
    __device__ __forceinline__ void store(char* p) const {
        asm volatile("st.global.v2.u32 [%0], {%1, %2};" : : "l"(p), "r"(x), "r"(y) : "memory");
    }
    __device__ __forceinline__ u32 fold() const { return x ^ y; }
};
template <> struct Element<16> {
    u32 x, y, z, w;
    template <bool CG> __device__ __forceinline__ void load(const char* p) {
        if (CG)
            asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(x), "=r"(y), "=r"(z), "=r"(w) : "l"(p));
        else
            asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(x), "=r"(y), "=r"(z), "=r"(w) : "l"(p));
    }
    __device__ __forceinline__ void store(char* p) const {
        asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                     : : "l"(p), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
    }
    __device__ __forceinline__ u32 fold() const { return x ^ y ^ z ^ w; }
};

// Where a thread starts, ends and how far it steps, in bytes from the start of a buffer.
struct Span {
    u64 first, end, step;
};

template <int E, int U> __device__ __forceinline__ Span span(u64 bytes, u64 p0) {
    u64 pattern = p0 & 0xff, stride = p0 >> 8;
    u64 lane = (u64)threadIdx.x * E, tile = (u64)blockDim.x * E * U;
    Span s;
    if (pattern == 2) {
        u64 base = blockIdx.x * stride;
        s.first = base + lane, s.end = base + bytes, s.step = tile;
    } else if (pattern == 1) {
        u64 tiles = (bytes + tile - 1) / tile, share = (tiles + gridDim.x - 1) / gridDim.x * tile;
        u64 base = blockIdx.x * share;
        s.first = base + lane, s.end = base + share < bytes ? base + share : bytes, s.step = tile;
    } else {
        s.first = blockIdx.x * tile + lane, s.end = bytes, s.step = gridDim.x * tile;
    }
    return s;
}

template <int E, int U, bool CG>
__device__ __forceinline__ void copy_body(Stamp* stamp, u64* trace, u64 iterations, const char* a, char* b,
                                          u64 bytes, u64 p0) {
    enter(stamp, trace);
    Span s = span<E, U>(bytes, p0);
    u64 row = (u64)blockDim.x * E;
    TURNS(iterations) {
        u64 i = s.first;
#pragma unroll 1
        for (; i + (U - 1) * row < s.end; i += s.step) {
            Element<E> v[U];
#pragma unroll
            for (int k = 0; k < U; ++k) v[k].template load<CG>(a + i + k * row);
#pragma unroll
            for (int k = 0; k < U; ++k) v[k].store(b + i + k * row);
        }
        if (U > 1) {
#pragma unroll 1
            for (int k = 0; k < U; ++k, i += row) {
                if (i >= s.end) break;
                Element<E> v;
                v.template load<CG>(a + i);
                v.store(b + i);
            }
        }
    }
    leave(stamp, trace);
}

template <int E, int U, bool CG>
__device__ __forceinline__ void read_body(Stamp* stamp, u64* trace, u64 iterations, char* a, u64 bytes, u64 p0,
                                          u64 p1) {
    enter(stamp, trace);
    Span s = span<E, U>(bytes, p0);
    u64 row = (u64)blockDim.x * E;
    u32 sum = 0;
    TURNS(iterations) {
        u64 i = s.first;
#pragma unroll 1
        for (; i + (U - 1) * row < s.end; i += s.step) {
            Element<E> v[U];
#pragma unroll
            for (int k = 0; k < U; ++k) v[k].template load<CG>(a + i + k * row);
#pragma unroll
            for (int k = 0; k < U; ++k) sum ^= v[k].fold();
        }
        if (U > 1) {
#pragma unroll 1
            for (int k = 0; k < U; ++k, i += row) {
                if (i >= s.end) break;
                Element<E> v;
                v.template load<CG>(a + i);
                sum ^= v.fold();
            }
        }
    }
    sink(sum, a, p1);
    leave(stamp, trace);
}

template <int E, int U>
__device__ __forceinline__ void write_body(Stamp* stamp, u64* trace, u64 iterations, char* b, u64 bytes, u64 p0) {
    enter(stamp, trace);
    Span s = span<E, U>(bytes, p0);
    u64 row = (u64)blockDim.x * E;
    Element<E> v = {threadIdx.x};
    TURNS(iterations) {
        u64 i = s.first;
#pragma unroll 1
        for (; i + (U - 1) * row < s.end; i += s.step) {
#pragma unroll
            for (int k = 0; k < U; ++k) v.store(b + i + k * row);
        }
        if (U > 1) {
#pragma unroll 1
            for (int k = 0; k < U; ++k, i += row) {
                if (i >= s.end) break;
                v.store(b + i);
            }
        }
    }
    leave(stamp, trace);
}

#define COPY(E, U)                                                                                        \
    BOUNDED_KERNEL(copy_e##E##_u##U##_ca, 1024, 1) {                                                      \
        copy_body<E, U, false>(stamp, trace, iterations, (const char*)a, (char*)b, bytes, p0);            \
    }                                                                                                     \
    BOUNDED_KERNEL(copy_e##E##_u##U##_cg, 1024, 1) {                                                      \
        copy_body<E, U, true>(stamp, trace, iterations, (const char*)a, (char*)b, bytes, p0);             \
    }
#define READ(E, U)                                                                                        \
    BOUNDED_KERNEL(read_e##E##_u##U##_ca, 1024, 1) {                                                      \
        read_body<E, U, false>(stamp, trace, iterations, (char*)a, bytes, p0, p1);                        \
    }                                                                                                     \
    BOUNDED_KERNEL(read_e##E##_u##U##_cg, 1024, 1) {                                                      \
        read_body<E, U, true>(stamp, trace, iterations, (char*)a, bytes, p0, p1);                         \
    }
#define WRITE(E, U)                                                                                       \
    BOUNDED_KERNEL(write_e##E##_u##U, 1024, 1) {                                                             \
        write_body<E, U>(stamp, trace, iterations, (char*)b, bytes, p0);                                  \
    }
#define EACH_UNROLL(M, E) M(E, 1) M(E, 2) M(E, 4) M(E, 8)

EACH_UNROLL(COPY, 4)
EACH_UNROLL(COPY, 8)
EACH_UNROLL(COPY, 16)
EACH_UNROLL(READ, 16)
EACH_UNROLL(WRITE, 16)

// The copy of the paper (section 3): plain, a grid-stride loop over elements with a 64-bit index, one element of
// each thread in flight (the two arrays might overlap, so that no load may pass the store before it).
template <typename T>
__device__ __forceinline__ void paper_body(Stamp* stamp, u64* trace, u64 iterations, const T* a, T* b, u64 bytes) {
    enter(stamp, trace);
    u64 count = bytes / sizeof(T);
    u64 first = threadIdx.x + (u64)blockDim.x * blockIdx.x;
    u64 step = (u64)gridDim.x * blockDim.x;
    TURNS(iterations) {
        for (u64 i = first; i < count; i += step) b[i] = a[i];
    }
    leave(stamp, trace);
}
BOUNDED_KERNEL(copy_paper_e4, 1024) {
    paper_body(stamp, trace, iterations, (const u32*)a, (u32*)b, bytes);
}
BOUNDED_KERNEL(copy_paper_e8, 1024) {
    paper_body(stamp, trace, iterations, (const uint2*)a, (uint2*)b, bytes);
}
BOUNDED_KERNEL(copy_paper_e16, 1024) {
    paper_body(stamp, trace, iterations, (const uint4*)a, (uint4*)b, bytes);
}

// Chain of dependent loads: slot s (of 2^k, p0 bytes apart) holds the address of the next one. The order is a
// full-period linear congruence (Hull and Dobell: multiplier 1 mod 4, odd increment), so that neighbours in time
// are seldom neighbours in memory. A launcher runs NAME_init once before NAME; it ignores `iterations`.
__device__ __forceinline__ void chase_prepare(Stamp* stamp, u64* trace, void* a, u64 bytes, u64 p0) {
    enter(stamp, trace);
    u64 slots = bytes / p0, mask = slots - 1;
    for (u64 s = (u64)blockIdx.x * blockDim.x + threadIdx.x; s < slots; s += (u64)gridDim.x * blockDim.x)
        *(u64*)((char*)a + s * p0) = (u64)a + ((s * 1664525u + 1013904223u) & mask) * p0;
    leave(stamp, trace);
}
KERNEL(chase_ca_init) { chase_prepare(stamp, trace, a, bytes, p0); }
KERNEL(chase_cg_init) { chase_prepare(stamp, trace, a, bytes, p0); }

// One turn = 16 dependent loads by one thread of each block; blocks start at evenly spaced slots.
template <bool CG>
__device__ __forceinline__ void chase_body(Stamp* stamp, u64* trace, u64 iterations, char* a, u64 bytes, u64 p0,
                                           u64 p1) {
    enter(stamp, trace);
    if (threadIdx.x == 0) {
        u64 at = (u64)a + bytes / p0 * blockIdx.x / gridDim.x * p0;
        TURNS(iterations) {
#pragma unroll
            for (int k = 0; k < 16; ++k) {
                if (CG) asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(at) : "l"(at));
                else asm volatile("ld.global.u64 %0, [%1];" : "=l"(at) : "l"(at));
            }
        }
        sink((u32)at, a, p1);
    }
    leave(stamp, trace);
}
KERNEL(chase_ca) { chase_body<false>(stamp, trace, iterations, (char*)a, bytes, p0, p1); }
KERNEL(chase_cg) { chase_body<true>(stamp, trace, iterations, (char*)a, bytes, p0, p1); }

// One turn = 16 atomic additions per thread without a returned value. p0 = counters (a power of two)
// | bytes between neighbouring counters << 32. Thread t of the grid starts at counter t and walks.
BOUNDED_KERNEL(atomics, 1024) {
    enter(stamp, trace);
    u32 mask = (u32)p0 - 1, apart = (u32)(p0 >> 32);
    u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    TURNS(iterations) {
#pragma unroll
        for (int k = 0; k < 16; ++k) {
            u32* counter = (u32*)((char*)a + (u64)(at & mask) * apart);
            asm volatile("red.global.add.u32 [%0], 1;" : : "l"(counter) : "memory");
            at += 32;
        }
    }
    leave(stamp, trace);
}
