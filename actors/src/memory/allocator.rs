//! Memory that was freed, and the operating system's account of it.

use std::sync::Once;

/// From this size on each allocation has pages of its own, which go back to the operating system when it is freed. Our
/// choice: below it are the tensors of a small model, which are computed too quickly to get zeroed pages each time; above it
/// most of a large one's. With glibc's own rule, which moves the limit up to 32 MiB, two videos of 68 frames at 192x192
/// took 0.27 GB more than with this.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_PAGES_BYTES: i32 = 16 << 20;

/// How much may stay free at the end of an arena for the allocations that come next. Our choice: two of the largest there.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_FREE_BYTES: i32 = 2 * OWN_PAGES_BYTES;

/// Has the allocator give large pieces back as soon as they are freed, for the whole process.
///
/// What one thread frees, another one's arena cannot use. So what is held for one stage would stay resident while the next
/// works, and no account of what is in use would tell what a limit of the operating system counts.
pub(super) fn give_back_large_pieces() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: each call writes an aligned word, under a lock of the allocator's. Other threads read it without one, as a hint
        // of which way to serve a piece: whichever value they see, it is a valid one. A refusal leaves things as they were.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_FREE_BYTES);
        }
    });
}

/// Gives pages that were freed back to the operating system.
///
/// Small pieces stay with the arena of the thread that allocated them. A stage's blocks are allocated by its loader's
/// thread, so what one stage gives up would stay resident while another stage allocates the same bytes anew.
pub(super) fn give_back_free_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time from any thread; it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
