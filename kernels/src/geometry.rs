//! Where each element of an activation buffer lies: layout, halo and pitches.

use crate::Error;

/// Channels in a block of [`Layout::Nchw16c`], and outputs of a vector of a register tile, on every instruction set.
pub const BLOCK: usize = 16;

/// What a buffer holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// bfloat16: the upper half of a 32-bit float.
    Bf16,
    /// Unsigned bytes that stand for `scale · (byte − zero point)`.
    U8,
}

impl Element {
    /// How many a word of 32 bits holds: neighbouring channels, which a dot product of words multiplies and adds up at once.
    pub fn per_word(self) -> usize {
        match self {
            Element::F32 => 1,
            Element::Bf16 => 2,
            Element::U8 => 4,
        }
    }

    /// Bytes of one.
    pub fn bytes(self) -> usize {
        4 / self.per_word()
    }

    /// The layout of planes of one word a pixel.
    pub fn planar(self) -> Layout {
        match self {
            Element::F32 => Layout::Nchw,
            Element::Bf16 => Layout::Nchw2c,
            Element::U8 => Layout::Nchw4c,
        }
    }

    /// The layout of planes of sixteen words a pixel.
    pub fn blocked(self) -> Layout {
        match self {
            Element::F32 => Layout::Nchw16c,
            Element::Bf16 => Layout::Nchw32c,
            Element::U8 => Layout::Nchw64c,
        }
    }
}

