//! `scale` and `render`.

use serde_json::json;

use super::{Context, progress, request_id, sibling};
use crate::{
    args::{RenderArgs, ScaleArgs},
    output::{self, Format, out},
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
    let waits = args.wait.wait && !args.dry_run;
    if waits {
        pool = progress::wait_settled(context, &kind, &name, args.wait.timeout).await?;
    }
    match context.format() {
        Format::Table | Format::Wide if args.dry_run => {
            out::line(format_args!("{name} would be scaled to {} (dry run)", args.replicas))?;
        }
        Format::Table | Format::Wide if !waits => out::line(format_args!("{name} scaled to {}", args.replicas))?,
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
