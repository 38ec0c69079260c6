//! What to do, decided without doing it. Everything here is a pure function over plain types.

#[cfg(test)]
mod fencing;
pub mod machine;
pub mod patch;
pub mod refusal;
#[cfg(test)]
mod tests;
pub mod volume;
pub mod window;
