//! The gateway under load, beside others that do the same: Envoy and grpc-gateway.
//!
//! ```sh
//! cargo bench -p steading-gateway --bench load -- [--seconds N] [--rounds N] [--watchers N] [--only NAME]… [--json]
//! ```
//!
//! ```text
//! client, 16 connections ──HTTP/1.1, JSON──► gateway (a core of its own) ──gRPC──► backend
//!     (core 1)                                     (core 0)                       (core 1)
//! ```
//!
//! All run in one go, in turns, on the same backend, which answers from memory; so ratios hold where absolute figures depend on the
//! machine. A peer that cannot be had here (Envoy comes from the Python package index, grpc-gateway is built with Go) is left out, and
//! said to be.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a benchmark prints its figures; no count comes near 2^52"
)]

mod backend;
mod client;
mod contract;
mod figures;
mod gateways;
mod generate;
mod process;

use std::net::SocketAddr;

use anyhow::{Context as _, bail};

use self::{
    client::{Case, Sample},
    figures::Figures,
    gateways::{Name, Running},
};

/// What to measure.
#[derive(Debug, Clone)]
struct Options {
    seconds: u32,
    rounds: u32,
    watchers: u32,
    only: Vec<Name>,
    json: bool,
}

/// What this process is: it starts itself in other roles, so that each can have its own core.
enum Role {
    Measure(Options),
    Backend,
    Client {
        server: SocketAddr,
        case: Case,
        seconds: u32,
        width: u32,
    },
}

/// `--bench` is what `cargo bench` adds; without it a short run only shows that the benchmark works.
fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Role> {
    let (mut seconds, mut full) = (None, false);
    let mut options = Options {
        seconds: 0,
        rounds: 3,
        watchers: 1000,
        only: Vec::new(),
        json: false,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} takes a value"));
        match argument.as_str() {
            "backend" => return Ok(Role::Backend),
            "client" => {
                return Ok(Role::Client {
                    server: value()?.parse()?,
                    case: value()?.parse()?,
                    seconds: value()?.parse()?,
                    width: value()?.parse()?,
                });
            }
            "--seconds" => seconds = Some(value()?.parse()?),
            "--rounds" => options.rounds = value()?.parse()?,
            "--watchers" => options.watchers = value()?.parse()?,
            "--only" => options.only.push(value()?.parse()?),
            "--json" => options.json = true,
            "--bench" => full = true,
            other => bail!("unknown argument {other}"),
        }
    }
    options.seconds = seconds.unwrap_or(if full { 5 } else { 1 });
    Ok(Role::Measure(options))
}

fn main() -> anyhow::Result<()> {
    let role = parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Measure(options) => measure(&options).await,
            Role::Backend => backend::serve().await,
            Role::Client {
                server,
                case,
                seconds,
                width,
            } => client::run(server, case, seconds, width).await,
        }
    })
}

async fn measure(options: &Options) -> anyhow::Result<()> {
    let mut backend = process::itself(process::Core::Others, &["backend"])?;
    let upstream = backend.address()?;
    let mut figures = Figures::default();
    let mut running = Vec::new();
    for name in Name::ALL {
        if !options.only.is_empty() && !options.only.contains(&name) {
            continue;
        }
        match gateways::start(name, upstream).await {
            Ok(gateway) => running.push(gateway),
            Err(error) => eprintln!("{name} is left out: {error:#}"),
        }
    }
    for gateway in &running {
        figures.idle(gateway.name, gateway.process.memory()?);
    }
    // In turns, so that what else the machine does falls on all of them.
    for round in 1..=options.rounds {
        for case in Case::UNARY {
            for gateway in &running {
                eprintln!("round {round} of {}: {case} through {}", options.rounds, gateway.name);
                figures.add(
                    gateway.name,
                    case,
                    sample(gateway, case, options.seconds, client::CONNECTIONS)?,
                );
            }
        }
    }
    for gateway in &running {
        eprintln!("{} watchers through {}", options.watchers, gateway.name);
        let sample = sample(gateway, Case::Watch, options.seconds, options.watchers)?;
        figures.add(gateway.name, Case::Watch, sample);
    }
    if options.json {
        println!("{}", figures.json());
    } else {
        print!("{figures}");
    }
    Ok(())
}

/// One run of the client, with the processor time that the gateway took meanwhile.
fn sample(gateway: &Running, case: Case, seconds: u32, width: u32) -> anyhow::Result<Sample> {
    let arguments = [
        gateway.address.to_string(),
        case.to_string(),
        seconds.to_string(),
        width.to_string(),
    ];
    let arguments: Vec<&str> = ["client"]
        .into_iter()
        .chain(arguments.iter().map(String::as_str))
        .collect();
    let before = gateway.process.processor_time()?;
    let said = process::itself(process::Core::Others, &arguments)?.next_line()?;
    let mut sample: Sample = serde_json::from_str(&said).with_context(|| said.clone())?;
    sample.processor = gateway.process.processor_time()?.saturating_sub(before);
    sample.memory = gateway.process.memory()?;
    Ok(sample)
}
