//! While convolutions compute, the weights that they and the next ones read come from memory into cache: a network whose weights
//! are larger than the cache would otherwise wait for them in its last stages, where each weight is used for few pixels.
//!
//! All weights of a network, in the order in which a thread reads them, are one stream. Each convolution asks for a part of the
//! stream that begins some way ahead of its own place: far enough for the memory to answer, and so near that what was fetched is
//! still in the level-2 cache. The distance grows only ahead of layers that read more than the memory gives in their time.
//!
//! The lines that a register tile asks for lie one behind the other, but are not asked for in this order: they are cut into stretches,
//! as many as a segment has lines to ask for, and each segment asks for the next line of every stretch. From several pages at once a
//! core gets half as much again as from one: the prefetchers of the level-2 cache work within a page each.

use super::tile::TileArgs;
use super::{BLOCK, Conv, PackedWeights};
use crate::parallel::range_of_part;
use std::ops::Range;
use std::sync::Arc;

/// Cache lines of the stream between what is read and what is asked for (256 KiB).
const DISTANCE: usize = 4096;

/// Most cache lines that are asked for during a segment: a hundred cycles of tiles of dot products, where a processor has AMX. For
/// vectors of f32, which take longer, ten are enough and more do no harm.
const MAX_LINES: usize = 64;

/// Lines of the shortest stretch. Of shorter ones several would lie in a page, which the hardware does not take for sequences.
const SHORTEST_STRETCH: usize = 32;

/// What a convolution asks for: a list for each of its shares.
pub(super) struct Ahead(Vec<Vec<Piece>>);

/// Contiguous weights to ask for.
struct Piece {
    weights: Arc<PackedWeights>,
    elements: Range<usize>,
}

/// Lets convolutions that run one after the other, again and again, bring weights into cache ahead of their use. The results do not
/// change.
pub fn schedule_prefetch(convs: &mut [&mut Conv]) {
    let shares = convs.iter().map(|conv| conv.shares()).max().unwrap_or(0);
    let mut ahead: Vec<Vec<Vec<Piece>>> = convs.iter().map(|conv| (0..conv.shares()).map(|_| Vec::new()).collect()).collect();
    for share in 0..shares {
        let streams: Vec<Vec<Range<usize>>> = convs.iter().map(|conv| conv.weight_stream(share)).collect();
        let lines: Vec<usize> = streams.iter().map(|ranges| ranges.iter().map(|r| r.len() / BLOCK).sum()).collect();
        let capacity: Vec<usize> = convs.iter().map(|conv| conv.segments_run(share).saturating_mul(MAX_LINES)).collect();
        // How far ahead of its first weight each convolution should find the stream.
        let mut wanted = vec![0; convs.len() + 1];
        let mut rest = 0;
        for i in (0..convs.len()).rev() {
            rest += lines[i];
            wanted[i] = (wanted[i + 1] + lines[i]).saturating_sub(capacity[i]).max(DISTANCE.min(rest));
        }
        // Nothing was fetched before the first, and what it needs at once can't come in time.
        let mut distance = lines.first().copied().unwrap_or(0).min(DISTANCE);
        for i in 0..convs.len() {
            let quota = (wanted[i + 1] + lines[i]).saturating_sub(distance).min(capacity[i]);
            if let Some(pieces) = ahead[i].get_mut(share) {
                let (mut skip, mut take) = (distance, quota);
                for (conv, stream) in convs[i..].iter().zip(&streams[i..]) {
                    for range in stream {
                        let first = skip.min(range.len() / BLOCK);
                        let count = take.min(range.len() / BLOCK - first);
                        (skip, take) = (skip - first, take - count);
                        if count > 0 {
                            let start = range.start + first * BLOCK;
                            pieces.push(Piece { weights: conv.weights.clone(), elements: start..start + count * BLOCK });
                        }
                    }
                    if take == 0 {
                        break;
                    }
                }
            }
            distance = (distance + quota).saturating_sub(lines[i]);
        }
    }
    for (conv, pieces) in convs.iter_mut().zip(ahead) {
        conv.ahead = Some(Ahead(pieces));
    }
}

