//! Memory for the tables: zeroed, committed at start, on large pages where there are any.
//!
//! Why not a `Vec`: a table of a million connections spans tens of thousands of 4 KiB pages, and a lookup that misses
//! the cache then misses the TLB as well. `cargo bench -p dataplane` shows the difference.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Types for which all-zero bytes are a value and which need no drop.
///
/// # Safety
///
/// The implementer vouches for exactly that.
pub(super) unsafe trait Zeroed: Copy {}

// SAFETY: zero is a u32.
unsafe impl Zeroed for u32 {}

/// Size of a large page in bytes, on the machines DPDK runs on.
const LARGE_PAGE: usize = 2 << 20;

/// A slice of a fixed length that never moves and is never reallocated.
pub(super) struct Region<T: Zeroed> {
    start: NonNull<T>,
    len: usize,
    bytes: usize,
}

// SAFETY: a Region owns its memory alone, like a Box<[T]>.
unsafe impl<T: Zeroed + Send> Send for Region<T> {}
// SAFETY: shared references give shared access only, like a Box<[T]>.
unsafe impl<T: Zeroed + Sync> Sync for Region<T> {}

impl<T: Zeroed> Region<T> {
    /// A region of `len` zeroed elements. Reserved large pages are used if `large_pages` and enough are free,
    /// transparent ones otherwise.
    pub(super) fn new(len: usize, large_pages: bool) -> std::io::Result<Self> {
        let size = len
            .max(1)
            .checked_mul(size_of::<T>())
            .and_then(|bytes| {
                bytes.checked_next_multiple_of(if bytes < LARGE_PAGE { 4096 } else { LARGE_PAGE })
            })
            .ok_or(std::io::ErrorKind::OutOfMemory)?;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        if large_pages
            && size >= LARGE_PAGE
            && let Ok(start) = map(size, anonymous | libc::MAP_HUGETLB)
        {
            return Ok(Self { start: start.cast(), len, bytes: size });
        }
        let start = map(size, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)?;
        let region = Self { start: start.cast(), len, bytes: size };
        // Both are advice: without them the region works, slower.
        // SAFETY: the range was just mapped and is owned by `region`.
        unsafe {
            libc::madvise(start.as_ptr().cast(), size, libc::MADV_HUGEPAGE);
            libc::madvise(start.as_ptr().cast(), size, libc::MADV_POPULATE_WRITE);
        }
        Ok(region)
    }

    /// Asks the CPU to load the cache line of element `index`; out of range, it does nothing useful but no harm.
    #[inline(always)]
    pub(super) fn prefetch(&self, index: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch faults on no address; `wrapping_add` makes none that is dereferenced.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.start.as_ptr().wrapping_add(index).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = index;
    }

    /// As [`Region::prefetch`], the cache line in the middle of the element.
    #[inline(always)]
    pub(super) fn prefetch_half(&self, index: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `prefetch`.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let element = self.start.as_ptr().wrapping_add(index).cast::<i8>();
            _mm_prefetch::<_MM_HINT_T0>(element.wrapping_add(size_of::<T>() / 2));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = index;
    }

    /// Bytes committed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// An anonymous mapping: page-aligned (at least 4 KiB), zeroed by the kernel.
fn map(bytes: usize, flags: i32) -> std::io::Result<NonNull<u8>> {
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| std::io::ErrorKind::OutOfMemory.into())
}

impl<T: Zeroed> Deref for Region<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements were mapped and zeroed, which is a value of T (trait Zeroed); the mapping is
        // page-aligned, more than any T here asks for, and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroed> DerefMut for Region<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroed> Drop for Region<T> {
    fn drop(&mut self) {
        // SAFETY: exactly the range mapped in `new`; nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

impl<T: Zeroed> std::fmt::Debug for Region<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({} elements, {} bytes)", self.len, self.bytes)
    }
}
