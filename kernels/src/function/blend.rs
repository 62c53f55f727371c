//! A kernel that puts the lanes of several vectors together.

use super::lanes::Lanes;

/// Most vectors of one result.
pub(crate) const MAX_SOURCES: usize = 8;

/// Where some lanes come from.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    /// The first vector; the next follow it.
    pub data: *const f32,
    /// All ones in the lanes that are taken.
    pub mask: [u32; 16],
}

impl Source {
    pub(crate) const NOTHING: Source = Source { data: std::ptr::null(), mask: [0; 16] };
}

/// A row of vectors; lanes that nothing is taken into are zero.
pub(crate) struct BlendArgs {
    /// Where the lanes come from.
    pub sources: [Source; MAX_SOURCES],
    /// How many of them there are.
    pub used: usize,
    /// How many vectors.
    pub count: usize,
    /// Where they go.
    pub output: *mut f32,
}

/// A kernel that puts a row together.
///
/// # Safety
/// The processor has the instruction set; `output` and the sources that are used are valid for `count · 16` elements, `output` is
/// apart from them, and no other thread touches it.
pub(crate) type BlendFn = unsafe fn(&BlendArgs);

/// The lanes of all sources.
///
/// # Safety
/// As [`BlendFn`] says.
#[inline(always)]
pub(crate) unsafe fn blend<V: Lanes>(args: &BlendArgs) {
    // SAFETY: the caller keeps BlendFn's contract; a mask is as large as sixteen floats.
    unsafe {
        let sources = &args.sources[..args.used.min(MAX_SOURCES)];
        for i in 0..args.count {
            let mut value = V::splat(0.0);
            for source in sources {
                value = value.or(V::load(source.data.add(i * 16)).and(V::load(source.mask.as_ptr().cast())));
            }
            value.store(args.output.add(i * 16));
        }
    }
}
