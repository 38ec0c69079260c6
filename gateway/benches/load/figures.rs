//! The table.

use std::{collections::BTreeMap, fmt};

use serde_json::{Value, json};

use crate::{
    client::{Case, Sample},
    gateways::Name,
};

const MIB: f64 = 1024.0 * 1024.0;

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    idle: BTreeMap<Name, u64>,
    samples: BTreeMap<(Case, Name), Vec<Sample>>,
}

/// The rounds of one gateway and one case, as their middle.
#[derive(Debug, Clone, Copy)]
struct Row {
    rate: f64,
    microseconds: f64,
    latency: f64,
    size: usize,
    memory: u64,
}

impl Figures {
    /// Notes the memory before any request.
    pub(crate) fn idle(&mut self, name: Name, bytes: u64) {
        self.idle.insert(name, bytes);
    }

    /// Notes a run.
    pub(crate) fn add(&mut self, name: Name, case: Case, sample: Sample) {
        self.samples.entry((case, name)).or_default().push(sample);
    }

    fn row(&self, case: Case, name: Name) -> Option<Row> {
        let samples = self.samples.get(&(case, name))?;
        let middle = |of: fn(&Sample) -> f64| {
            let mut all: Vec<f64> = samples.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        let last = samples.last()?;
        Some(Row {
            rate: middle(|sample| sample.count as f64 / sample.took.as_secs_f64()),
            microseconds: middle(|sample| sample.processor.as_secs_f64() * 1e6 / (sample.count + sample.warm) as f64),
            latency: middle(|sample| sample.latency.as_secs_f64() * 1e3),
            size: last.size,
            memory: last.memory,
        })
    }

    fn rows(&self) -> impl Iterator<Item = (Case, Name, Row)> + '_ {
        let keys = self.samples.keys();
        keys.filter_map(|(case, name)| Some((*case, *name, self.row(*case, *name)?)))
    }

    /// The same as the table, for programs.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows().map(|(case, name, row)| {
            json!({
                "case": case.to_string(), "gateway": name.to_string(), "perSecond": row.rate,
                "processorMicroseconds": row.microseconds, "latencyMilliseconds": row.latency,
                "bodyBytes": row.size, "memoryBytes": row.memory,
            })
        });
        let idle = self
            .idle
            .iter()
            .map(|(name, bytes)| json!({ "gateway": name.to_string(), "memoryBytes": bytes }));
        json!({ "cases": rows.collect::<Vec<_>>(), "idle": idle.collect::<Vec<_>>() })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<6} {:<17} {:>10} {:>8} {:>10} {:>9} {:>9} {:>9}",
            "CASE", "GATEWAY", "PER SECOND", "RATIO", "CPU µs", "MEDIAN ms", "BODY B", "RSS MiB"
        )?;
        for (case, name, row) in self.rows() {
            let own = self.row(case, Name::Steading).map_or(row.rate, |own| own.rate);
            writeln!(
                f,
                "{case:<6} {name:<17} {:>10.0} {:>8.2} {:>10.1} {:>9.2} {:>9} {:>9.1}",
                row.rate,
                own / row.rate,
                row.microseconds,
                row.latency,
                row.size,
                row.memory as f64 / MIB
            )?;
        }
        writeln!(
            f,
            "RATIO: Steading's rate to this one's. CPU: the gateway's processor time a reply or event. The backend paces watches: what they cost is CPU."
        )?;
        for (name, bytes) in &self.idle {
            writeln!(f, "idle: {name:<17} {:.1} MiB", *bytes as f64 / MIB)?;
        }
        Ok(())
    }
}
