//! What kind of work a kernel does, guessed from its name.
//!
//! Names are those of PyTorch (ATen), cuBLAS (`nvjet`, `gemm`), CUTLASS, cuDNN and FlashAttention. A name that is
//! not known is [`Class::Other`], which claims nothing of the machine but its time and its place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Matrix product.
    Gemm,
    /// Attention in one kernel.
    Attention,
    /// One output for one input position.
    Elementwise,
    /// Sums, norms, softmax, scans.
    Reduction,
    /// Moving without computing: copies, concatenation, gather.
    Copy,
    /// None of these.
    Other,
}

/// Parts of names, in the order in which they are looked for.
const PARTS: [(Class, &[&str]); 5] = [
    (Class::Attention, &["flash", "sdpa", "fmha", "attention"]),
    (Class::Gemm, &["gemm", "nvjet", "gemv", "xmma", "cublas", "splitk", "wgrad", "matmul"]),
    (Class::Copy, &["copy", "catarray", "gather", "scatter", "index", "transpose", "fill", "arange"]),
    (Class::Reduction, &["reduce", "norm", "softmax", "scan", "mean", "argmax", "cunn_"]),
    (Class::Elementwise, &["elementwise", "pointwise", "triton_poi"]),
];

/// Class of the kernel of that (mangled) name.
pub fn class_of(name: &str) -> Class {
    let name = name.to_ascii_lowercase();
    PARTS.iter().find(|p| p.1.iter().any(|s| name.contains(s))).map_or(Class::Other, |p| p.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_seen_on_the_h100() {
        for (name, class) in [
            ("nvjet_sm90_hsh_176x128_64x5_1x2_h_bz_TNN", Class::Gemm),
            ("_ZN7cutlass7Kernel2I55cutlass_75_tensorop_f16_s1688gemm_f16_128x128_tn_align1EEv", Class::Gemm),
            (
                "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128",
                Class::Attention,
            ),
            ("_ZN13pytorch_flash16flash_fwd_kernelI23Flash_fwd_kernel_traits", Class::Attention),
            ("_ZN2at6native18elementwise_kernelILi128ELi4EZNS0_22gpu_kernel_impl_nocast", Class::Elementwise),
            ("_ZN2at6native13reduce_kernelILi512ELi1ENS0_8ReduceOpIfNS0_7MeanOps", Class::Reduction),
            ("_ZN2at6native12_GLOBAL__N_28vectorized_layer_norm_kernel", Class::Reduction),
            ("_ZN2at6native40_GLOBAL__N__Shape_cu_49f7391c19CatArrayBatchedCopy", Class::Copy),
            ("_ZN2at6native27unrolled_elementwise_kernelIZZZNS0_23direct_copy_kernel_cuda", Class::Copy),
            ("_ZN4mine6secretEv", Class::Other),
        ] {
            assert_eq!(class_of(name), class, "{name}");
        }
    }
}
