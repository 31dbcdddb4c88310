// Tensor core of Hopper by the warpgroup product (wgmma): m64n256k16, bf16 inputs, fp32 sums, both operands from
// shared memory. Needs sm_90a.
#include "abi.cuh"

// Shared-memory matrix descriptor (PTX ISA, "matrix descriptor"): rows of 64 bf16 (128 bytes), 128-byte swizzle,
// 1,024 bytes from one group of eight rows to the next.
__device__ __forceinline__ u64 descriptor(u32 address) {
    return (u64)(address >> 4 & 0x3fff) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

// d += A (64 x 16) * B (16 x 256), issued by the four warps of one warpgroup. 128 sums per thread.
__device__ __forceinline__ void product(float (&d)[128], u64 a, u64 b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, 1, 1, 1, 0, 0;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
          "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),
          "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]),
          "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),
          "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]),
          "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]),
          "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]),
          "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]),
          "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]),
          "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
        : "l"(a), "l"(b));
}

constexpr u32 A_BYTES = 64 * 64 * 2, B_BYTES = 256 * 64 * 2;

// A bf16 in [-1, 1) from a position: random bits switch the multipliers' inputs as real data does, which costs
// power and so clocks; a constant one does not.
__device__ __forceinline__ u32 element(u32 i, bool random) {
    if (!random) return 0x3f80u;
    u32 h = i * 2654435761u;
    h ^= h >> 15, h *= 2246822519u, h ^= h >> 13;
    return __float_as_uint((float)(int)h * 4.656612873e-10f) >> 16;
}

// One turn = 32 products per warpgroup, then a wait for all of them (a drain of some 60 cycles in 4,096).
// Blocks of 128 or 256 threads: each warpgroup has its own A (64 x 64), all share B (64 x 256). Dynamic shared
// memory: 1,024 bytes (alignment) + 32 KiB + 8 KiB per warpgroup. p0: 0 all ones, 1 random data.
BOUNDED_KERNEL(tensor_wgmma, 256, 1) {
    extern __shared__ char raw[];
    enter(stamp, trace);
    u32 base = ((u32)__cvta_generic_to_shared(raw) + 1023) & ~1023u;
    u32 groups = blockDim.x / 128, group = threadIdx.x / 128;
    for (u32 i = threadIdx.x; i < (B_BYTES + groups * A_BYTES) / 4; i += blockDim.x) {
        u32 pair = element(2 * i, p0 != 0) | element(2 * i + 1, p0 != 0) << 16;
        asm volatile("st.shared.u32 [%0], %1;" : : "r"(base + 4 * i), "r"(pair) : "memory");
    }
    // The tensor core reads through the async proxy: make the stores above visible to it, then to all threads.
    asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
    __syncthreads();
    u64 da = descriptor(base + B_BYTES + group * A_BYTES), db = descriptor(base);
    float d[128];
#pragma unroll
    for (int i = 0; i < 128; ++i) d[i] = 0.0f;
    TURNS(iterations) {
        asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
        // Four steps of k = 16 (32 bytes) through the 64 columns of A and B, eight times.
#pragma unroll
        for (int k = 0; k < 32; ++k) product(d, da + 2 * (k % 4), db + 2 * (k % 4));
        asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" : : : "memory");
    }
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < 128; ++i) sum ^= __float_as_uint(d[i]);
    sink(sum, a, p1);
    leave(stamp, trace);
}
