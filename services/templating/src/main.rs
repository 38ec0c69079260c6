//! The templating service as a process of its own.

use std::process::ExitCode;

use clap::Parser;
use steading_runtime::{args::CommonArgs, process};
use steading_templating::{Config, Deps, Service};

/// Steading's templating: instance types, preferences, images, machine templates.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    process::run("steading-templating", Args::parse().common, |process| async move {
        let deps = Deps {
            kube: process.kube().await?,
            clock: process.clock(),
        };
        let mut config = Config::default();
        config.lease = config.lease.client(process.lease_client().await?);
        config.server = process.server;
        Ok(Service::new(config, deps).run(process.listener, process.cancel).await?)
    })
}
