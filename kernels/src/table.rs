//! The one list of kernels. Dispatch, tests and benches all read it: a kernel that is not here does not exist.

use crate::conv::grouped_row::{GROUPS, GroupedKernels, SHAPES};
use crate::conv::tile::{MAX_BLOCKS, MAX_PIXELS, TileFn};
use crate::function::reduce::REDUCTIONS;
use crate::function::{Binary, FunctionKernels, Kind};
use crate::row::{PoolFn, RowFn};
use crate::winograd_transform::{InputFn, OutputFn};
use crate::{Element, Error, Isa};

/// The kernels of one instruction set.
pub struct KernelTable {
    pub(crate) isa: Isa,
    /// What sets it apart from the other tables: the instruction set's name, or more.
    pub(crate) name: &'static str,
    /// Indexed by blocks − 1, then pixels − 1.
    pub(crate) conv_tile: &'static [&'static [TileFn]],
    /// Rows of depthwise convolutions and of narrow groups.
    pub(crate) grouped: GroupedKernels,
    /// Transform of the input, transform of the output.
    pub(crate) winograd_f2: (InputFn, OutputFn),
    /// Likewise.
    pub(crate) winograd_f4: (InputFn, OutputFn),
    pub(crate) pool_max: PoolFn,
    pub(crate) pool_mean: PoolFn,
    pub(crate) add: RowFn,
    pub(crate) clamp: RowFn,
    pub(crate) affine: RowFn,
    pub(crate) functions: FunctionKernels,
    /// Independent chains of FMAs, for [`crate::peak`].
    pub(crate) fma_chain: unsafe fn(u64) -> f32,
    /// How many of them.
    pub(crate) fma_chains: usize,
    /// A sum that reads memory as fast as vectors can, for [`crate::peak`].
    pub(crate) read_sum: unsafe fn(*const f32, usize) -> f32,
}

/// A line of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kernel {
    /// `family-shape-table`, for example `conv-6x64-avx512`.
    pub name: String,
    /// What it computes: `conv`, `depthwise`, `groups`, `winograd_f2`, `winograd_f4`, `pool_max`, `pool_mean`, `add`, `clamp`, `affine`,
    /// `unary`, `binary`, `reduce`, `normalize`, `blend`, `resample`, `lane_sums`, `lane_squares`.
    pub family: &'static str,
    /// The instruction set.
    pub isa: Isa,
}

