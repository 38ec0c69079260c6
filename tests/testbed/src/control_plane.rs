//! Command lines of Kubernetes' own control planes: the infra cluster's, and the tenants' lighter ones on the same etcd.

use std::{
    io::Read as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    binaries::Binaries,
    certificates::{ADMIN, Authority, Pki, User, kubeconfig, token_key},
    supervisor::Program,
};

/// Which requests the API server records: all, without bodies, once they are answered.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\nrules: [{ level: Metadata }]\n";

/// What all control planes of a test bed share.
pub struct Foundation<'a> {
    /// Programs.
    pub binaries: &'a Binaries,
    /// Certificates.
    pub pki: &'a Pki,
    /// Signs the certificates of servers and users.
    pub authority: &'a Authority,
    /// Folder of the test bed.
    pub dir: &'a Path,
    /// etcd's port.
    pub etcd_port: u16,
}

/// One control plane.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// `infra`, or a tenant's name.
    pub name: String,
    /// Port of its API server.
    pub port: u16,
    /// Its etcd prefix.
    pub prefix: String,
}

/// A port that is free, and that the kernel gives to nobody else for a minute.
///
/// A port that was merely seen free may be the local end of somebody's connection before its server listens. A
/// connection that the server's side closes first leaves the port in TIME_WAIT: neither `bind` to port 0 nor `connect`
/// choose it then, and a server that asks for it by number (with `SO_REUSEADDR`, as Go's do) gets it.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    let address = listener.local_addr()?;
    let mut client = TcpStream::connect(address)?;
    let (server, _) = listener.accept()?;
    drop(server);
    // The end of the stream: only now has the server's side closed first.
    client.read_to_end(&mut Vec::new())?;
    Ok(address.port())
}

