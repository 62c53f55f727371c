//! Where each element of an activation buffer lies: layout, halo and pitches.

use crate::Error;

/// Channels in a block of [`Layout::Nchw16c`], on every instruction set.
pub const BLOCK: usize = 16;

/// How the channels of a buffer are stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layout {
    /// `[n][c][h][w]`: one plane a channel. What the user sees, and what a stem convolution reads.
    Nchw,
    /// `[n][c/16][h][w][16]`: one plane for 16 channels, those of a pixel side by side. C is padded to 16 with zeros.
    Nchw16c,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 2] = [Layout::Nchw, Layout::Nchw16c];

    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Nchw => "nchw",
            Layout::Nchw16c => "nchw16c",
        }
    }

    /// Channels side by side in memory.
    pub fn lanes(self) -> usize {
        match self {
            Layout::Nchw => 1,
            Layout::Nchw16c => BLOCK,
        }
    }
}

/// A border of zeros around each plane, in pixels: the padding that the buffer's readers need.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Halo {
    /// Rows above.
    pub top: usize,
    /// Columns on the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns on the right.
    pub right: usize,
}

impl Halo {
    /// No border.
    pub const NONE: Halo = Halo { top: 0, left: 0, bottom: 0, right: 0 };

    /// The smallest halo that holds both.
    pub fn union(self, other: Halo) -> Halo {
        Halo {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.max(other.bottom),
            right: self.right.max(other.right),
        }
    }
}

/// The dimensions, layout and pitches of one activation buffer. Pitches and offsets are in elements.
///
/// Nothing changes it after [`Geometry::new`]: kernels trust its sums and products without checking them again.
///
/// ```compile_fail,E0616
/// use stridewise_kernels::{Geometry, Halo, Layout};
/// let mut geometry = Geometry::new(Layout::Nchw, [1, 3, 8, 8], Halo::NONE)?;
/// geometry.h = 1_000_000;
/// # Ok::<(), stridewise_kernels::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    pub(crate) layout: Layout,
    pub(crate) n: usize,
    pub(crate) c: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) halo: Halo,
    row: usize,
    plane: usize,
    image: usize,
}

impl Geometry {
    /// Lays out a buffer. Planes whose size is a multiple of 4 KiB get one cache line more, so that those of neighbouring
    /// channel blocks do not fall into the same cache sets.
    ///
    /// # Errors
    /// When a dimension is zero or the buffer would not fit the address space.
    pub fn new(layout: Layout, [n, c, h, w]: [usize; 4], halo: Halo) -> Result<Geometry, Error> {
        let refuse = |reason: &str| Error::Problem { problem: format!("n{n}c{c}h{h}w{w} with {halo:?}"), reason: reason.into() };
        if n == 0 || c == 0 || h == 0 || w == 0 {
            return Err(refuse("a dimension is zero"));
        }
        let lanes = layout.lanes();
        let size = || {
            let rows = h.checked_add(halo.top)?.checked_add(halo.bottom)?;
            let columns = w.checked_add(halo.left)?.checked_add(halo.right)?;
            let row = columns.checked_mul(lanes)?;
            let exact = row.checked_mul(rows)?;
            let plane = if layout == Layout::Nchw16c && exact % 1024 == 0 { exact.checked_add(BLOCK)? } else { exact };
            let image = plane.checked_mul(c.div_ceil(lanes))?;
            let bytes = image.checked_mul(n)?.checked_mul(size_of::<f32>())?;
            (bytes <= isize::MAX as usize).then_some((row, plane, image))
        };
        let (row, plane, image) = size().ok_or_else(|| refuse("the buffer does not fit the address space"))?;
        Ok(Geometry { layout, n, c, h, w, halo, row, plane, image })
    }

    /// How channels are stored.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Images, channels that carry data, rows and columns without the halo.
    pub fn dims(&self) -> [usize; 4] {
        [self.n, self.c, self.h, self.w]
    }

    /// Images.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Channels that carry data.
    pub fn c(&self) -> usize {
        self.c
    }

    /// Rows without the halo.
    pub fn h(&self) -> usize {
        self.h
    }

    /// Columns without the halo.
    pub fn w(&self) -> usize {
        self.w
    }

    /// The border of zeros.
    pub fn halo(&self) -> Halo {
        self.halo
    }

    /// Elements of the whole buffer.
    pub fn len(&self) -> usize {
        self.image * self.n
    }

    /// Never true: no dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Planes of one image: `c / 16` rounded up in NCHW16c, `c` in NCHW.
    pub fn planes(&self) -> usize {
        self.c.div_ceil(self.layout.lanes())
    }

    /// Elements from a row to the next.
    pub fn row_stride(&self) -> usize {
        self.row
    }

    /// Elements from a plane to the next.
    pub fn plane_stride(&self) -> usize {
        self.plane
    }

    /// Elements from an image to the next.
    pub fn image_stride(&self) -> usize {
        self.image
    }

    /// Offset of the first lane of a pixel of a plane. `y` and `x` count from the first pixel behind the halo.
    #[inline]
    pub fn offset(&self, n: usize, plane: usize, y: usize, x: usize) -> usize {
        n * self.image + plane * self.plane + (y + self.halo.top) * self.row + (x + self.halo.left) * self.layout.lanes()
    }

    /// Checks that a slice is this buffer.
    pub(crate) fn check(&self, what: &'static str, found: usize) -> Result<(), Error> {
        if found == self.len() { Ok(()) } else { Err(Error::Length { what, expected: self.len(), found }) }
    }

    /// Zeroes the halo of plane `plane` of image `n`. What pads a plane to its pitch stays as it is: nothing reads it.
    ///
    /// # Safety
    /// `data` points at a buffer of this geometry ([`Geometry::len`] elements), and nobody else touches that plane's halo meanwhile.
    pub(crate) unsafe fn clear_halo(&self, data: *mut f32, n: usize, plane: usize) {
        if self.halo == Halo::NONE {
            return;
        }
        let lanes = self.layout.lanes();
        let start = n * self.image + plane * self.plane;
        let zero = |offset: usize, count: usize| {
            // SAFETY: every range below lies inside the plane, which the caller says is inside the buffer and ours.
            unsafe { std::ptr::write_bytes(data.add(start + offset), 0, count) };
        };
        let first = self.halo.top * self.row;
        zero(0, first);
        for y in 0..self.h {
            let row = first + y * self.row;
            zero(row, self.halo.left * lanes);
            zero(row + (self.halo.left + self.w) * lanes, self.halo.right * lanes);
        }
        zero(first + self.h * self.row, self.halo.bottom * self.row);
    }

    /// Zeroes the channels that pad the last block, of `count` pixels from (y, x) to the right.
    ///
    /// # Safety
    /// `data` points at a buffer of this geometry ([`Geometry::len`] elements), the pixels lie in one row of image `n`, and
    /// nobody else touches those channels meanwhile.
    pub(crate) unsafe fn clear_padding(&self, data: *mut f32, n: usize, y: usize, x: usize, count: usize) {
        let lanes = self.layout.lanes();
        let used = self.c % lanes;
        if used == 0 {
            return;
        }
        let first = self.offset(n, self.planes() - 1, y, x) + used;
        for i in 0..count {
            // SAFETY: the last lanes of a pixel that the caller says is inside the buffer and ours.
            unsafe { std::ptr::write_bytes(data.add(first + i * lanes), 0, lanes - used) };
        }
    }
}