impl Conv {
    /// The elements of the packed weights that a share reads, in order.
    fn weight_stream(&self, share: usize) -> Vec<Range<usize>> {
        if share >= self.shares() {
            return Vec::new();
        }
        let (tiles, _) = self.share(share);
        (0..self.weights.positions()).map(|position| self.weights.elements(&tiles, position)).collect()
    }

    /// How often a register tile enters a segment in a share, about.
    fn segments_run(&self, share: usize) -> usize {
        if share >= self.shares() {
            return 0;
        }
        let (tiles, pixels) = self.share(share);
        let segments: usize = self.weights.tiles()[tiles].iter().map(|tile| tile.segments.len()).sum();
        segments.saturating_mul(self.weights.positions()).saturating_mul(pixels.len().div_ceil(self.group))
    }

    /// What is left to ask for in a piece of one of the partition's shares.
    pub(super) fn prefetcher(&self, share: usize, (piece, count): (usize, usize)) -> Prefetcher<'_> {
        let pieces = self.ahead.as_ref().and_then(|ahead| ahead.0.get(share)).map_or(&[][..], Vec::as_slice);
        let lines: usize = pieces.iter().map(|piece| piece.elements.len() / BLOCK).sum();
        let segments = self.segments_run(share);
        let (per_segment, period) = (lines.div_ceil(segments.max(1)), (segments / lines.max(1)).max(1));
        let own = range_of_part(lines, count, piece);
        let mut prefetcher = Prefetcher { pieces, taken: 0, left: own.len(), per_segment, period, wait: 0 };
        prefetcher.skip(own.start);
        prefetcher
    }
}

/// The lines that a thread still has to ask for.
pub(super) struct Prefetcher<'a> {
    pieces: &'a [Piece],
    /// Elements of the first piece that were asked for.
    taken: usize,
    /// Lines that are this piece's to ask for.
    left: usize,
    /// Lines to ask for in a segment, by one register tile of `period`.
    per_segment: usize,
    period: usize,
    /// Register tiles until the next that asks.
    wait: usize,
}

impl Prefetcher<'_> {
    /// Leaves out lines that another piece asks for.
    fn skip(&mut self, lines: usize) {
        self.taken = lines * BLOCK;
        while let Some(piece) = self.pieces.first().filter(|piece| self.taken >= piece.elements.len()) {
            self.taken -= piece.elements.len();
            self.pieces = &self.pieces[1..];
        }
    }

    /// Gives the next register tiles their lines: of `tiles` at most, of how many it returns.
    pub fn enter(&mut self, args: &mut TileArgs, tiles: usize) -> usize {
        (args.ahead_lines, args.ahead_tiles) = (0, 0);
        let Some(piece) = self.pieces.first().filter(|_| self.left > 0) else { return tiles };
        if self.wait > 0 {
            let tiles = tiles.min(self.wait);
            self.wait -= tiles;
            return tiles;
        }
        let lines = self.per_segment * args.segment_count;
        let rest = piece.elements.len() / BLOCK - self.taken / BLOCK;
        let (tiles, asking) = if self.period > 1 {
            (tiles.min(self.period), 1)
        } else {
            let tiles = tiles.min(self.left.min(rest).div_ceil(lines)).max(1);
            (tiles, tiles)
        };
        self.wait = self.period - tiles.min(self.period);
        args.ahead = piece.weights.data()[piece.elements.start + self.taken..].as_ptr();
        (args.ahead_lines, args.ahead_tiles, args.ahead_tile) = (self.per_segment, asking, lines * BLOCK);
        (args.ahead_stride, args.ahead_step) = match args.segment_count {
            SHORTEST_STRETCH.. => (args.segment_count * BLOCK, BLOCK),
            _ => (BLOCK, self.per_segment * BLOCK),
        };
        self.left = self.left.saturating_sub(asking * lines);
        self.taken += asking * lines * BLOCK;
        if self.taken >= piece.elements.len() {
            self.pieces = &self.pieces[1..];
            self.taken = 0;
        }
        tiles
    }
}