/// Instantiates every generic kernel for one vector type, inside functions with the given target features.
macro_rules! instantiate {
    ($(#[$features:meta])? $vector:ty, $isa:expr, name $name:literal, tiles [$($blocks:literal x $pixels:tt),+], depthwise $depthwise:ident, fma_chains $chains:literal) => {
        mod kernels {
            use super::*;
            use $crate::conv::grouped_row::{self, GroupedArgs};
            use $crate::conv::tile::{self, TileArgs};
            use $crate::function::blend::{self, BlendArgs};
            use $crate::function::lane_sums::{self, LaneSumsArgs};
            use $crate::function::reduce::{self, NormalizeArgs, ReduceArgs};
            use $crate::function::resample::{self, ResampleArgs};
            use $crate::function::rows::{self, BinaryArgs, UnaryArgs};
            use $crate::row::{self, PoolArgs, RowArgs};
            use $crate::winograd_transform::{self, F2, F4, InputArgs, OutputArgs};

            $crate::table::instantiate!(@kernel [$(#[$features])?] conv_tile<P, B>(args: &TileArgs) = tile::conv_tile::<$vector, P, B>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] depthwise_any<>(args: &GroupedArgs) = grouped_row::any::<$vector>);
            $crate::table::instantiate!(@$depthwise [$(#[$features])?] $vector);
            $crate::table::instantiate!(@kernel [$(#[$features])?] groups<G>(args: &GroupedArgs) = grouped_row::groups::<$vector, G>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] winograd_f2_input<>(args: &InputArgs) = winograd_transform::input::<$vector, F2>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] winograd_f2_output<>(args: &OutputArgs) = winograd_transform::output::<$vector, F2>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] winograd_f4_input<>(args: &InputArgs) = winograd_transform::input::<$vector, F4>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] winograd_f4_output<>(args: &OutputArgs) = winograd_transform::output::<$vector, F4>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] pool_max<>(args: &PoolArgs) = row::pool_max::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] pool_mean<>(args: &PoolArgs) = row::pool_mean::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] add<>(args: &RowArgs) = row::add::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] clamp<>(args: &RowArgs) = row::clamp::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] affine<>(args: &RowArgs) = row::affine::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] unary<K>(args: &UnaryArgs) = rows::unary::<$vector, K>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] binary<K>(args: &BinaryArgs) = rows::binary::<$vector, K>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] reduce<K>(args: &ReduceArgs) -> f32 = reduce::reduce::<$vector, K>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] normalize<>(args: &NormalizeArgs) = reduce::normalize::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] blend<>(args: &BlendArgs) = blend::blend::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] resample<>(args: &ResampleArgs) = resample::resample::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] lane_sums<K>(args: &LaneSumsArgs) = lane_sums::lane_sums::<$vector, K>);

            /// # Safety
            /// The processor has the instruction set.
            $(#[$features])?
            pub(super) unsafe fn fma_chain(rounds: u64) -> f32 {
                // SAFETY: the caller says that the instruction set is there.
                unsafe { $crate::peak::fma_chain::<$vector, $chains>(rounds) }
            }

            /// # Safety
            /// As the generic kernel of the same name says.
            $(#[$features])?
            pub(super) unsafe fn read_sum(data: *const f32, rounds: usize) -> f32 {
                // SAFETY: the caller keeps the generic kernel's contract.
                unsafe { $crate::peak::read_sum::<$vector, $chains>(data, rounds) }
            }
        }

        const _: () = {
            use $crate::conv::tile::{MAX_ACCUMULATORS, MAX_BLOCKS, MAX_PIXELS};
            $(assert!($blocks <= MAX_BLOCKS && $pixels <= MAX_PIXELS && $blocks * $pixels <= MAX_ACCUMULATORS);)+
        };

        /// The kernels of this instruction set.
        pub(crate) static TABLE: $crate::KernelTable = $crate::KernelTable {
            isa: $isa,
            name: $name,
            conv_tile: &[$($crate::table::by_pixels!($pixels, kernels::conv_tile, $blocks)),+],
            grouped: $crate::table::grouped!(kernels, $depthwise),
            winograd_f2: (kernels::winograd_f2_input, kernels::winograd_f2_output),
            winograd_f4: (kernels::winograd_f4_input, kernels::winograd_f4_output),
            pool_max: kernels::pool_max,
            pool_mean: kernels::pool_mean,
            add: kernels::add,
            clamp: kernels::clamp,
            affine: kernels::affine,
            functions: $crate::function::FunctionKernels {
                unary: $crate::function::every_unary!(kernels::unary),
                binary: $crate::function::every_binary!(kernels::binary),
                reduce: [kernels::reduce::<0>, kernels::reduce::<1>, kernels::reduce::<2>, kernels::reduce::<3>],
                normalize: kernels::normalize,
                blend: kernels::blend,
                resample: kernels::resample,
                lane_sums: [kernels::lane_sums::<0>, kernels::lane_sums::<1>],
            },
            fma_chain: kernels::fma_chain,
            fma_chains: $chains,
            read_sum: kernels::read_sum,
        };
    };
    (@any [$(#[$features:meta])?] $products:ty) => {};
    (@shaped [$(#[$features:meta])?] $products:ty) => {
        $crate::table::instantiate!(@kernel [$(#[$features])?] depthwise_shaped<KW, S>(args: &GroupedArgs) = grouped_row::shaped::<$products, KW, S>);
    };
    (@kernel [$(#[$features:meta])?] $name:ident<$($generic:ident),*>($args:ident: $ty:ty) $(-> $result:ty)? = $body:expr) => {
        /// # Safety
        /// As the generic kernel of the same name says.
        $(#[$features])?
        pub(super) unsafe fn $name<$(const $generic: usize),*>($args: $ty) $(-> $result)? {
            // SAFETY: the caller keeps the generic kernel's contract; the target features are those of the vector type.
            unsafe { $body($args) }
        }
    };
}
pub(crate) use instantiate;

/// The row kernels of a module that has them: with depthwise kernels for the commonest shapes, or with that for any shape alone.
macro_rules! grouped {
    ($module:ident, any) => {
        $crate::table::grouped!(@ $module, &[])
    };
    ($module:ident, shaped) => {
        $crate::table::grouped!(@ $module, &[
            $module::depthwise_shaped::<3, 1>,
            $module::depthwise_shaped::<3, 2>,
            $module::depthwise_shaped::<5, 1>,
            $module::depthwise_shaped::<5, 2>,
        ])
    };
    (@ $module:ident, $shaped:expr) => {
        $crate::conv::grouped_row::GroupedKernels {
            depthwise_any: $module::depthwise_any,
            depthwise_shaped: $shaped,
            groups: [$module::groups::<4>, $module::groups::<8>],
        }
    };
}
pub(crate) use grouped;

/// A function with const parameters pixels and blocks, for 1 to 3, 4, 6, 8, 12 or 32 pixels.
macro_rules! by_pixels {
    (3, $($f:ident)::+, $b:literal) => {
        &[$($f)::+::<1, $b>, $($f)::+::<2, $b>, $($f)::+::<3, $b>]
    };
    (4, $($f:ident)::+, $b:literal) => {
        &[$($f)::+::<1, $b>, $($f)::+::<2, $b>, $($f)::+::<3, $b>, $($f)::+::<4, $b>]
    };
    (6, $($f:ident)::+, $b:literal) => {
        &[$($f)::+::<1, $b>, $($f)::+::<2, $b>, $($f)::+::<3, $b>, $($f)::+::<4, $b>, $($f)::+::<5, $b>, $($f)::+::<6, $b>]
    };
    (8, $($f:ident)::+, $b:literal) => {
        &[
            $($f)::+::<1, $b>, $($f)::+::<2, $b>, $($f)::+::<3, $b>, $($f)::+::<4, $b>,
            $($f)::+::<5, $b>, $($f)::+::<6, $b>, $($f)::+::<7, $b>, $($f)::+::<8, $b>,
        ]
    };
    (32, $($f:ident)::+, $b:literal) => {
        &[
            $($f)::+::<1, $b>, $($f)::+::<2, $b>, $($f)::+::<3, $b>, $($f)::+::<4, $b>,
            $($f)::+::<5, $b>, $($f)::+::<6, $b>, $($f)::+::<7, $b>, $($f)::+::<8, $b>,
            $($f)::+::<9, $b>, $($f)::+::<10, $b>, $($f)::+::<11, $b>, $($f)::+::<12, $b>,
            $($f)::+::<13, $b>, $($f)::+::<14, $b>, $($f)::+::<15, $b>, $($f)::+::<16, $b>,
            $($f)::+::<17, $b>, $($f)::+::<18, $b>, $($f)::+::<19, $b>, $($f)::+::<20, $b>,
            $($f)::+::<21, $b>, $($f)::+::<22, $b>, $($f)::+::<23, $b>, $($f)::+::<24, $b>,
            $($f)::+::<25, $b>, $($f)::+::<26, $b>, $($f)::+::<27, $b>, $($f)::+::<28, $b>,
            $($f)::+::<29, $b>, $($f)::+::<30, $b>, $($f)::+::<31, $b>, $($f)::+::<32, $b>,
        ]
    };
    (12, $($f:ident)::+, $b:literal) => {
        &[
            $($f)::+::<1, $b>, $($f)::+::<2, $b>, $($f)::+::<3, $b>, $($f)::+::<4, $b>,
            $($f)::+::<5, $b>, $($f)::+::<6, $b>, $($f)::+::<7, $b>, $($f)::+::<8, $b>,
            $($f)::+::<9, $b>, $($f)::+::<10, $b>, $($f)::+::<11, $b>, $($f)::+::<12, $b>,
        ]
    };
}
pub(crate) use by_pixels;

impl KernelTable {
    /// The kernels of an instruction set.
    ///
    /// # Errors
    /// When this processor or this build lacks it.
    pub fn get(isa: Isa) -> Result<&'static KernelTable, Error> {
        match isa.require()? {
            #[cfg(target_arch = "x86_64")]
            Isa::Portable if Isa::Avx2.is_available() => Ok(&crate::portable::fused::TABLE),
            Isa::Portable => Ok(&crate::portable::baseline::TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Ok(&crate::x86_64::avx2::TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Ok(&crate::x86_64::avx512::TABLE),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Ok(&crate::aarch64::neon::TABLE),
            #[allow(unreachable_patterns)]
            isa => Err(Error::IsaUnavailable { isa }),
        }
    }

    /// Every table that this processor can run: that of each available instruction set, and on x86-64 with fused multiply-add
    /// also the portable one that is compiled without it.
    pub fn all() -> Vec<&'static KernelTable> {
        let mut tables: Vec<_> = Isa::available().iter().filter_map(|&isa| KernelTable::get(isa).ok()).collect();
        let baseline = &crate::portable::baseline::TABLE;
        if tables.iter().all(|t| t.name != baseline.name) {
            tables.insert(0, baseline);
        }
        tables
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The instruction set's name; `portable-fused` where the portable code is compiled for fused multiply-add.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Most blocks of 16 output channels that a convolution tile has here.
    pub fn max_blocks(&self) -> usize {
        self.conv_tile.len()
    }

    /// Most blocks of 16 output channels of the tiles that go with these for inputs of an element, which is what the order of packed
    /// weights depends on.
    ///
    /// # Errors
    /// When this build has no kernels for the element.
    pub fn max_blocks_of(&self, element: Element) -> Result<usize, Error> {
        Ok(match element {
            Element::F32 => self.max_blocks(),
            Element::Bf16 => self.bf16()?.max_blocks(),
            Element::U8 => self.int8()?.max_blocks(),
        })
    }

    /// Every kernel of this table.
    pub fn kernels(&self) -> Vec<Kernel> {
        self.entries().into_iter().map(|(_, kernel)| kernel).collect()
    }

    /// Every kernel of this table, with its place among those that any table has.
    pub(crate) fn entries(&self) -> Vec<(usize, Kernel)> {
        // Every field by name: a kernel that is added to the table and not to this list does not compile.
        let KernelTable {
            isa,
            name,
            conv_tile,
            grouped,
            winograd_f2: _,
            winograd_f4: _,
            pool_max: _,
            pool_mean: _,
            add: _,
            clamp: _,
            affine: _,
            functions: _,
            fma_chain: _,
            fma_chains: _,
            read_sum: _,
        } = self;
        let entry = |family: &'static str, shape: String| Kernel { name: format!("{family}{shape}-{name}"), family, isa: *isa };
        let mut list = Vec::new();
        for (b, row) in conv_tile.iter().enumerate() {
            list.extend((0..row.len()).map(|p| (conv_entry(p + 1, b + 1), entry("conv", format!("-{}x{}", p + 1, 16 * (b + 1))))));
        }
        list.push((depthwise_entry(0), entry("depthwise", String::new())));
        let shaped = SHAPES.iter().take(grouped.depthwise_shaped.len()).enumerate();
        list.extend(shaped.map(|(i, (kw, s))| (depthwise_entry(1 + i), entry("depthwise", format!("-k{kw}s{s}")))));
        list.extend(GROUPS.iter().enumerate().map(|(i, g)| (groups_entry(i), entry("groups", format!("-{g}")))));
        let rows: [&str; ROWS] = ["pool_max", "pool_mean", "add", "clamp", "affine", "winograd_f2", "winograd_f4"];
        list.extend(rows.iter().enumerate().map(|(i, family)| (row_entry(i), entry(family, String::new()))));
        list.extend(Kind::ALL.iter().map(|kind| (unary_entry(*kind as usize), entry("unary", format!("-{}", kind.name())))));
        list.extend(Binary::ALL.iter().map(|f| (binary_entry(*f as usize), entry("binary", format!("-{}", f.name())))));
        list.extend(REDUCTIONS.iter().enumerate().map(|(i, name)| (reduce_entry(i), entry("reduce", format!("-{name}")))));
        let others = ["normalize", "blend", "resample", "lane_sums", "lane_squares"];
        list.extend(others.iter().enumerate().map(|(i, family)| (other_entry(i), entry(family, String::new()))));
        list
    }
}

impl std::fmt::Debug for KernelTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KernelTable({})", self.name)
    }
}

/// How many kernels have no tile and are no function.
const ROWS: usize = 7;

/// Place of a convolution tile in [`KernelTable::entries`].
pub(crate) const fn conv_entry(pixels: usize, blocks: usize) -> usize {
    (blocks - 1) * MAX_PIXELS + pixels - 1
}

/// Place of the depthwise kernel for any shape, then of those for [`SHAPES`].
pub(crate) const fn depthwise_entry(index: usize) -> usize {
    MAX_BLOCKS * MAX_PIXELS + index
}

/// Place of the kernel for the `index`-th of [`GROUPS`].
pub(crate) const fn groups_entry(index: usize) -> usize {
    depthwise_entry(1 + SHAPES.len()) + index
}

/// Place of the `index`-th of the kernels that have no tile.
pub(crate) const fn row_entry(index: usize) -> usize {
    groups_entry(GROUPS.len()) + index
}

/// Place of the `index`-th function of one number.
pub(crate) const fn unary_entry(index: usize) -> usize {
    row_entry(ROWS) + index
}

/// Place of the `index`-th function of two numbers.
pub(crate) const fn binary_entry(index: usize) -> usize {
    unary_entry(Kind::ALL.len()) + index
}

/// Place of the `index`-th reduction of a row.
pub(crate) const fn reduce_entry(index: usize) -> usize {
    binary_entry(Binary::ALL.len()) + index
}

/// Place of the `index`-th of the kernels behind them.
pub(crate) const fn other_entry(index: usize) -> usize {
    reduce_entry(REDUCTIONS.len()) + index
}
