//! The list of the kernels of bytes, one table for each way that processors multiply them.

use super::rows::{ElementFn, MeanFn, PlanesFn};
use crate::conv::grouped_row::{GROUPS, GroupedKernels, SHAPES};
use crate::conv::tile::Tiles;
use crate::row::PoolFn;
use crate::table::{conv_entry, depthwise_entry, groups_entry};
use crate::{Error, Isa, Kernel, KernelTable};

/// The kernels of bytes of one instruction set.
pub struct Int8Table {
    pub(crate) isa: Isa,
    /// What sets it apart from the other tables.
    pub(crate) name: &'static str,
    /// What the register tiles take the unsigned bytes less of.
    pub(crate) offset: i32,
    pub(crate) conv_tile: Tiles,
    /// Rows of depthwise convolutions and of narrow groups.
    pub(crate) grouped: GroupedKernels,
    pub(crate) pool_max: PoolFn,
    pub(crate) pool_mean: MeanFn,
    pub(crate) add: ElementFn,
    pub(crate) quantize: ElementFn,
    pub(crate) dequantize: ElementFn,
    pub(crate) quantize_planes: PlanesFn,
    /// Independent chains of dot products, for [`crate::peak`].
    pub(crate) chain: unsafe fn(u64) -> i32,
    /// How many of them.
    pub(crate) chains: usize,
}

