//! What a service's `main.rs` hands over to.
//!
//! ```no_run
//! # use clap::Parser;
//! # #[derive(Parser)] struct Args { #[command(flatten)] common: steading_runtime::args::CommonArgs }
//! fn main() -> std::process::ExitCode {
//!     let args = Args::parse();
//!     steading_runtime::process::run("steading-example", args.common, |process| async move {
//!         let kube = process.kube().await?;
//!         // Service::new(config, Deps { kube, clock: process.clock() }).run(process.listener, process.cancel).await?
//!         Ok(())
//!     })
//! }
//! ```

use std::{error::Error, future::Future, net::SocketAddr, process::ExitCode};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{Admin, Readiness},
    args::CommonArgs,
    auth::Reach,
    clock::Clock,
    kube::KubeError,
    metrics::Metrics,
    server::{Limits, ServerConfig},
    shutdown,
    tasks::{Chain, TaskGroup},
    telemetry,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// What a process has set up for its service.
#[derive(Debug)]
pub struct Process {
    /// The process's name: user agent, service name of traces.
    pub name: String,
    /// The arguments that all processes have.
    pub args: CommonArgs,
    /// The port that clients see, bound and not yet served.
    pub listener: TcpListener,
    /// Cancelled when the process should end.
    pub cancel: CancellationToken,
    /// Authentication, limits, metrics and readiness for the servers of the process.
    pub server: ServerConfig,
}

impl Process {
    /// A client of the infra cluster that the arguments name.
    ///
    /// # Errors
    /// If it cannot be made. Nothing is connected yet.
    pub async fn kube(&self) -> Result<kube::Client, KubeError> {
        crate::kube::client(self.args.kubeconfig.as_deref(), &self.name).await
    }

    /// A client of the same infra cluster for the lease alone: no throttling of the work may cost it.
    ///
    /// # Errors
    /// If it cannot be made. Nothing is connected yet.
    pub async fn lease_client(&self) -> Result<kube::Client, KubeError> {
        crate::kube::client(self.args.kubeconfig.as_deref(), &format!("{}-lease", self.name)).await
    }

    /// The machine's clock.
    pub fn clock(&self) -> Clock {
        Clock::system()
    }
}

/// Runs a process until it is told to end or `service` returns; 0 if it ended in peace.
pub fn run<F, Fut>(name: &str, args: CommonArgs, service: F) -> ExitCode
where
    F: FnOnce(Process) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(name, &error),
    };
    runtime.block_on(async {
        // Outlives the run, so that its last words are sent.
        let telemetry = match telemetry::init(name, &args.telemetry()) {
            Ok(telemetry) => telemetry,
            Err(error) => return complain(name, &error),
        };
        match run_until_told(name, args, &telemetry, service).await {
            Ok(()) => {
                tracing::info!("ended");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!(error = %Chain(&*error), "ended by an error");
                ExitCode::FAILURE
            }
        }
    })
}

async fn run_until_told<F, Fut>(
    name: &str,
    args: CommonArgs,
    telemetry: &telemetry::Telemetry,
    service: F,
) -> Result<(), BoxError>
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let auth = args.auth()?;
    let listener = bind(args.listen).await?;
    if auth.reach() == Reach::Loopback {
        tracing::warn!(
            "INSECURE DEV MODE: everybody who reaches {} may do everything",
            listener.local_addr()?
        );
    }
    let admin_listener = bind(args.admin_listen).await?;
    tracing::info!(name, listen = %listener.local_addr()?, admin = %admin_listener.local_addr()?, "starting");

    let (metrics, readiness) = (Metrics::new(), Readiness::new());
    let limits = Limits {
        drain: args.drain(),
        ..Limits::default()
    };
    let server = ServerConfig {
        auth,
        limits,
        metrics: metrics.clone(),
        readiness: readiness.clone(),
    };
    let admin = Admin {
        readiness,
        metrics,
        log_filter: Some(telemetry.log_filter()),
    };

    let cancel = CancellationToken::new();
    let group = TaskGroup::new(name, cancel.clone());
    group.spawn("admin", admin.run(admin_listener, cancel.clone()));
    // Not part of the group: it waits for signals until the very end.
    let signals = TaskGroup::new("signals", CancellationToken::new());
    signals.spawn_finite("signals", shutdown::on_signal(cancel.clone()));

    // Room for the service's own drain and the little around it.
    let deadline = args.drain() + std::time::Duration::from_secs(5);
    let process = Process {
        name: name.to_owned(),
        args,
        listener,
        cancel: cancel.clone(),
        server,
    };
    group.spawn("service", service(process));
    Ok(group.join(deadline).await?)
}

/// A listener on the address. A port that was in use a moment ago is taken at once (SO_REUSEADDR).
///
/// # Errors
/// If the address cannot be bound; says which.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| std::io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

#[allow(clippy::print_stderr, reason = "there is no logging yet, or it could not be set up")]
fn complain(name: &str, error: &dyn Error) -> ExitCode {
    eprintln!("{name}: {}", Chain(error));
    ExitCode::FAILURE
}
