//! `evaluate`: accuracy over a labelled set.

use crate::args::{ModelArgs, TunedRunArgs, from_one};
use crate::images::{Images, check_batch};
use crate::output::{Done, Failure, Output, count, duration, grouped};
use crate::progress::Progress;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use stridewise::Error;
use stridewise::tensor::npy::NpyTensor;

/// Measure top-1 and top-5 accuracy over a labelled set of images
#[derive(Args)]
#[command(after_help = "Example:\n  stridewise evaluate --images test_x.npy --labels test_y.npy")]
pub struct Evaluate {
    /// Images [N, C, H, W]: uint8 pixels, which are normalised as the model wants it, or float32 as the network reads them
    #[arg(long, value_name = "X.npy")]
    images: PathBuf,
    /// Classes [N], integers
    #[arg(long, value_name = "Y.npy")]
    labels: PathBuf,
    /// Images that run at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = from_one())]
    batch: u32,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: TunedRunArgs,
}

#[derive(Serialize)]
struct Report {
    model: String,
    isa: String,
    threads: usize,
    images: usize,
    classes: usize,
    top1_right: usize,
    top1: f64,
    top5_right: usize,
    top5: f64,
    seconds: f64,
    images_per_second: f64,
}

impl Evaluate {
    pub fn execute(self, output: &Output) -> Done {
        let model = self.model.load()?;
        let images = Images::open(&self.images, &model)?;
        let batch = images.len().min(self.batch as usize);
        let mut session = model.session(&self.run.options(batch, Some(images.size()))?)?;
        let shape = session.output_shape();
        check_batch(shape.dims(), batch)?;
        let classes = match *shape.dims() {
            [_, classes, ref rest @ ..] if rest.iter().all(|dim| *dim == 1) => classes,
            _ => {
                let (what, expected) = ("the network's output".into(), "[N, classes]".into());
                return Err(Error::Shape { what, expected, found: shape.to_string() }.into());
            }
        };
        let labels = read_labels(&self.labels, images.len(), classes)?;
        let mut progress = Progress::new(output, images.len() as u64, "images");
        let (mut top1, mut top5, mut seconds) = (0, 0, 0.0);
        for range in images.batches(batch) {
            let input = images.batch(range.clone())?;
            let start = Instant::now();
            let logits = session.run(&input)?;
            seconds += start.elapsed().as_secs_f64();
            for (row, &label) in logits.as_slice().chunks_exact(classes).zip(&labels[range.clone()]) {
                if let Some(rank) = rank(row, label) {
                    top1 += usize::from(rank < 1);
                    top5 += usize::from(rank < 5);
                }
            }
            progress.add(range.len() as u64);
            progress.say(format!("top-1 {:.2} %", 100.0 * top1 as f64 / range.end as f64));
        }
        drop(progress);
        let n = images.len();
        let report = Report {
            model: self.model.describe(&model),
            isa: session.isa().to_string(),
            threads: session.threads(),
            images: n,
            classes,
            top1_right: top1,
            top1: top1 as f64 / n as f64,
            top5_right: top5,
            top5: top5 as f64 / n as f64,
            seconds,
            images_per_second: n as f64 / seconds,
        };
        output.print(&report, || {
            format!(
                "{} on {}, {}\ntop-1  {:.2} %  ({} of {})\ntop-5  {:.2} %  ({} of {})\n{} in {}: {:.0} images/s\n",
                report.model,
                report.isa,
                count(report.threads, "thread"),
                100.0 * report.top1,
                grouped(top1 as u64),
                grouped(n as u64),
                100.0 * report.top5,
                grouped(top5 as u64),
                grouped(n as u64),
                count(n, "image"),
                duration(seconds),
                report.images_per_second
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn read_labels(path: &Path, images: usize, classes: usize) -> Result<Vec<usize>, Failure> {
    let file = NpyTensor::read(path)?;
    let what = path.display().to_string();
    if file.dims() != [images] {
        return Err(
            Error::Shape { what, expected: format!("[{images}], a class for each image"), found: format!("{:?}", file.dims()) }.into()
        );
    }
    let Some(labels) = file.to_i64()? else {
        return Err(Error::DType { what, expected: "integers".into(), found: file.dtype().into() }.into());
    };
    let class = |(index, &label): (usize, &i64)| match usize::try_from(label) {
        Ok(class) if class < classes => Ok(class),
        _ => Err(Error::InvalidArgument {
            argument: what.clone(),
            reason: format!("label {index} is {label}; the network has classes 0 to {}", classes.saturating_sub(1)),
        }),
    };
    Ok(labels.as_slice().iter().enumerate().map(class).collect::<Result<_, _>>()?)
}

/// How many classes come before this one; none when a logit is NaN.
fn rank(logits: &[f32], class: usize) -> Option<usize> {
    let own = *logits.get(class)?;
    if logits.iter().any(|x| x.is_nan()) {
        return None;
    }
    // Of equal logits the first counts as the larger, as in `argmax`.
    Some(logits.iter().enumerate().filter(|&(other, &x)| x > own || (x == own && other < class)).count())
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn ranks_count_larger_logits_and_earlier_equal_ones() {
        let logits = [1.0, 3.0, 3.0, -2.0];
        assert_eq!([0, 1, 2, 3].map(|class| rank(&logits, class)), [Some(2), Some(0), Some(1), Some(3)]);
        assert_eq!(rank(&[0.0, f32::NAN], 0), None);
        assert_eq!(rank(&[0.0], 1), None);
    }
}
