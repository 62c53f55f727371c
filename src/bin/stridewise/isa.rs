//! `isa`: what this processor can do.

use crate::output::{Done, Output, lines, table};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use stridewise::Isa;
use stridewise_kernels::KernelTable;
use stridewise_kernels::peak::{measure_bf16_peak, measure_fma_peak, measure_int8_peak};

/// Show which instruction sets this processor has, their kernels and their measured peak
#[derive(Args)]
#[command(after_help = "STRIDEWISE_ISA=NAME sets the instruction set of every command where --isa does not.")]
pub struct ShowIsa {
    /// List every kernel by name
    #[arg(long)]
    kernels: bool,
}

#[derive(Serialize)]
struct Report {
    best: &'static str,
    stridewise_isa: Option<String>,
    isas: Vec<Entry>,
}

#[derive(Default, Serialize)]
struct Entry {
    name: &'static str,
    available: bool,
    /// FMA peak of one core.
    peak_gflops: Option<f64>,
    /// The same of products of bfloat16, and of bytes.
    peak_bf16_gflops: Option<f64>,
    peak_int8_gops: Option<f64>,
    kernels: Vec<String>,
    #[serde(skip)]
    families: String,
}

impl ShowIsa {
    pub fn execute(self, output: &Output) -> Done {
        let best = Isa::best()?.name();
        let mut isas = Vec::new();
        for isa in Isa::ALL {
            let mut entry = Entry { name: isa.name(), available: isa.is_available(), ..Entry::default() };
            if entry.available {
                let table = KernelTable::get(isa)?;
                let mut kernels = table.kernels();
                kernels.extend(table.bf16()?.kernels());
                kernels.extend(table.int8()?.kernels());
                entry.peak_bf16_gflops = Some(measure_bf16_peak(table.bf16()?) / 1e9);
                entry.peak_int8_gops = Some(measure_int8_peak(table.int8()?) / 1e9);
                let mut families = BTreeMap::<&str, usize>::new();
                kernels.iter().for_each(|k| *families.entry(k.family).or_default() += 1);
                let named = families.iter().map(|(family, &n)| if n == 1 { family.to_string() } else { format!("{n} {family}") });
                entry.families = named.collect::<Vec<_>>().join(", ");
                entry.kernels = kernels.into_iter().map(|k| k.name).collect();
                entry.peak_gflops = Some(measure_fma_peak(isa)? / 1e9);
            }
            isas.push(entry);
        }
        let report = Report { best, stridewise_isa: std::env::var("STRIDEWISE_ISA").ok().filter(|name| !name.is_empty()), isas };
        output.print(&report, || report.text(self.kernels))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Report {
    fn text(&self, list: bool) -> String {
        let mut table = table(&["instruction set", "here", ">peak of one core: f32", ">bf16", ">int8", "kernels"]);
        for isa in &self.isas {
            let here = match (isa.available, isa.name == self.best) {
                (true, true) => "used",
                (true, false) => "yes",
                (false, _) => "no",
            };
            let rate = |peak: Option<f64>, unit: &str| peak.map_or_else(String::new, |p| format!("{p:.1} {unit}"));
            let peaks = [rate(isa.peak_gflops, "GFLOP/s"), rate(isa.peak_bf16_gflops, "GFLOP/s"), rate(isa.peak_int8_gops, "Gop/s")];
            table.add_row([isa.name, here, &peaks[0], &peaks[1], &peaks[2], &isa.families]);
        }
        let mut text = lines(&table);
        if let Some(name) = &self.stridewise_isa {
            text += &format!("\nSTRIDEWISE_ISA={name} is set\n");
        }
        if list {
            for isa in self.isas.iter().filter(|isa| isa.available) {
                text += &format!("\n{}\n", isa.name);
                isa.kernels.iter().for_each(|kernel| text += &format!("  {kernel}\n"));
            }
        }
        text
    }
}
