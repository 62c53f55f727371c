//! A convolution problem and its one spelling, `n1c64h56w56o64k3s1p1`: in tests, benches, logs and bug reports.

use crate::Error;

/// A 2-D cross-correlation: input `[N, C, H, W]`, weights `[OC, C/groups, KH, KW]`. Pairs are H, W.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConvProblem {
    /// N
    pub n: usize,
    /// C
    pub c: usize,
    /// H
    pub h: usize,
    /// W
    pub w: usize,
    /// OC
    pub oc: usize,
    /// KH, KW
    pub kernel: [usize; 2],
    /// Step between output pixels.
    pub stride: [usize; 2],
    /// Zeros around the input: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Step between kernel taps.
    pub dilation: [usize; 2],
    /// Groups; divides C and OC.
    pub groups: usize,
}

impl ConvProblem {
    /// Checks every number and every product of them.
    ///
    /// # Errors
    /// When a size or step is zero or a step overflows, groups do not divide the channels, the kernel is larger than the padded input, or a
    /// buffer or the number of multiplications overflows.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Problem { problem: self.to_string(), reason });
        let sizes = [self.n, self.c, self.h, self.w, self.oc, self.kernel[0], self.kernel[1], self.groups];
        if sizes.contains(&0) {
            return refuse("a size is zero".into());
        }
        if self.stride.contains(&0) || self.dilation.contains(&0) {
            return refuse("a stride or dilation is zero".into());
        }
        // Steps count elements of blocks, in bytes, also along an axis of one output, where none is made.
        if self.stride.iter().chain(&self.dilation).any(|step| *step > isize::MAX as usize / 64) {
            return refuse("a stride or dilation overflows".into());
        }
        if !self.c.is_multiple_of(self.groups) || !self.oc.is_multiple_of(self.groups) {
            return refuse(format!("{} groups do not divide {} and {} channels", self.groups, self.c, self.oc));
        }
        let product =
            |factors: &[usize]| factors.iter().try_fold(1usize, |p, &f| p.checked_mul(f)).filter(|&p| p <= isize::MAX as usize / 16);
        for (axis, size, name) in [(0, self.h, "height"), (1, self.w, "width")] {
            let extent = self.dilation[axis].checked_mul(self.kernel[axis] - 1).and_then(|e| e.checked_add(1));
            let padded = size.checked_add(self.pads[axis]).and_then(|p| p.checked_add(self.pads[axis + 2]));
            match (extent, padded) {
                (Some(extent), Some(padded)) if padded <= isize::MAX as usize / 16 => {
                    if extent > padded {
                        return refuse(format!("the kernel's {name} of {extent} is over the padded input's {padded}"));
                    }
                }
                _ => return refuse(format!("the {name} overflows")),
            }
        }
        let [oh, ow] = self.output();
        // Channels are padded to blocks of 16.
        let padded = |channels: usize| channels.checked_next_multiple_of(16);
        let (Some(c), Some(oc)) = (padded(self.c), padded(self.oc)) else { return refuse("the channels overflow".into()) };
        let window = [self.c / self.groups, self.kernel[0], self.kernel[1]];
        if product(&[self.n, c, self.h, self.w]).is_none()
            || product(&[self.n, oc, oh, ow]).is_none()
            || product(&[oc, c, window[1], window[2]]).is_none()
            || product(&[self.n, self.oc, oh, ow, window[0], window[1], window[2]]).is_none()
        {
            return refuse("the product of its sizes overflows".into());
        }
        Ok(())
    }

    /// OH, OW. Of a problem that [`ConvProblem::validate`] refuses, it is zero where no window fits or a step is zero, and what overflows
    /// counts as the largest number there is.
    pub fn output(&self) -> [usize; 2] {
        let size = |axis: usize, input: usize| {
            let padded = input.saturating_add(self.pads[axis]).saturating_add(self.pads[axis + 2]);
            let steps = padded.checked_sub(self.extent(axis)).filter(|_| self.kernel[axis] > 0)?.checked_div(self.stride[axis])?;
            Some(steps.saturating_add(1))
        };
        [size(0, self.h).unwrap_or(0), size(1, self.w).unwrap_or(0)]
    }

    /// Rows or columns from a window's first tap to its last, with both.
    pub(super) fn extent(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel[axis].saturating_sub(1)).saturating_add(1)
    }

    /// Multiply-accumulates; of a problem that [`ConvProblem::validate`] refuses, as [`ConvProblem::output`] says.
    pub fn macs(&self) -> u64 {
        let [oh, ow] = self.output();
        let [kh, kw] = self.kernel;
        [self.n, self.oc, oh, ow, self.width(), kh, kw].into_iter().fold(1, |product, size| product.saturating_mul(size as u64))
    }

    /// Elements of the weights `[OC, C/groups, KH, KW]`; of a problem that [`ConvProblem::validate`] refuses, as [`ConvProblem::output`]
    /// says.
    pub fn weight_len(&self) -> usize {
        let [kh, kw] = self.kernel;
        [self.oc, self.width(), kh, kw].into_iter().fold(1, usize::saturating_mul)
    }

    /// Channels that an output channel is computed from.
    fn width(&self) -> usize {
        self.c.checked_div(self.groups).unwrap_or(0)
    }

    /// True when each channel is a group of its own and keeps its width.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.c && self.groups == self.oc
    }

    /// Input and output channels of a group.
    pub(crate) fn group_channels(&self) -> [usize; 2] {
        [self.c, self.oc].map(|channels| channels / self.groups)
    }
}

