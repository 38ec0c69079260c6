//! `scale` and `render`.

use serde_json::json;

use super::{Context, progress, request_id, sibling};
use crate::{
    args::{RenderArgs, ScaleArgs},
    output::{self, Format},
};

/// Sets the replicas of a machine pool.
///
/// # Errors
/// What the server says.
pub async fn scale(context: &Context, args: ScaleArgs) -> anyhow::Result<()> {
    let kind = context.kind("MachinePool")?;
    let name = context.name(&kind, &args.pool)?;
    let scale = sibling(&kind, "ScaleMachinePool")?;
    let request = json!({
        "name": name, "replicas": args.replicas, "request_id": request_id(), "validate_only": args.dry_run,
    });
    let mut pool = context.client.call(&scale, request).await?;
    if args.wait && !args.dry_run {
        pool = progress::wait_settled(context, &kind, &name).await?;
    }
    match context.format() {
        Format::Table | Format::Wide if !args.wait => println!("{name} scaled to {}", args.replicas),
        format => output::print_resource(&kind, &pool, format)?,
    }
    Ok(())
}

/// Shows the VirtualMachine that a machine template would make.
///
/// # Errors
/// What the server says.
pub async fn render(context: &Context, args: RenderArgs) -> anyhow::Result<()> {
    let kind = context.kind("MachineTemplate")?;
    let name = context.name(&kind, &args.template)?;
    let render = sibling(&kind, "RenderMachineTemplate")?;
    let request = json!({ "name": name, "revision": args.revision.unwrap_or_default() });
    let rendered = context.client.call(&render, request).await?;
    output::print_value(&rendered, context.format())
}
