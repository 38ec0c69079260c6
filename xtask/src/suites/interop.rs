//! gRPC's interoperability tests, with the client and the server of gRPC-Go, through the gateway's native pass-through.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::Result;

use super::{fetch, place::Place, process::Program, verdict::Case};

/// A case takes well under a second, the longest (deadlines, soaks) a few.
const PATIENCE: Duration = Duration::from_secs(60);

/// Cases of the client that need neither credentials nor several servers. It has none of the specification's cases for compressed messages.
const CASES: [&str; 17] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "custom_metadata",
    "orca_per_rpc",
    "rpc_soak",
    "channel_soak",
];

/// Where the client gets reports of load from; of no effect on the other cases.
const SERVICE_CONFIG: &str = r#"{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}"#;

/// Plays it.
pub(crate) fn play(place: &Place) -> Result<Vec<Case>> {
    let server = fetch::go_program(place, ".", "interop")?;
    let client = fetch::go_program(place, "google.golang.org/grpc/interop/client", "client")?;
    let descriptors = place.kept.join("interop.binpb");
    let mut command = Command::new(&server);
    let written = Program::start(
        &place.kept.join("descriptors"),
        command.arg("descriptors").arg(&descriptors),
    )?;
    written.finish(PATIENCE)?.succeeded()?;

    let mut upstream = Program::start(&place.kept.join("upstream"), Command::new(&server).arg("serve"))?;
    let address: SocketAddr = upstream.wait_for(|line| line.parse().ok())?;
    let (_gateway, address) = place.gateway(Some(&descriptors), address)?;
    println!("    playing");
    let play = |case: &str| -> Result<String> {
        let mut command = Command::new(&client);
        command
            .arg(format!("--server_host={}", address.ip()))
            .arg(format!("--server_port={}", address.port()))
            .arg(format!("--test_case={case}"));
        if case == "orca_per_rpc" {
            command.arg(format!("--service_config_json={SERVICE_CONFIG}"));
        }
        Program::start(&place.kept.join(case), &mut command)?
            .finish(PATIENCE)?
            .succeeded()
    };
    Ok(CASES.map(|case| Case::of(format!("grpc-go/{case}"), play(case))).into())
}
