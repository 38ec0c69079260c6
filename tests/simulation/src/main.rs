//! `cargo xtask simulate`: runs histories from seeds and tells what they came to.

#![allow(clippy::print_stdout, reason = "a tool for people talks on stdout")]

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use steading_simulation::history::{Broken, Course, of_seed, run, shrink};

/// Run seeded histories of the whole system against its promises.
#[derive(Parser)]
#[command(name = "cargo xtask simulate")]
struct Args {
    /// Number of histories.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Steps of each history before the weather turns fair.
    #[arg(long, default_value_t = 400)]
    steps: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Show the steps of the seed's history that are needed to break its promise.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let (next, done, stop) = (AtomicU64::new(args.from), AtomicU64::new(0), AtomicBool::new(false));
    let end = args.from.saturating_add(args.seeds);
    let total = Mutex::new(Course::default());
    let broken: Mutex<Option<(u64, Broken)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let (climate, steps) = of_seed(seed, args.steps);
                    match run(climate, &steps) {
                        Ok(course) => {
                            if let Ok(mut total) = total.lock() {
                                total.steps += course.steps;
                                total.faults += course.faults;
                                total.rounds += course.rounds;
                            }
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(found) => {
                            if let Ok(mut broken) = broken.lock()
                                && broken.as_ref().is_none_or(|(first, _)| seed < *first)
                            {
                                *broken = Some((seed, found));
                            }
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        let mut told = Instant::now();
        while !stop.load(Ordering::Relaxed) && done.load(Ordering::Relaxed) < args.seeds {
            std::thread::sleep(Duration::from_millis(20));
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                println!("    {} of {} histories", done.load(Ordering::Relaxed), args.seeds);
            }
        }
    });
    let course = total.lock().map(|total| *total).unwrap_or_default();
    let runs = done.load(Ordering::Relaxed);
    println!(
        "{runs} histories, {} steps, {} faults, {} rounds of fair weather, {:.1} s",
        course.steps,
        course.faults,
        course.rounds,
        began.elapsed().as_secs_f64()
    );
    let found = broken.lock().ok().and_then(|mut broken| broken.take());
    let Some((seed, found)) = found else {
        println!("0 broken promises");
        return ExitCode::SUCCESS;
    };
    tell(seed, &found, args.steps);
    ExitCode::FAILURE
}

fn tell(seed: u64, found: &Broken, length: usize) {
    println!(
        "seed {seed} breaks a promise after {} steps: {}",
        found.at, found.promise
    );
    let (climate, steps) = of_seed(seed, length);
    let short = shrink(climate, &steps, found);
    println!("the shortest history found that does, with {climate:?}:");
    for step in &short {
        println!("    {step:?}");
    }
    println!("again: cargo xtask simulate --seeds 1 --from {seed}");
}
