//! What is seen of one pool: whether it can be worked on, its machines, what they are to be made from, and what a change would do.

pub mod accept;
pub mod desired;
pub mod machines;
pub mod preview;
pub mod rendering;
pub mod trouble;
