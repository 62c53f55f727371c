//! `isa`: what this processor can do.

use crate::output::{Done, Output, lines, table};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use stridewise::Isa;
use stridewise_kernels::KernelTable;
use stridewise_kernels::peak::measure_fma_peak;

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

#[derive(Serialize)]
struct Entry {
    name: &'static str,
    available: bool,
    /// FMA peak of one core.
    peak_gflops: Option<f64>,
    kernels: Vec<String>,
    #[serde(skip)]
    families: String,
}

impl ShowIsa {
    pub fn execute(self, output: &Output) -> Done {
        let best = Isa::best()?.name();
        let mut isas = Vec::new();
        for isa in Isa::ALL {
            let mut entry =
                Entry { name: isa.name(), available: isa.is_available(), peak_gflops: None, kernels: Vec::new(), families: String::new() };
            if entry.available {
                let kernels = KernelTable::get(isa)?.kernels();
                let mut families = BTreeMap::<&str, usize>::new();
                kernels.iter().for_each(|k| *families.entry(k.family).or_default() += 1);
                let named = families.iter().map(|(family, &n)| if n == 1 { family.to_string() } else { format!("{n} {family}") });
                entry.families = named.collect::<Vec<_>>().join(", ");
                entry.kernels = kernels.into_iter().map(|k| k.name).collect();
                entry.peak_gflops = Some(measure_fma_peak(isa)? / 1e9);
            }
            isas.push(entry);
        }
        let report = Report { best, stridewise_isa: std::env::var("STRIDEWISE_ISA").ok(), isas };
        output.print(&report, || report.text(self.kernels))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Report {
    fn text(&self, list: bool) -> String {
        let mut table = table(&["instruction set", "here", ">f32 FMA peak, one core", "kernels"]);
        for isa in &self.isas {
            let here = match (isa.available, isa.name == self.best) {
                (true, true) => "used",
                (true, false) => "yes",
                (false, _) => "no",
            };
            let peak = isa.peak_gflops.map_or_else(String::new, |p| format!("{p:.1} GFLOP/s"));
            table.add_row([isa.name, here, &peak, &isa.families]);
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
