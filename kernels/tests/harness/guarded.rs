//! A buffer of f32 that ends exactly at an inaccessible page: a stray access behind it ends the test. What lies between the page
//! before it and its start is all NaN, so that a stray read shows in the results, and is checked for stray writes at the end.

#[cfg(unix)]
pub struct Guarded {
    map: *mut libc::c_void,
    map_len: usize,
    data: *mut f32,
    len: usize,
    /// Bytes between the page before the data and the data.
    before: usize,
}

#[cfg(unix)]
impl Guarded {
    /// `len` elements of one value.
    pub fn filled(len: usize, value: f32) -> Guarded {
        // SAFETY: sysconf has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = len * size_of::<f32>();
        let inner = bytes.next_multiple_of(page).max(page);
        let map_len = inner + 2 * page;
        // SAFETY: an anonymous private mapping of a non-zero length at an address of the system's choice.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), map_len, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        assert_ne!(map, libc::MAP_FAILED);
        // SAFETY: the inner pages are part of the mapping just made.
        assert_eq!(unsafe { libc::mprotect(map.byte_add(page), inner, libc::PROT_READ | libc::PROT_WRITE) }, 0);
        // SAFETY: the inner pages are writable now and nobody else knows of them. All ones are NaN.
        unsafe { std::ptr::write_bytes(map.byte_add(page).cast::<u8>(), 0xff, inner) };
        // SAFETY: the data ends where the inner pages end and is no longer than they are.
        let data = unsafe { map.byte_add(page + inner - bytes) }.cast::<f32>();
        let mut guarded = Guarded { map, map_len, data, len, before: inner - bytes };
        guarded.fill(value);
        guarded
    }

    /// A copy of a slice.
    pub fn of(values: &[f32]) -> Guarded {
        let mut guarded = Guarded::filled(values.len(), 0.0);
        guarded.copy_from_slice(values);
        guarded
    }
}

#[cfg(unix)]
impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: `filled` initialised these bytes, which lie before the data in the same mapping.
        let before = unsafe { std::slice::from_raw_parts(self.data.byte_sub(self.before).cast::<u8>(), self.before) };
        assert!(std::thread::panicking() || before.iter().all(|b| *b == 0xff), "something was written before a buffer");
        // SAFETY: unmaps what `filled` mapped; no reference outlives self.
        unsafe { libc::munmap(self.map, self.map_len) };
    }
}

#[cfg(unix)]
impl std::ops::Deref for Guarded {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `filled` made `len` initialised elements there, which live as long as self.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

#[cfg(unix)]
impl std::ops::DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and self is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

/// Without guard pages where there is no mmap.
#[cfg(not(unix))]
pub struct Guarded(Vec<f32>);

#[cfg(not(unix))]
impl Guarded {
    /// `len` elements of one value.
    pub fn filled(len: usize, value: f32) -> Guarded {
        Guarded(vec![value; len])
    }

    /// A copy of a slice.
    pub fn of(values: &[f32]) -> Guarded {
        Guarded(values.to_vec())
    }
}

#[cfg(not(unix))]
impl std::ops::Deref for Guarded {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

#[cfg(not(unix))]
impl std::ops::DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
