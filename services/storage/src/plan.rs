//! What to do, decided without doing it.

pub mod machine;
pub mod patch;
pub mod volume;
pub mod window;
#[cfg(test)]
mod tests;
