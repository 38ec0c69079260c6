//! The one way out: everything that is printed passes here, so that a reader that has gone or a disk that is full ends the command as it should.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the output")]
pub struct OutputError {
    #[from]
    source: io::Error,
}

impl OutputError {
    /// Whether whoever read the output has gone, as `head` does when it has seen enough.
    pub fn is_closed(&self) -> bool {
        self.source.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes a line to standard output.
///
/// # Errors
/// It cannot be written.
pub fn line(text: impl Display) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Writes a question to standard output, without an end of the line.
///
/// # Errors
/// It cannot be written.
pub fn prompt(text: impl Display) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Writes a line to standard error, if anybody listens there.
pub fn note(text: &str) {
    // There is nowhere left to say that it failed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
