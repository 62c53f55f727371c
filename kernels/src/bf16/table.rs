//! The list of the kernels of bfloat16, one table for each way that processors multiply them.

use crate::conv::grouped_row::{GROUPS, GroupedKernels, SHAPES};
use crate::conv::tile::Tiles;
use crate::row::{PoolFn, RowFn};
use crate::table::{conv_entry, depthwise_entry, groups_entry};
use crate::winograd_transform::{InputFn, OutputFn};
use crate::{Error, Isa, Kernel, KernelTable};

/// The kernels of bfloat16 of one instruction set.
pub struct Bf16Table {
    pub(crate) isa: Isa,
    /// What sets it apart from the other tables.
    pub(crate) name: &'static str,
    pub(crate) dot_products: bool,
    pub(crate) conv_tile: Tiles,
    /// Rows of depthwise convolutions and of narrow groups.
    pub(crate) grouped: GroupedKernels,
    /// Transform of the input, transform of the output.
    pub(crate) winograd_f2: (InputFn, OutputFn),
    pub(crate) pool_max: PoolFn,
    pub(crate) pool_mean: PoolFn,
    pub(crate) add: RowFn,
    pub(crate) clamp: RowFn,
    pub(crate) affine: RowFn,
    /// From f32 to bfloat16.
    pub(crate) narrow: RowFn,
    /// From bfloat16 to f32.
    pub(crate) widen: RowFn,
    /// Independent chains of products, for [`crate::peak`].
    pub(crate) chain: unsafe fn(u64) -> f32,
    /// How many of them.
    pub(crate) chains: usize,
}

