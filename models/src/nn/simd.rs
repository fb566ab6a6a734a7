//! Which vector instructions the processor has, found out while the program runs.

/// A set of vector instructions that some primitive has a version for. Take one from [`SimdLevel::best`] or
/// [`SimdLevel::available`]: code for a level that the processor lacks would be undefined behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SimdLevel {
    /// 16 lanes, on x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 lanes with fused multiplication and addition, on x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler makes of plain loops: NEON on 64-bit ARM, SSE2 on x86-64.
    Portable,
}

impl SimdLevel {
    /// The widest that this processor has.
    pub(crate) fn best() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// All that this processor has, the widest first.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        let levels = [
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512, has_avx512()),
            #[cfg(target_arch = "x86_64")]
            (
                Self::Avx2,
                std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma"),
            ),
            (Self::Portable, true),
        ];
        levels.into_iter().filter(|(_, has)| *has).map(|(level, _)| level)
    }
}

/// What every processor with AVX-512 has had since 2017.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512vl")
        && std::is_x86_feature_detected!("avx512dq")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
}

/// Runs `work` in a copy that the compiler makes for the widest vectors of this processor. Every copy does the same
/// operations in the same order, so the result has the same bits.
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    match SimdLevel::best() {
        // SAFETY: the processor has what the level stands for.
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 => unsafe { with_avx512(work) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 => unsafe { with_avx2(work) },
        SimdLevel::Portable => work(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn with_avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