/// Instantiates every kernel of bytes for one implementation of [`Int8`](super::Int8), inside functions with the given target features.
macro_rules! instantiate {
    ($(#[$features:meta])? $int8:ty, $isa:expr, name $name:literal, tiles [$($blocks:literal x $pixels:tt),+], depthwise $depthwise:ident, chains $chains:literal) => {
        mod kernels {
            use super::*;
            use $crate::conv::grouped_row::{self, GroupedArgs};
            use $crate::conv::tile::{self, TileArgs};
            use $crate::int8::rows::{self, ElementArgs, MeanArgs, PlanesArgs};
            use $crate::row::PoolArgs;

            /// # Safety
            /// As [`tile::TileFn`] says.
            $(#[$features])?
            pub(super) unsafe fn conv_tile<const P: usize, const B: usize>(args: &TileArgs) {
                // SAFETY: the caller keeps TileFn's contract; the target features are those of the instructions.
                unsafe {
                    tile::conv_tile_then::<Bytes<$int8>, P, B>(args, |first, sums| {
                        finish::<B>(args, $crate::int8::Waiting { first, count: P, sums })
                    });
                }
            }

            /// The epilogue of sums that wait in memory, once for all numbers of pixels.
            ///
            /// # Safety
            /// As [`tile::TileFn`] says; the sums are those of the pixels.
            #[inline(never)]
            $(#[$features])?
            unsafe fn finish<const B: usize>(args: &TileArgs, pixels: $crate::int8::Waiting) {
                // SAFETY: the caller's promises; the target features are those of the instructions.
                unsafe { $crate::int8::finish_waiting::<$int8, B, true>(args, pixels) }
            }

            $crate::table::instantiate!(@kernel [$(#[$features])?] depthwise_any<>(args: &GroupedArgs) = grouped_row::any::<Bytes<$int8>>);
            $crate::table::instantiate!(@$depthwise [$(#[$features])?] Bytes<$int8>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] groups<G>(args: &GroupedArgs) = grouped_row::groups::<Bytes<$int8>, G>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] pool_max<>(args: &PoolArgs) = rows::pool_max::<$int8>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] pool_mean<>(args: &MeanArgs) = rows::pool_mean::<$int8>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] add<>(args: &ElementArgs) = rows::add::<$int8>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] quantize<>(args: &ElementArgs) = rows::quantize::<$int8>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] dequantize<>(args: &ElementArgs) = rows::dequantize::<$int8>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] quantize_planes<>(args: &PlanesArgs) = rows::quantize_planes::<$int8>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] chain<>(rounds: u64) -> i32 = $crate::peak::dot_chain::<$int8, $chains>);
        }

        /// The kernels of bytes of this instruction set.
        pub(crate) static TABLE: $crate::int8::Int8Table = $crate::int8::Int8Table {
            isa: $isa,
            name: $name,
            offset: <$int8 as Int8>::OFFSET,
            conv_tile: $crate::conv::tile::Tiles::new(&[$($crate::table::by_pixels!($pixels, kernels::conv_tile, $blocks)),+]),
            grouped: $crate::table::grouped!(kernels, $depthwise),
            pool_max: kernels::pool_max,
            pool_mean: kernels::pool_mean,
            add: kernels::add,
            quantize: kernels::quantize,
            dequantize: kernels::dequantize,
            quantize_planes: kernels::quantize_planes,
            chain: kernels::chain,
            chains: $chains,
        };
    };
}
pub(crate) use instantiate;

/// Kernels that have no tile, in the order of their entries.
const ROWS: [&str; 6] = ["int8_pool_max", "int8_pool_mean", "int8_add", "quantize", "dequantize", "quantize_planes"];

/// Place of the `index`-th of the kernels that have no tile.
pub(crate) const fn row_entry(index: usize) -> usize {
    groups_entry(GROUPS.len()) + index
}

impl Int8Table {
    /// Every table that this processor can run, slowest first; none without the feature `int8`.
    #[cfg(not(feature = "int8"))]
    pub fn all() -> Vec<&'static Int8Table> {
        Vec::new()
    }

    /// Every table that this processor can run, slowest first.
    #[cfg(feature = "int8")]
    pub fn all() -> Vec<&'static Int8Table> {
        let mut all: Vec<&'static Int8Table> = vec![&crate::portable::int8::baseline::TABLE];
        #[cfg(target_arch = "x86_64")]
        {
            use crate::x86_64::{avx2, avx512};
            if Isa::Avx2.is_available() {
                all.push(&avx2::int8::pairs::TABLE);
                if std::arch::is_x86_feature_detected!("avxvnni") {
                    all.push(&avx2::int8::vnni::TABLE);
                }
            }
            if Isa::Avx512.is_available() {
                all.push(&avx512::int8::pairs::TABLE);
                if std::arch::is_x86_feature_detected!("avx512vnni") {
                    all.push(&avx512::int8::vnni::TABLE);
                    if crate::x86_64::amx::is_available() {
                        all.push(&crate::x86_64::amx::int8::TABLE);
                    }
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        if Isa::Neon.is_available() {
            all.push(&crate::aarch64::neon::int8::pairs::TABLE);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                all.push(&crate::aarch64::neon::int8::dot::TABLE);
            }
        }
        all
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The instruction set's name, and how it multiplies bytes where it has several ways.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Most blocks of 16 output channels that a convolution tile has here.
    pub fn max_blocks(&self) -> usize {
        self.conv_tile.kernels.len()
    }

    /// Every kernel of this table.
    pub fn kernels(&self) -> Vec<Kernel> {
        self.entries().into_iter().map(|(_, kernel)| kernel).collect()
    }

    /// Every kernel of this table, with its place among those that any table has.
    pub(crate) fn entries(&self) -> Vec<(usize, Kernel)> {
        // Every field by name: a kernel that is added to the table and not to this list does not compile.
        let Int8Table {
            isa,
            name,
            offset: _,
            conv_tile,
            grouped,
            pool_max: _,
            pool_mean: _,
            add: _,
            quantize: _,
            dequantize: _,
            quantize_planes: _,
            chain: _,
            chains: _,
        } = self;
        let entry = |family: &'static str, shape: String| Kernel { name: format!("{family}{shape}-{name}"), family, isa: *isa };
        let mut list = Vec::new();
        for (b, row) in conv_tile.kernels.iter().enumerate() {
            let kernel = |p: usize| entry("int8_conv", format!("-{}x{}", p + 1, 16 * (b + 1)));
            list.extend((0..row.len()).map(|p| (conv_entry(p + 1, b + 1), kernel(p))));
        }
        list.push((depthwise_entry(0), entry("int8_depthwise", String::new())));
        let shaped = SHAPES.iter().take(grouped.depthwise_shaped.len()).enumerate();
        list.extend(shaped.map(|(i, (kw, s))| (depthwise_entry(1 + i), entry("int8_depthwise", format!("-k{kw}s{s}")))));
        list.extend(GROUPS.iter().enumerate().map(|(i, g)| (groups_entry(i), entry("int8_groups", format!("-{g}")))));
        list.extend(ROWS.iter().enumerate().map(|(i, family)| (row_entry(i), entry(family, String::new()))));
        list
    }
}

impl KernelTable {
    /// The kernels of bytes that go with these: the fastest that the processor has within the instruction set.
    ///
    /// # Errors
    /// Without the feature `int8`.
    pub fn int8(&self) -> Result<&'static Int8Table, Error> {
        let own = |table: &&'static Int8Table| table.isa == self.isa;
        let tables = Int8Table::all();
        let portable = tables.first().copied();
        tables.into_iter().rfind(own).or(portable).ok_or(Error::NotBuilt { feature: "int8" })
    }
}

impl std::fmt::Debug for Int8Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Int8Table({})", self.name)
    }
}
