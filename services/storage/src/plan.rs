//! What to do, decided without doing it.

pub mod machine;
pub mod patch;
#[cfg(test)]
mod tests;
pub mod volume;
pub mod window;