/// Instantiates every kernel of bfloat16 for one implementation of [`Bf16`](super::Bf16), inside functions with the given target
/// features.
macro_rules! instantiate {
    ($(#[$features:meta])? $bf16:ty, $isa:expr, name $name:literal, tiles [$($blocks:literal x $pixels:tt),+], depthwise $depthwise:ident, chains $chains:literal) => {
        mod kernels {
            use super::*;
            use $crate::conv::grouped_row::{self, GroupedArgs};
            use $crate::conv::tile::{self, TileArgs};
            use $crate::row::{self, PoolArgs, RowArgs};
            use $crate::winograd_transform::{self, F2, InputArgs, OutputArgs};

            $crate::table::instantiate!(@kernel [$(#[$features])?] conv_tile<P, B>(args: &TileArgs) = tile::conv_tile::<Halves<$bf16>, P, B>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] depthwise_any<>(args: &GroupedArgs) = grouped_row::any::<Halves<$bf16>>);
            $crate::table::instantiate!(@$depthwise [$(#[$features])?] Halves<$bf16>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] groups<G>(args: &GroupedArgs) = grouped_row::groups::<Halves<$bf16>, G>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] winograd_f2_input<>(args: &InputArgs) = winograd_transform::input::<Halves<$bf16>, F2>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] winograd_f2_output<>(args: &OutputArgs) = winograd_transform::output::<Halves<$bf16>, F2>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] pool_max<>(args: &PoolArgs) = row::pool_max::<Halves<$bf16>>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] pool_mean<>(args: &PoolArgs) = row::pool_mean::<Halves<$bf16>>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] add<>(args: &RowArgs) = row::add::<Halves<$bf16>>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] clamp<>(args: &RowArgs) = row::clamp::<Halves<$bf16>>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] affine<>(args: &RowArgs) = row::affine::<Halves<$bf16>>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] narrow<>(args: &RowArgs) = row::convert::<<$bf16 as $crate::bf16::Bf16>::Float, Halves<$bf16>>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] widen<>(args: &RowArgs) = row::convert::<Halves<$bf16>, <$bf16 as $crate::bf16::Bf16>::Float>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] chain<>(rounds: u64) -> f32 = $crate::peak::bf16_chain::<$bf16, $chains>);
        }

        /// The kernels of bfloat16 of this instruction set.
        pub(crate) static TABLE: $crate::bf16::Bf16Table = $crate::bf16::Bf16Table {
            isa: $isa,
            name: $name,
            dot_products: <$bf16 as $crate::bf16::Bf16>::DOT_PRODUCTS,
            conv_tile: $crate::conv::tile::Tiles::new(&[$($crate::table::by_pixels!($pixels, kernels::conv_tile, $blocks)),+]),
            grouped: $crate::table::grouped!(kernels, $depthwise),
            winograd_f2: (kernels::winograd_f2_input, kernels::winograd_f2_output),
            pool_max: kernels::pool_max,
            pool_mean: kernels::pool_mean,
            add: kernels::add,
            clamp: kernels::clamp,
            affine: kernels::affine,
            narrow: kernels::narrow,
            widen: kernels::widen,
            chain: kernels::chain,
            chains: $chains,
        };
    };
}
pub(crate) use instantiate;

/// Kernels that have no tile, in the order of their entries.
const ROWS: [&str; 8] =
    ["bf16_pool_max", "bf16_pool_mean", "bf16_add", "bf16_clamp", "bf16_affine", "bf16_narrow", "bf16_widen", "bf16_winograd_f2"];

/// Place of the `index`-th of the kernels that have no tile.
pub(crate) const fn row_entry(index: usize) -> usize {
    groups_entry(GROUPS.len()) + index
}

impl Bf16Table {
    /// Every table that this processor can run, slowest first; none without the feature `bf16`.
    #[cfg(not(feature = "bf16"))]
    pub fn all() -> Vec<&'static Bf16Table> {
        Vec::new()
    }

    /// Every table that this processor can run, slowest first.
    #[cfg(feature = "bf16")]
    pub fn all() -> Vec<&'static Bf16Table> {
        let mut all: Vec<&'static Bf16Table> = vec![&crate::portable::bf16::baseline::TABLE];
        #[cfg(target_arch = "x86_64")]
        {
            use crate::x86_64::{avx2, avx512};
            if Isa::Avx2.is_available() {
                all.extend([&crate::portable::bf16::fused::TABLE, &avx2::bf16::TABLE]);
            }
            if Isa::Avx512.is_available() {
                all.push(&avx512::bf16::wide::TABLE);
                if std::arch::is_x86_feature_detected!("avx512bf16") {
                    all.push(&avx512::bf16::dot::TABLE);
                    if crate::x86_64::amx::is_available() {
                        all.push(&crate::x86_64::amx::bf16::TABLE);
                    }
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        if Isa::Neon.is_available() {
            all.push(&crate::aarch64::neon::bf16::TABLE);
        }
        all
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The instruction set's name, and how it multiplies bfloat16 where it has several ways.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether an instruction multiplies pairs of bfloat16, and they are not widened to f32 first.
    pub fn has_dot_products(&self) -> bool {
        self.dot_products
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
        let Bf16Table {
            isa,
            name,
            dot_products: _,
            conv_tile,
            grouped,
            winograd_f2: _,
            pool_max: _,
            pool_mean: _,
            add: _,
            clamp: _,
            affine: _,
            narrow: _,
            widen: _,
            chain: _,
            chains: _,
        } = self;
        let entry = |family: &'static str, shape: String| Kernel { name: format!("{family}{shape}-{name}"), family, isa: *isa };
        let mut list = Vec::new();
        for (b, row) in conv_tile.kernels.iter().enumerate() {
            let kernel = |p: usize| entry("bf16_conv", format!("-{}x{}", p + 1, 16 * (b + 1)));
            list.extend((0..row.len()).map(|p| (conv_entry(p + 1, b + 1), kernel(p))));
        }
        list.push((depthwise_entry(0), entry("bf16_depthwise", String::new())));
        let shaped = SHAPES.iter().take(grouped.depthwise_shaped.len()).enumerate();
        list.extend(shaped.map(|(i, (kw, s))| (depthwise_entry(1 + i), entry("bf16_depthwise", format!("-k{kw}s{s}")))));
        list.extend(GROUPS.iter().enumerate().map(|(i, g)| (groups_entry(i), entry("bf16_groups", format!("-{g}")))));
        list.extend(ROWS.iter().enumerate().map(|(i, family)| (row_entry(i), entry(family, String::new()))));
        list
    }
}

impl KernelTable {
    /// The kernels of bfloat16 that go with these: the fastest that the processor has within the instruction set.
    ///
    /// # Errors
    /// Without the feature `bf16`.
    pub fn bf16(&self) -> Result<&'static Bf16Table, Error> {
        let own = |table: &&'static Bf16Table| table.isa == self.isa && (table.isa != Isa::Portable || table.name == self.name);
        let tables = Bf16Table::all();
        let portable = tables.first().copied();
        tables.into_iter().rfind(own).or(portable).ok_or(Error::NotBuilt { feature: "bf16" })
    }
}

impl std::fmt::Debug for Bf16Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bf16Table({})", self.name)
    }
}
