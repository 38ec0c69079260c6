//! A write that reaches an API server.

use std::collections::BTreeMap;

use steading_lifecycle::plan::drain::EvictionAttempts;

use super::write::Write;
use crate::{promises, world::World};

/// Lets a write take effect; false if the API server refuses it.
///
/// # Errors
/// The promise that it breaks.
pub fn arrive(
    write: &Write,
    world: &mut World,
    attempts: Option<&mut BTreeMap<String, EvictionAttempts>>,
) -> Result<bool, String> {
    promises::before(world, write)?;
    Ok(write.apply(world, attempts).is_some())
}