impl Foundation<'_> {
    /// Writes what the command lines below refer to.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn prepare(&self, front_proxy: &Authority) -> anyhow::Result<()> {
        let pki = self.pki;
        pki.write_authority("ca", self.authority)?;
        pki.write_authority("front-proxy-ca", front_proxy)?;
        let proxy = User {
            name: "front-proxy-client",
            groups: &[],
        };
        pki.write_pair("front-proxy-client", &front_proxy.client(proxy)?)?;
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ];
        pki.write_pair("apiserver", &self.authority.server("kube-apiserver", &names)?)?;
        let (private, public) = token_key()?;
        pki.write("service-accounts.key", &private)?;
        pki.write("service-accounts.pub", &public)?;
        pki.write("audit-policy.yaml", AUDIT_POLICY)?;
        Ok(())
    }

    /// Where etcd keeps its data.
    pub fn data(&self) -> PathBuf {
        self.dir.join("etcd")
    }

    fn file(&self, name: &str) -> String {
        self.pki.path(name).display().to_string()
    }

    /// etcd, which forgets nothing but does not wait for the disk: a test bed does not outlive its machine.
    ///
    /// # Errors
    /// When it was not built.
    pub fn etcd(&self, peer_port: u16) -> anyhow::Result<Program> {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{peer_port}");
        let args = [
            "--name=testbed".to_owned(),
            format!("--data-dir={}", self.data().display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=testbed={peer}"),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            // Room for conformance runs in a row; the default of 2 GiB stops all writes.
            "--quota-backend-bytes=6442450944".to_owned(),
        ];
        Ok(Program::new("etcd", self.binaries.path("etcd")?, args.into()))
    }

    /// The API server of a control plane. The infra cluster's keeps an audit log.
    ///
    /// # Errors
    /// When it was not built.
    pub fn apiserver(&self, plane: &ControlPlane, audit_log: Option<&Path>) -> anyhow::Result<Program> {
        let server = format!("https://127.0.0.1:{}", plane.port);
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--etcd-prefix={}", plane.prefix),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", plane.port),
            format!("--tls-cert-file={}", self.file("apiserver.crt")),
            format!("--tls-private-key-file={}", self.file("apiserver.key")),
            format!("--client-ca-file={}", self.file("ca.crt")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-bootstrap-token-auth".to_owned(),
            "--allow-privileged".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112".to_owned(),
            format!("--service-account-issuer={server}"),
            format!("--service-account-key-file={}", self.file("service-accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                self.file("service-accounts.key")
            ),
            "--shutdown-delay-duration=0s".to_owned(),
            "--profiling=false".to_owned(),
        ];
        match audit_log {
            Some(log) => args.extend([
                format!("--requestheader-client-ca-file={}", self.file("front-proxy-ca.crt")),
                "--requestheader-allowed-names=front-proxy-client".to_owned(),
                "--requestheader-username-headers=X-Remote-User".to_owned(),
                "--requestheader-group-headers=X-Remote-Group".to_owned(),
                "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
                format!("--proxy-client-cert-file={}", self.file("front-proxy-client.crt")),
                format!("--proxy-client-key-file={}", self.file("front-proxy-client.key")),
                "--enable-aggregator-routing=false".to_owned(),
                format!("--audit-policy-file={}", self.file("audit-policy.yaml")),
                format!("--audit-log-path={}", log.display()),
                "--audit-log-mode=batch".to_owned(),
                "--audit-log-batch-max-wait=200ms".to_owned(),
                // Two files of 200 MB: about a million requests, then the oldest go.
                "--audit-log-maxsize=200".to_owned(),
                "--audit-log-maxbackup=1".to_owned(),
            ]),
            // Few users, few objects: a tenant's needs no big caches.
            None => args.extend([
                "--default-watch-cache-size=10".to_owned(),
                "--max-requests-inflight=100".to_owned(),
                "--max-mutating-requests-inflight=50".to_owned(),
            ]),
        }
        Ok(Program::new(
            named("kube-apiserver", plane),
            self.binaries.path("kube-apiserver")?,
            args,
        ))
    }

    /// The controllers of a control plane, each with an account of its own as in a real cluster.
    ///
    /// # Errors
    /// When it was not built or its kubeconfig cannot be written.
    pub fn controller_manager(&self, plane: &ControlPlane) -> anyhow::Result<Program> {
        let user = User {
            name: "system:kube-controller-manager",
            groups: &[],
        };
        let config = self.kubeconfig(plane, &named("controller-manager", plane), user)?;
        let controllers =
            "*,-cloud-node-lifecycle-controller,-service-lb-controller,-node-route-controller,-node-ipam-controller";
        let args = vec![
            format!("--kubeconfig={}", config.display()),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials".to_owned(),
            format!(
                "--service-account-private-key-file={}",
                self.file("service-accounts.key")
            ),
            format!("--root-ca-file={}", self.file("ca.crt")),
            format!("--cluster-signing-cert-file={}", self.file("ca.crt")),
            format!("--cluster-signing-key-file={}", self.file("ca.key")),
            format!("--controllers={controllers}"),
            "--bind-address=127.0.0.1".to_owned(),
            // Port 0 is refused; nobody asks this one.
            format!("--secure-port={}", free_port()?),
            "--kube-api-qps=300".to_owned(),
            "--kube-api-burst=600".to_owned(),
            "--profiling=false".to_owned(),
        ];
        Ok(Program::new(
            named("kube-controller-manager", plane),
            self.binaries.path("kube-controller-manager")?,
            args,
        ))
    }

    /// The scheduler of the infra cluster.
    ///
    /// # Errors
    /// As [`Foundation::controller_manager`].
    pub fn scheduler(&self, plane: &ControlPlane) -> anyhow::Result<Program> {
        let user = User {
            name: "system:kube-scheduler",
            groups: &[],
        };
        let config = self.kubeconfig(plane, "scheduler", user)?;
        let args = vec![
            format!("--kubeconfig={}", config.display()),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", free_port()?),
            "--kube-api-qps=300".to_owned(),
            "--kube-api-burst=600".to_owned(),
            "--profiling=false".to_owned(),
        ];
        Ok(Program::new(
            "kube-scheduler",
            self.binaries.path("kube-scheduler")?,
            args,
        ))
    }

    /// The kubelets of the bare metal.
    ///
    /// # Errors
    /// As [`Foundation::controller_manager`].
    pub fn kwok(&self, plane: &ControlPlane) -> anyhow::Result<Program> {
        let config = self.kubeconfig(plane, "kwok", ADMIN)?;
        let stages = self
            .pki
            .write("kwok-stages.yaml", include_str!("../kwok/stages.yaml"))?;
        let args = vec![
            format!("--kubeconfig={}", config.display()),
            format!("--config={}", stages.display()),
            "--manage-all-nodes".to_owned(),
            // Off by default; without leases the node controller takes every node for dead once a minute.
            "--node-lease-duration-seconds=40".to_owned(),
            "--cidr=10.244.0.0/16".to_owned(),
            "--node-ip=172.18.0.1".to_owned(),
            "--server-address=".to_owned(),
        ];
        Ok(Program::new("kwok", self.binaries.path("kwok")?, args))
    }

    /// Writes a kubeconfig with which `user` logs in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, plane: &ControlPlane, name: &str, user: User<'_>) -> anyhow::Result<PathBuf> {
        let client = self.authority.client(user)?;
        let text = kubeconfig(&format!("https://127.0.0.1:{}", plane.port), self.authority, &client);
        self.pki.write(&format!("{name}.kubeconfig"), &text)
    }
}

fn named(program: &str, plane: &ControlPlane) -> String {
    if plane.name == "infra" {
        program.to_owned()
    } else {
        format!("{program}-{}", plane.name)
    }
}
