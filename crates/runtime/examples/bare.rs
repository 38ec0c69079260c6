//! A process with a server that serves nothing but health and reflection: the least that a `main.rs` is.
//!
//! `cargo run -p steading-runtime --example bare -- --insecure-dev-mode --listen 127.0.0.1:7443`

use std::process::ExitCode;

use clap::Parser;
use steading_runtime::{args::CommonArgs, process, server::GrpcServer};

/// Serves health and reflection.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    process::run("steading-bare", Args::parse().common, |process| async move {
        let server = GrpcServer::builder("steading-bare").config(process.server);
        Ok(server.run(process.listener, process.cancel).await?)
    })
}
