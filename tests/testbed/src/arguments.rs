//! Arguments that several commands share.

use std::path::PathBuf;

use clap::Args;

use crate::state::Shape;

/// How many of what.
#[derive(Debug, Clone, Args)]
pub struct ShapeArgs {
    /// Bare-metal nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=200), value_name = "N")]
    nodes: u32,
    /// Zones that they are spread over.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20), value_name = "Z")]
    zones: u32,
    /// Tenant control planes that are kept ready; each takes about half a gigabyte.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10), value_name = "T")]
    tenants: u32,
}

impl From<ShapeArgs> for Shape {
    fn from(args: ShapeArgs) -> Self {
        Self {
            nodes: args.nodes,
            zones: args.zones,
            tenants: args.tenants,
        }
    }
}

/// The folder of a test bed, as its own processes are told it.
#[derive(Debug, Clone, Args)]
pub struct DirArgs {
    /// Folder of the test bed.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}
