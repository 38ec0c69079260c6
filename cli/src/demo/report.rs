//! What the demonstration shows: lines and a live status for people, one JSON event a line for scripts.

use std::{
    fmt::Display,
    io::IsTerminal,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};

use crate::output::out::{self, OutputError};

/// The result of the demonstration.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Whether every check held.
    pub ok: bool,
    /// Machines at the end.
    pub machines: usize,
    /// Machines that the drain moved.
    pub moved: usize,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Summary {
    /// Adds another check.
    pub fn add(&mut self, check: Check) {
        self.ok &= check.ok;
        self.checks.push(check);
    }
}

/// One thing that must hold at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What, for programs.
    pub id: &'static str,
    /// What, in words.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// Where the demonstration tells its story.
pub struct Report {
    form: Form,
    started: Instant,
    step: Mutex<(String, Instant)>,
    /// Why nothing more is printed.
    broken: Mutex<Option<OutputError>>,
}

enum Form {
    Json,
    Human { bar: ProgressBar },
    Silent { on_step: Box<dyn Fn(&str) + Send + Sync> },
}

impl Report {
    /// For people, or as JSON events.
    pub fn new(json: bool) -> Self {
        let form = if json {
            Form::Json
        } else {
            Form::Human { bar: live_bar() }
        };
        let now = Instant::now();
        Self {
            form,
            started: now,
            step: Mutex::new((String::new(), now)),
            broken: Mutex::new(None),
        }
    }

    /// For a program that wants to act at certain steps: prints nothing, and calls `on_step` with each step's id.
    pub fn silent(on_step: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let now = Instant::now();
        let form = Form::Silent {
            on_step: Box::new(on_step),
        };
        Self {
            form,
            started: now,
            step: Mutex::new((String::new(), now)),
            broken: Mutex::new(None),
        }
    }

    /// A step begins.
    pub fn step(&self, id: &str, title: &str) {
        if let Ok(mut step) = self.step.lock() {
            *step = (id.to_owned(), Instant::now());
        }
        match &self.form {
            Form::Json => self.event("started", json!({ "title": title })),
            Form::Silent { on_step } => on_step(id),
            Form::Human { bar } => {
                self.print(bar, &format!("● {title}"));
                bar.set_message("…");
            }
        }
    }

    /// Something moved within the step.
    pub fn progress(&self, text: &str) {
        match &self.form {
            Form::Json => self.event("progress", json!({ "text": text })),
            Form::Silent { .. } => tracing::debug!(text, "progress"),
            Form::Human { bar } if bar.is_hidden() => self.line(format_args!("  … {text}")),
            Form::Human { bar } => bar.set_message(text.to_owned()),
        }
    }

    /// The step is done.
    pub fn done(&self, text: &str) {
        let elapsed = self.step.lock().map(|s| s.1.elapsed()).unwrap_or_default();
        match &self.form {
            Form::Json => self.event("done", json!({ "text": text, "seconds": elapsed.as_secs_f64() })),
            Form::Silent { .. } => {}
            Form::Human { bar } => self.print(bar, &format!("  ✓ {text}  ({:.1}s)", elapsed.as_secs_f64())),
        }
    }

    /// Lines that belong to the step, such as a table.
    pub fn block(&self, name: &str, data: &Value, text: &str) {
        match &self.form {
            Form::Json => self.event(name, data.clone()),
            Form::Silent { .. } => {}
            Form::Human { bar } => text.lines().for_each(|line| self.print(bar, &format!("    {line}"))),
        }
    }

    /// A remark.
    pub fn note(&self, text: &str) {
        match &self.form {
            Form::Json => self.event("note", json!({ "text": text })),
            Form::Silent { .. } => {}
            Form::Human { bar } => self.print(bar, text),
        }
    }

    /// Counted figures.
    pub fn figures(&self, title: &str, figures: &Value) {
        let text = match figures {
            Value::Object(all) => all
                .iter()
                .map(|(k, v)| format!("{k} {v}"))
                .collect::<Vec<_>>()
                .join(", "),
            other => other.to_string(),
        };
        self.block(
            "figures",
            &json!({ "title": title, "figures": figures }),
            &format!("{title}: {text}"),
        );
    }

    /// The end. Says whether all is well.
    pub fn summary(&self, summary: &Summary) -> bool {
        match &self.form {
            Form::Json => self.print_summary(summary),
            Form::Silent { .. } => {}
            Form::Human { bar } => {
                bar.finish_and_clear();
                self.line("");
                for check in &summary.checks {
                    let mark = if check.ok { "✓" } else { "✗" };
                    self.line(format_args!("{mark} {}: {}", check.name, check.detail));
                }
                let verdict = if summary.ok { "nothing was lost" } else { "FAILED" };
                self.line(format_args!(
                    "\n{verdict}; {} machines moved in {:.1}s overall",
                    summary.moved,
                    self.started.elapsed().as_secs_f64()
                ));
            }
        }
        summary.ok
    }

    /// The end, when a step could not be done.
    pub fn failure(&self, error: &anyhow::Error) -> bool {
        match &self.form {
            Form::Json => {
                let step = self.step.lock().map(|s| s.0.clone()).unwrap_or_default();
                self.line(json!({ "summary": { "ok": false, "step": step, "error": format!("{error:#}") } }));
            }
            Form::Silent { .. } => {}
            Form::Human { bar } => {
                bar.finish_and_clear();
                self.line(format_args!("✗ {error:#}"));
            }
        }
        false
    }

    fn print_summary(&self, summary: &Summary) {
        let mut value = serde_json::to_value(summary).unwrap_or_default();
        value["seconds"] = json!(self.started.elapsed().as_secs_f64());
        self.line(json!({ "summary": value }));
    }

    fn print(&self, bar: &ProgressBar, line: &str) {
        if bar.is_hidden() {
            self.line(line)
        } else {
            bar.println(line)
        }
    }

    /// Prints a line, unless an earlier one could not be printed.
    fn line(&self, text: impl Display) {
        let Ok(mut broken) = self.broken.lock() else { return };
        if broken.is_none() {
            *broken = out::line(text).err();
        }
    }

    /// Whether all of it could be printed.
    ///
    /// # Errors
    /// A line could not.
    pub fn finish(&self) -> Result<(), OutputError> {
        match self.broken.lock().ok().and_then(|mut broken| broken.take()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn event(&self, event: &str, data: Value) {
        let step = self.step.lock().map(|s| s.0.clone()).unwrap_or_default();
        let at = self.started.elapsed().as_secs_f64();
        self.line(json!({ "seconds": at, "step": step, "event": event, "data": data }));
    }
}

fn live_bar() -> ProgressBar {
    if !std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, indicatif::ProgressDrawTarget::stdout());
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
