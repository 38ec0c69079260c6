//! How the command ends: codes for scripts, documented in `docs/cli.md`.

use std::process::ExitCode;

use crate::{client::CallError, commands::progress::WaitError, output::out::OutputError};

/// What an exit code says. 2, for a command line that cannot be understood, is clap's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; also when whoever read the output has read enough.
    Success,
    /// Refused, or not possible.
    Failure,
    /// What was waited for ended in a state of failure.
    WaitFailed,
    /// What was waited for did not come about in time.
    TimedOut,
    /// The output could not be written.
    Output,
    /// No server answers.
    Unreachable,
}

impl Exit {
    /// What an error means.
    pub fn of(error: &anyhow::Error) -> Self {
        let found = error.chain().find_map(|cause| {
            if let Some(output) = cause.downcast_ref::<OutputError>() {
                return Some(if output.is_closed() {
                    Self::Success
                } else {
                    Self::Output
                });
            }
            if let Some(wait) = cause.downcast_ref::<WaitError>() {
                return Some(match wait {
                    WaitError::Failed { .. } => Self::WaitFailed,
                    WaitError::TimedOut { .. } => Self::TimedOut,
                });
            }
            matches!(cause.downcast_ref::<CallError>()?, CallError::Unreachable { .. }).then_some(Self::Unreachable)
        });
        found.unwrap_or(Self::Failure)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::WaitFailed => 3,
            Exit::TimedOut => 4,
            Exit::Output => 5,
            Exit::Unreachable => 6,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_cause_of_an_error_decides() {
        let output = |kind: io::ErrorKind| Err::<(), _>(OutputError::from(io::Error::from(kind)));
        let wait = WaitError::TimedOut {
            name: "a".to_owned(),
            until: "settled".to_owned(),
            seconds: 1,
            last: String::new(),
        };
        for (error, exit) in [
            (output(io::ErrorKind::BrokenPipe).context("x"), Exit::Success),
            (output(io::ErrorKind::StorageFull).context("x"), Exit::Output),
            (Err(wait).context("x"), Exit::TimedOut),
            (Err(anyhow::anyhow!("no")), Exit::Failure),
        ] {
            assert_eq!(Exit::of(&error.unwrap_err()), exit);
        }
    }
}
