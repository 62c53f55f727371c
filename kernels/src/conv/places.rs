//! Where output pixels are: in the output, in a residual, and their windows in the input.

use super::tile::{MAX_PIXELS, TileArgs};
use super::{BLOCK, Conv};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Most pixels whose places are written down at once: 14×14 in whole tiles of 6, so that the tiles of OC of such an image, and of
/// smaller ones, find them written.
const MOST: usize = 198;

/// The places of some output pixels, for the register tiles that pass over them.
pub(super) struct Places {
    pixels: Range<usize>,
    windows: bool,
    input: [MaybeUninit<usize>; MOST],
    output: [MaybeUninit<usize>; MOST],
    residual: [MaybeUninit<usize>; MOST],
}

impl Places {
    /// Of no pixels yet. `windows` says whether those in the input are asked for.
    pub fn new(windows: bool) -> Places {
        const { assert!(MOST >= MAX_PIXELS) };
        let nowhere = [const { MaybeUninit::uninit() }; MOST];
        Places { pixels: 0..0, windows, input: nowhere, output: nowhere, residual: nowhere }
    }

    /// Points the arguments at the places of output pixels from `pixel` on, numbered through all images, for at most so many tiles of
    /// `count`; of how many, it returns. `end` is behind the last pixel that will be asked for.
    #[inline(always)]
    pub fn enter(&mut self, args: &mut TileArgs, conv: &Conv, pixel: usize, count: usize, tiles: usize, end: usize) -> usize {
        if pixel < self.pixels.start || pixel + count > self.pixels.end {
            self.write(conv, pixel..end.min(pixel + MOST));
        }
        let first = pixel - self.pixels.start;
        args.output_pixels = self.output[first..].as_ptr().cast();
        args.residual_pixels = self.residual[first..].as_ptr().cast();
        if self.windows {
            args.pixels = self.input[first..].as_ptr().cast();
        }
        tiles.min((self.pixels.end - pixel) / count)
    }

    #[inline(never)]
    fn write(&mut self, conv: &Conv, pixels: Range<usize>) {
        let mut cursor = conv.cursor(pixels.start, self.windows);
        let mut placed = 0;
        while placed < pixels.len() {
            // All that lie in one row are a step apart.
            let run = placed..placed + (pixels.len() - placed).min(cursor.left_in_row(conv));
            step(&mut self.output[run.clone()], cursor.output, BLOCK);
            if conv.residual.is_some() {
                step(&mut self.residual[run.clone()], cursor.residual, BLOCK);
            }
            if self.windows {
                step(&mut self.input[run.clone()], cursor.input, cursor.input_step);
            }
            cursor.advance(conv, run.len());
            placed = run.end;
        }
        self.pixels = pixels;
    }
}

/// Writes `first`, and what lies so many steps further.
fn step(places: &mut [MaybeUninit<usize>], first: usize, step: usize) {
    let mut at = first;
    for place in places {
        place.write(at);
        at += step;
    }
}

impl Conv {
    /// Stands at an output pixel, numbered through all images. `windows` says whether the cursor follows the
    /// pixels' windows in the input, too.
    pub(super) fn cursor(&self, pixel: usize, windows: bool) -> Cursor {
        let [oh, ow] = self.output_size;
        let input_step = if windows { self.problem.stride[1] * self.input.layout.words() } else { 0 };
        let mut cursor = Cursor { n: pixel / (oh * ow), y: pixel / ow % oh, x: pixel % ow, input_step, output: 0, residual: 0, input: 0 };
        cursor.locate(self);
        cursor
    }
}

/// An output pixel, and where it is. It moves on without dividing.
pub(super) struct Cursor {
    n: usize,
    y: usize,
    x: usize,
    /// From a pixel's window to the next one's; 0 where nobody asks for windows.
    input_step: usize,
    /// Offset in the output.
    pub output: usize,
    /// Offset in the residual.
    pub residual: usize,
    /// Offset of the window's first tap in the input.
    pub input: usize,
}

impl Cursor {
    /// Pixels from here to the end of the row.
    pub fn left_in_row(&self, conv: &Conv) -> usize {
        conv.output_size[1] - self.x
    }

    /// Moves on by pixels of the same row.
    pub fn advance(&mut self, conv: &Conv, pixels: usize) {
        self.x += pixels;
        self.output += pixels * BLOCK;
        self.residual += pixels * BLOCK;
        self.input += pixels * self.input_step;
        if self.x == conv.output_size[1] {
            (self.x, self.y) = (0, self.y + 1);
            if self.y == conv.output_size[0] {
                (self.y, self.n) = (0, self.n + 1);
            }
            self.locate(conv);
        }
    }

    fn locate(&mut self, conv: &Conv) {
        // Behind the last pixel there is none to locate.
        if self.n == conv.problem.n {
            return;
        }
        self.output = conv.output.offset(self.n, 0, self.y, self.x);
        self.residual = conv.residual.map_or(0, |g| g.offset(self.n, 0, self.y, self.x));
        if self.input_step > 0 {
            let (input, p) = (&conv.input, &conv.problem);
            // Less the padding: `Conv::new` saw to it that the halo holds it, so that this does not go below zero.
            self.input = input.offset(self.n, 0, self.y * p.stride[0], self.x * p.stride[1])
                - p.pads[0] * input.row_stride()
                - p.pads[1] * input.layout.words();
        }
    }
}