/// How the channels of a buffer are stored.
///
/// A buffer is a slice of 32-bit words whatever its elements are. A pixel of a plane is one word where few channels are planes of
/// their own, or sixteen, which are one cache line: kernels that multiply words walk through all elements in the same way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Layout {
    /// `[n][c][h][w]` of f32: one plane a channel. What the user sees, and what a stem convolution reads.
    Nchw,
    /// `[n][c/16][h][w][16]` of f32: one plane for 16 channels, those of a pixel side by side. C is padded to 16 with zeros.
    Nchw16c,
    /// `[n][c/2][h][w][2]` of bf16.
    Nchw2c,
    /// `[n][c/32][h][w][32]` of bf16.
    Nchw32c,
    /// `[n][c/4][h][w][4]` of u8.
    Nchw4c,
    /// `[n][c/64][h][w][64]` of u8.
    Nchw64c,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 6] = [Layout::Nchw, Layout::Nchw16c, Layout::Nchw2c, Layout::Nchw32c, Layout::Nchw4c, Layout::Nchw64c];

    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Nchw => "nchw",
            Layout::Nchw16c => "nchw16c",
            Layout::Nchw2c => "nchw2c-bf16",
            Layout::Nchw32c => "nchw32c-bf16",
            Layout::Nchw4c => "nchw4c-u8",
            Layout::Nchw64c => "nchw64c-u8",
        }
    }

    /// Channels side by side in memory.
    pub fn lanes(self) -> usize {
        self.words() * self.element().per_word()
    }

    /// Words of a pixel of a plane.
    pub fn words(self) -> usize {
        if self.is_blocked() { BLOCK } else { 1 }
    }

    /// Whether a pixel of a plane is sixteen words.
    pub fn is_blocked(self) -> bool {
        matches!(self, Layout::Nchw16c | Layout::Nchw32c | Layout::Nchw64c)
    }

    /// What a buffer holds.
    pub fn element(self) -> Element {
        match self {
            Layout::Nchw | Layout::Nchw16c => Element::F32,
            Layout::Nchw2c | Layout::Nchw32c => Element::Bf16,
            Layout::Nchw4c | Layout::Nchw64c => Element::U8,
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

/// The dimensions, layout and pitches of one activation buffer. Lengths, pitches and offsets are in words of 32 bits: elements, where
/// those are f32.
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
    /// The byte that stands for zero, where the elements are u8.
    zero: u8,
    row: usize,
    plane: usize,
    image: usize,
}

/// Where a block of 16 channels that takes so many words begins, from where block 0 of the same pixel does.
#[inline(always)]
pub(crate) fn block_offset(block: usize, words: usize, plane: usize) -> usize {
    let blocks = BLOCK / words;
    block / blocks * plane + block % blocks * words
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
        let size = || {
            let rows = h.checked_add(halo.top)?.checked_add(halo.bottom)?;
            let columns = w.checked_add(halo.left)?.checked_add(halo.right)?;
            let row = columns.checked_mul(layout.words())?;
            let exact = row.checked_mul(rows)?;
            let plane = if layout.is_blocked() && exact % 1024 == 0 { exact.checked_add(BLOCK)? } else { exact };
            let image = plane.checked_mul(c.div_ceil(layout.lanes()))?;
            let bytes = image.checked_mul(n)?.checked_mul(size_of::<f32>())?;
            (bytes <= isize::MAX as usize).then_some((row, plane, image))
        };
        let (row, plane, image) = size().ok_or_else(|| refuse("the buffer does not fit the address space"))?;
        Ok(Geometry { layout, n, c, h, w, halo, zero: 0, row, plane, image })
    }

    /// The same buffer with another zero: the byte that its halo, and the channels that pad its last block, are filled with.
    ///
    /// # Errors
    /// When the elements are not bytes.
    pub fn with_zero_point(self, zero: u8) -> Result<Geometry, Error> {
        if self.layout.element() == Element::U8 {
            return Ok(Geometry { zero, ..self });
        }
        Err(Error::Problem { problem: format!("{self:?}"), reason: "only bytes have a zero point".into() })
    }

    /// The byte that stands for zero, where the elements are u8; 0 elsewhere.
    pub fn zero_point(&self) -> u8 {
        self.zero
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

    /// Words of the whole buffer.
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

    /// Words from a row to the next.
    pub fn row_stride(&self) -> usize {
        self.row
    }

    /// Words from a plane to the next.
    pub fn plane_stride(&self) -> usize {
        self.plane
    }

    /// Words from an image to the next.
    pub fn image_stride(&self) -> usize {
        self.image
    }

    /// Offset of the first lane of a pixel of a plane. `y` and `x` count from the first pixel behind the halo.
    #[inline]
    pub fn offset(&self, n: usize, plane: usize, y: usize, x: usize) -> usize {
        n * self.image + plane * self.plane + (y + self.halo.top) * self.row + (x + self.halo.left) * self.layout.words()
    }

    /// Blocks of 16 channels that carry data.
    pub(crate) fn blocks(&self) -> usize {
        self.c.div_ceil(BLOCK)
    }

    /// Offset of the first channel of a block of 16 from that of block 0, in a blocked layout.
    #[inline]
    pub(crate) fn block_offset(&self, block: usize) -> usize {
        block_offset(block, BLOCK * BLOCK / self.layout.lanes(), self.plane)
    }

    /// Checks that a slice is this buffer.
    pub(crate) fn check(&self, what: &'static str, found: usize) -> Result<(), Error> {
        if found == self.len() { Ok(()) } else { Err(Error::Length { what, expected: self.len(), found }) }
    }

    /// Zeroes the halo of plane `plane` of image `n`. What pads a plane to its pitch stays as it is: nothing reads it.
    ///
    /// # Safety
    /// `data` points at a buffer of this geometry ([`Geometry::len`] words), and nobody else touches that plane's halo meanwhile.
    pub(crate) unsafe fn clear_halo(&self, data: *mut f32, n: usize, plane: usize) {
        if self.halo == Halo::NONE {
            return;
        }
        let words = self.layout.words();
        let start = n * self.image + plane * self.plane;
        let zero = |offset: usize, count: usize| {
            // SAFETY: every range below lies inside the plane, which the caller says is inside the buffer and ours.
            unsafe { std::ptr::write_bytes(data.add(start + offset), self.zero, count) };
        };
        let first = self.halo.top * self.row;
        zero(0, first);
        for y in 0..self.h {
            let row = first + y * self.row;
            zero(row, self.halo.left * words);
            zero(row + (self.halo.left + self.w) * words, self.halo.right * words);
        }
        zero(first + self.h * self.row, self.halo.bottom * self.row);
    }

    /// Fills what lies around a row of a block of 16 channels that was just written: behind the last block the channels that pad the
    /// last plane, and once a plane its halo.
    ///
    /// # Safety
    /// `data` is a buffer of this geometry, and the row, if it is the first the plane's halo, and if it is the last block's the
    /// padding behind it, are the calling thread's alone.
    pub(crate) unsafe fn clear_around(&self, data: *mut f32, n: usize, block: usize, y: usize) {
        let blocks = self.layout.lanes() / BLOCK;
        // SAFETY: the caller says so.
        unsafe {
            if block + 1 == self.blocks() {
                self.clear_padding(data, n, y, 0, self.w);
            }
            if y == 0 && block.is_multiple_of(blocks) {
                self.clear_halo(data, n, block / blocks);
            }
        }
    }

    /// Zeroes the channels that pad the last plane, of `count` pixels from (y, x) to the right.
    ///
    /// # Safety
    /// `data` points at a buffer of this geometry ([`Geometry::len`] words), the pixels lie in one row of image `n`, and
    /// nobody else touches those channels meanwhile.
    pub(crate) unsafe fn clear_padding(&self, data: *mut f32, n: usize, y: usize, x: usize, count: usize) {
        let lanes = self.layout.lanes();
        let used = self.c % lanes;
        if used == 0 {
            return;
        }
        let used = used * self.layout.element().bytes();
        let (pixel_words, first) = (self.layout.words(), used / size_of::<u32>());
        let mut keep = [0xff_u8; 4];
        keep[used % 4..].fill(0);
        let (keep, fill) = (u32::from_ne_bytes(keep), u32::from_ne_bytes([self.zero; 4]));
        let row = self.offset(n, self.planes() - 1, y, x);
        for pixel in (row..).step_by(pixel_words).take(count) {
            // SAFETY: the last words of a pixel that the caller says is inside the buffer and ours.
            unsafe {
                let words = data.add(pixel).cast::<u32>();
                words.add(first).write(words.add(first).read() & keep | fill & !keep);
                for word in first + 1..pixel_words {
                    words.add(word).write(fill);
                }
            }
        }
    }
}
