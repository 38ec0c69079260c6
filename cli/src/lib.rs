//! tmp
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]
pub mod args;
pub mod client;
pub mod commands;
pub mod kinds;
pub mod output;
pub mod demo { pub mod api; pub mod checks; pub mod flow; pub mod report; pub mod tenant; pub mod witness; }
