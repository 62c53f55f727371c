//! The one list of kernels. Dispatch, tests and benches all read it: a kernel that is not here does not exist.

use crate::conv::tile::TileFn;
use crate::row::{PoolFn, RowFn};
use crate::winograd_transform::{InputFn, OutputFn};
use crate::{Error, Isa};

/// The kernels of one instruction set.
pub struct KernelTable {
    pub(crate) isa: Isa,
    /// Indexed by blocks − 1, then pixels − 1.
    pub(crate) conv_tile: &'static [[TileFn; 6]],
    /// Indexed by pixels − 1.
    pub(crate) depthwise_tile: [TileFn; 6],
    pub(crate) winograd_f2: (InputFn, OutputFn),
    pub(crate) winograd_f4: (InputFn, OutputFn),
    pub(crate) pool_max: PoolFn,
    pub(crate) pool_mean: PoolFn,
    pub(crate) add: RowFn,
    pub(crate) clamp: RowFn,
    pub(crate) affine: RowFn,
    /// Independent chains of FMAs, for [`crate::peak`].
    pub(crate) fma_chain: unsafe fn(u64) -> f32,
    /// How many of them.
    pub(crate) fma_chains: usize,
}

/// A line of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kernel {
    /// `family-shape-isa`, for example `conv-6x64-avx512`.
    pub name: String,
    /// What it computes: `conv`, `depthwise`, `winograd_f2`, `winograd_f4`, `pool_max`, `pool_mean`, `add`, `clamp`, `affine`.
    pub family: &'static str,
    /// The instruction set.
    pub isa: Isa,
}

/// Instantiates every generic kernel for one vector type, inside functions with the given target features.
macro_rules! instantiate {
    ($(#[$features:meta])? $vector:ty, $isa:expr, blocks [$($blocks:literal),+], fma_chains $chains:literal) => {
        mod kernels {
            use super::*;
            use $crate::conv::tile::{self, TileArgs};
            use $crate::row::{self, PoolArgs, RowArgs};
            use $crate::winograd_transform::{self, F2, F4, InputArgs, OutputArgs};

            $crate::table::instantiate!(@kernel [$(#[$features])?] conv_tile<P, B>(args: &TileArgs) = tile::conv_tile::<$vector, P, B>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] depthwise_tile<P>(args: &TileArgs) = tile::depthwise_tile::<$vector, P>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] winograd_f2_input<>(args: &InputArgs) = winograd_transform::input::<$vector, F2>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] winograd_f2_output<>(args: &OutputArgs) = winograd_transform::output::<$vector, F2>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] winograd_f4_input<>(args: &InputArgs) = winograd_transform::input::<$vector, F4>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] winograd_f4_output<>(args: &OutputArgs) = winograd_transform::output::<$vector, F4>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] pool_max<>(args: &PoolArgs) = row::pool_max::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] pool_mean<>(args: &PoolArgs) = row::pool_mean::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] add<>(args: &RowArgs) = row::add::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] clamp<>(args: &RowArgs) = row::clamp::<$vector>);
            $crate::table::instantiate!(@kernel [$(#[$features])?] affine<>(args: &RowArgs) = row::affine::<$vector>);

            /// # Safety
            /// The processor has the instruction set.
            $(#[$features])?
            pub(super) unsafe fn fma_chain(rounds: u64) -> f32 {
                // SAFETY: the caller says that the instruction set is there.
                unsafe { $crate::peak::fma_chain::<$vector, $chains>(rounds) }
            }
        }

        /// The kernels of this instruction set.
        pub(crate) static TABLE: $crate::KernelTable = $crate::KernelTable {
            isa: $isa,
            conv_tile: &[$([
                kernels::conv_tile::<1, $blocks>, kernels::conv_tile::<2, $blocks>, kernels::conv_tile::<3, $blocks>,
                kernels::conv_tile::<4, $blocks>, kernels::conv_tile::<5, $blocks>, kernels::conv_tile::<6, $blocks>,
            ]),+],
            depthwise_tile: [
                kernels::depthwise_tile::<1>, kernels::depthwise_tile::<2>, kernels::depthwise_tile::<3>,
                kernels::depthwise_tile::<4>, kernels::depthwise_tile::<5>, kernels::depthwise_tile::<6>,
            ],
            winograd_f2: (kernels::winograd_f2_input, kernels::winograd_f2_output),
            winograd_f4: (kernels::winograd_f4_input, kernels::winograd_f4_output),
            pool_max: kernels::pool_max,
            pool_mean: kernels::pool_mean,
            add: kernels::add,
            clamp: kernels::clamp,
            affine: kernels::affine,
            fma_chain: kernels::fma_chain,
            fma_chains: $chains,
        };
    };
    (@kernel [$(#[$features:meta])?] $name:ident<$($generic:ident),*>($args:ident: $ty:ty) = $body:expr) => {
        /// # Safety
        /// As the generic kernel of the same name says.
        $(#[$features])?
        pub(super) unsafe fn $name<$(const $generic: usize),*>($args: $ty) {
            // SAFETY: the caller keeps the generic kernel's contract; the target features are those of the vector type.
            unsafe { $body($args) }
        }
    };
}
pub(crate) use instantiate;

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

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Most blocks of 16 output channels that a convolution tile has here.
    pub fn max_blocks(&self) -> usize {
        self.conv_tile.len()
    }

    /// Every kernel of this table.
    pub fn kernels(&self) -> Vec<Kernel> {
        let entry = |family: &'static str, shape: String| Kernel { name: format!("{family}{shape}-{}", self.isa), family, isa: self.isa };
        let mut list = Vec::new();
        for (blocks, row) in self.conv_tile.iter().enumerate() {
            list.extend((0..row.len()).map(|pixels| entry("conv", format!("-{}x{}", pixels + 1, 16 * (blocks + 1)))));
        }
        list.extend((0..self.depthwise_tile.len()).map(|pixels| entry("depthwise", format!("-{}x16", pixels + 1))));
        list.extend(
            ["winograd_f2", "winograd_f4", "pool_max", "pool_mean", "add", "clamp", "affine"].map(|family| entry(family, String::new())),
        );
        list
    }
}
