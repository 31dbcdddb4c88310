// Arithmetic: ILP independent chains per thread, BODY operations of all chains together in one turn.
//
// One turn = ILP * (BODY / ILP) warp instructions of the named pipe, and the loop's own. The paper's compute
// kernel (section 4.2.2) is fp32_mul with a body of 48: its IPC for ILP 1..4 and one warp per scheduler, 1.08,
// 2.06, 2.9, 3.45, is near what 48 multiplications, three loop instructions and 9 cycles at the branch give
// (measured on an H100: 1.03, 1.92, 2.76, 3.40). A body of 256 is for ceilings.
#pragma once
#include "abi.cuh"

struct Fp32Mul {
    typedef float T;
    static __device__ __forceinline__ void step(T& x, T c, T) {
        asm volatile("mul.rn.f32 %0, %0, %1;" : "+f"(x) : "f"(c));
    }
};
struct Fp32Fma {
    typedef float T;
    static __device__ __forceinline__ void step(T& x, T c, T d) {
        asm volatile("fma.rn.f32 %0, %0, %1, %2;" : "+f"(x) : "f"(c), "f"(d));
    }
};
struct Fp64Mul {
    typedef double T;
    static __device__ __forceinline__ void step(T& x, T c, T) {
        asm volatile("mul.rn.f64 %0, %0, %1;" : "+d"(x) : "d"(c));
    }
};
// The addend, 2^-20, is an immediate: with three distinct 64-bit registers per instruction the FP64 pipe of an H100
// stays at 92 %, however many warps and chains there are; a multiplication reads two.
struct Fp64Fma {
    typedef double T;
    static __device__ __forceinline__ void step(T& x, T c, T) {
        asm volatile("fma.rn.f64 %0, %0, %1, 0d3EB0000000000000;" : "+d"(x) : "d"(c));
    }
};
struct Sfu {
    typedef float T;
    static __device__ __forceinline__ void step(T& x, T, T) {
        asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x));
    }
};
struct Fp16x2 {
    typedef u32 T;
    static __device__ __forceinline__ void step(T& x, T c, T d) {
        asm volatile("fma.rn.f16x2 %0, %0, %1, %2;" : "+r"(x) : "r"(c), "r"(d));
    }
};

template <typename T> __device__ __forceinline__ u32 bits(T x);
template <> __device__ __forceinline__ u32 bits(float x) { return __float_as_uint(x); }
template <> __device__ __forceinline__ u32 bits(double x) { return __double2loint(x) ^ __double2hiint(x); }
template <> __device__ __forceinline__ u32 bits(u32 x) { return x; }

// Operands near one, unknown to the compiler.
template <typename T> __device__ __forceinline__ T operand(u64 p0, u32 i) {
    return (T)1 + (T)(u32)(p0 + i) * (T)1e-7;
}
template <> __device__ __forceinline__ u32 operand(u64 p0, u32 i) { return 0x3c003c00u + (u32)p0 + i; }

template <typename Op, int ILP, int BODY>
__device__ __forceinline__ void chains(Stamp* stamp, u64* trace, u64 iterations, void* a, u64 p0, u64 p1) {
    typedef typename Op::T T;
    enter(stamp, trace);
    T x[ILP];
#pragma unroll
    for (int i = 0; i < ILP; ++i) x[i] = operand<T>(p0, threadIdx.x + i);
    T c = operand<T>(p0, 1), d = operand<T>(p0, 2);
    TURNS(iterations) {
#pragma unroll
        for (int s = 0; s < BODY / ILP; ++s) {
#pragma unroll
            for (int i = 0; i < ILP; ++i) Op::step(x[i], c, d);
        }
    }
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < ILP; ++i) sum ^= bits<T>(x[i]);
    sink(sum, a, p1);
    leave(stamp, trace);
}

#define CHAINS(NAME, OP, ILP, BODY)                                                                       \
    BOUNDED_KERNEL(NAME##_ilp##ILP##_body##BODY, 1024) {                                                  \
        chains<OP, ILP, BODY>(stamp, trace, iterations, a, p0, p1);                                       \
    }
#define CHAINS8(NAME, OP, BODY)                                                                           \
    CHAINS(NAME, OP, 1, BODY)                                                                             \
    CHAINS(NAME, OP, 2, BODY)                                                                             \
    CHAINS(NAME, OP, 3, BODY)                                                                             \
    CHAINS(NAME, OP, 4, BODY)                                                                             \
    CHAINS(NAME, OP, 5, BODY)                                                                             \
    CHAINS(NAME, OP, 6, BODY)                                                                             \
    CHAINS(NAME, OP, 7, BODY)                                                                             \
    CHAINS(NAME, OP, 8, BODY)

CHAINS8(fp32_mul, Fp32Mul, 48)
CHAINS8(fp32_mul, Fp32Mul, 256)
CHAINS8(fp32_fma, Fp32Fma, 48)
CHAINS8(fp32_fma, Fp32Fma, 256)
CHAINS8(fp64_mul, Fp64Mul, 128)
CHAINS8(fp64_fma, Fp64Fma, 128)
CHAINS8(fp16x2, Fp16x2, 128)
CHAINS8(sfu, Sfu, 64)

// int32: each step is an exclusive or and a maximum, which nothing can fold into one. Additions are not used:
// compilers move them to the FMA pipe (IMAD) when that balances the pipes. One turn = 2 * ILP * (64 / ILP)
// ALU instructions.
struct Int32 {
    typedef u32 T;
    static __device__ __forceinline__ void step(T& x, T c, T d) {
        asm volatile("xor.b32 %0, %0, %1;\n\tmax.u32 %0, %0, %2;" : "+r"(x) : "r"(c), "r"(d));
    }
};
CHAINS8(int32, Int32, 64)

// Issue slots without a full pipe: see docs/kernels.md. One turn = 256 warp barriers, which the assembler turns
// into NOPs where the warp is converged, so they take issue slots and nothing else.
BOUNDED_KERNEL(issue_hog, 1024) {
    enter(stamp, trace);
    TURNS(iterations) {
#pragma unroll
        for (int k = 0; k < 256; ++k) asm volatile("bar.warp.sync 0xffffffff;");
    }
    leave(stamp, trace);
}
