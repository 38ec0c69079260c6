//! The lifecycle service as a process of its own.

use clap::Parser;
use steading_lifecycle::{Config, Deps, Peers, Service, config::Args};
use steading_runtime::process;

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let (common, peers, load_balancers) = (args.common, args.peers, args.load_balancers);
    process::run("steading-lifecycle", common, |process| async move {
        let mut config = Config {
            server: process.server.clone(),
            load_balancers: load_balancers.clone(),
            ..Config::default()
        };
        config.lease = config.lease.client(process.lease_client().await?);
        let deps = Deps::new(process.kube().await?, process.clock(), Peers::connect(&peers)?);
        Ok(Service::new(config, deps).run(process.listener, process.cancel).await?)
    })
}
