//! Memory, kept from one training step for the next.
//!
//! A step asks for the same maps as the one before. glibc's allocator packs them closely, but as it comes it maps big blocks anew
//! each time and gives them back at once, and every page has to be zeroed again: it is told to keep them. Other systems
//! have mimalloc in `main.rs`, which keeps blocks unasked and loses a quarter more between them.

/// Keeps what the process frees for whoever asks next.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the allocator is C's")]
pub(crate) fn keep() {
    /// Bytes asked of the system at a time, beyond what is wanted.
    const PAD: libc::c_int = 64 << 20;
    // SAFETY: `mallopt` may be called at any time, and takes any number.
    unsafe {
        // No block is mapped for itself alone.
        libc::mallopt(libc::M_MMAP_MAX, 0);
        // The heap never shrinks.
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_TOP_PAD, PAD);
    }
}

/// Mimalloc keeps it by itself.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep() {}
