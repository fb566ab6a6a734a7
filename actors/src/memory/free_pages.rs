//! Memory that was freed, and the operating system's account of it.

/// Gives pages that were freed back to the operating system.
///
/// An allocator keeps what was freed for the next allocation of the same thread. A stage's blocks are allocated by its
/// loader's thread, so what one stage gives up would stay resident while another stage allocates the same bytes anew.
pub(super) fn give_back_free_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time from any thread; it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