impl std::fmt::Display for ConvProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pair = |[a, b]: [usize; 2]| if a == b { a.to_string() } else { format!("{a}x{b}") };
        write!(f, "n{}c{}h{}w{}o{}", self.n, self.c, self.h, self.w, self.oc)?;
        write!(f, "k{}s{}", pair(self.kernel), pair(self.stride))?;
        let [t, l, b, r] = self.pads;
        if t == b && l == r {
            write!(f, "p{}", pair([t, l]))?
        } else {
            write!(f, "p{t}x{l}x{b}x{r}")?
        }
        if self.dilation != [1, 1] {
            write!(f, "d{}", pair(self.dilation))?;
        }
        if self.groups != 1 {
            write!(f, "g{}", self.groups)?;
        }
        Ok(())
    }
}

impl std::str::FromStr for ConvProblem {
    type Err = Error;

    /// Reads what [`Display`](std::fmt::Display) writes: letters in the order `n c h w o k s p d g`, each with a number;
    /// `k`, `s`, `p`, `d` may have two (H×W) and `p` four (top×left×bottom×right), joined by `x`. `n` and `s` default to 1,
    /// `p` to 0, `d` and `g` to 1.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Problem { problem: text.into(), reason };
        let mut fields: [Option<Vec<usize>>; 10] = Default::default();
        let mut rest = text.trim();
        while let Some(letter) = rest.chars().next() {
            let index = "nchwokspdg".find(letter).ok_or_else(|| refuse(format!("unknown letter `{letter}`")))?;
            let end = rest[1..].find(|c: char| !c.is_ascii_digit() && c != 'x').map_or(rest.len(), |e| e + 1);
            let numbers: Option<Vec<usize>> = rest[1..end].split('x').map(|v| v.parse().ok()).collect();
            let numbers = numbers.ok_or_else(|| refuse(format!("`{}` is not a number", &rest[..end])))?;
            if fields[index].replace(numbers).is_some() {
                return Err(refuse(format!("`{letter}` is there twice")));
            }
            rest = &rest[end..];
        }
        let one = |index: usize, default: Option<usize>| match (&fields[index], default) {
            (Some(v), _) if v.len() == 1 => Ok(v[0]),
            (None, Some(d)) => Ok(d),
            (Some(_), _) => Err(refuse(format!("`{}` takes one number", &"nchwokspdg"[index..=index]))),
            (None, None) => Err(refuse(format!("`{}` is missing", &"nchwokspdg"[index..=index]))),
        };
        let two = |index: usize, default: Option<usize>| match &fields[index] {
            Some(v) if v.len() == 2 => Ok([v[0], v[1]]),
            _ => one(index, default).map(|v| [v, v]),
        };
        let pads = match &fields[7] {
            Some(v) if v.len() == 4 => [v[0], v[1], v[2], v[3]],
            _ => two(7, Some(0)).map(|[h, w]| [h, w, h, w])?,
        };
        let problem = ConvProblem {
            n: one(0, Some(1))?,
            c: one(1, None)?,
            h: one(2, None)?,
            w: one(3, None)?,
            oc: one(4, None)?,
            kernel: two(5, None)?,
            stride: two(6, Some(1))?,
            pads,
            dilation: two(8, Some(1))?,
            groups: one(9, Some(1))?,
        };
        problem.validate()?;
        Ok(problem)
    }
}
