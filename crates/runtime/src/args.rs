//! The arguments that every service has.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    auth::Auth,
    telemetry::{LogFormat, TelemetryConfig},
};

/// Arguments of every process; flatten into a service's own.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// Address to serve gRPC (or HTTP) on; port 0 takes a free one.
    #[arg(long, env = "STEADING_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Address of the admin port: /livez, /readyz, /metrics, /log-level.
    #[arg(long, env = "STEADING_ADMIN_LISTEN", default_value = "127.0.0.1:0")]
    pub admin_listen: SocketAddr,

    /// Kubeconfig of the infra cluster; without it the one that the environment names.
    #[arg(long, env = "STEADING_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// How log lines look.
    #[arg(long, env = "STEADING_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// Filter of log lines, such as info,steading_storage=debug.
    #[arg(long, env = "STEADING_LOG_FILTER", default_value = "info")]
    pub log_filter: String,

    /// Where to send traces and metrics by OTLP over gRPC; nowhere if not set.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,

    /// Let everybody do everything, without authentication. Serves on loopback addresses only.
    #[arg(long, env = "STEADING_INSECURE_DEV_MODE")]
    pub insecure_dev_mode: bool,

    /// Seconds for what is in flight when the process is told to end.
    #[arg(long, env = "STEADING_DRAIN_SECONDS", default_value_t = 10)]
    pub drain_seconds: u16,
}

/// Why the arguments cannot be used together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// There is no way yet to authenticate other than not to.
    #[error("no authentication is configured: give --insecure-dev-mode for a development setup on loopback addresses")]
    NoAuth,
}

impl CommonArgs {
    /// What telemetry should do.
    pub fn telemetry(&self) -> TelemetryConfig {
        TelemetryConfig {
            format: self.log_format,
            filter: self.log_filter.clone(),
            otlp_endpoint: self.otlp_endpoint.clone(),
        }
    }

    /// Who may call.
    ///
    /// # Errors
    /// If that is not said: a server that nobody may call is of no use.
    pub fn auth(&self) -> Result<Auth, ArgsError> {
        if self.insecure_dev_mode {
            Ok(Auth::dev_mode())
        } else {
            Err(ArgsError::NoAuth)
        }
    }

    /// Time for what is in flight.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Process {
        #[command(flatten)]
        common: CommonArgs,
    }

    #[test]
    fn without_authentication_nothing_is_served() {
        let bare = Process::parse_from(["test"]).common;
        assert_eq!(bare.auth().err(), Some(ArgsError::NoAuth));
        let dev = Process::parse_from(["test", "--insecure-dev-mode", "--listen", "127.0.0.1:7443"]).common;
        assert!(dev.auth().is_ok());
        assert_eq!(dev.listen.port(), 7443);
    }
}
