//! KubeVirt on the test bed: what its operator would install, and the command lines of virt-api and virt-controller.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use steading_sim::behaviour::virt::FEATURE_GATES;

use crate::{
    certificates::{Authority, User},
    control_plane::{ControlPlane, Foundation},
    objects::{apply, apply_all, patch_status},
    supervisor::Program,
};

/// The namespace that KubeVirt's binaries take themselves to run in.
pub const NAMESPACE: &str = "kubevirt";
/// The version that is built.
const VERSION: &str = "v1.8.0";
/// Requests a second that KubeVirt's components may make: their defaults are for a few changes a minute.
const QPS: u32 = 1_000;

const ACCOUNT_GROUPS: &[&str] = &["system:serviceaccounts", "system:serviceaccounts:kubevirt"];
/// virt-api's service account.
const API: User<'static> = User {
    name: "system:serviceaccount:kubevirt:kubevirt-apiserver",
    groups: ACCOUNT_GROUPS,
};
/// virt-controller's service account.
const CONTROLLER: User<'static> = User {
    name: "system:serviceaccount:kubevirt:kubevirt-controller",
    groups: ACCOUNT_GROUPS,
};
/// virt-handler's service account, as which the player writes.
pub const HANDLER: User<'static> = User {
    name: "system:serviceaccount:kubevirt:kubevirt-handler",
    groups: ACCOUNT_GROUPS,
};

/// What the operator would install.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifests {
    /// Definitions.
    pub crds: Vec<Value>,
    /// Accounts, roles, the Service of virt-api.
    pub objects: Vec<Value>,
    api_services: Vec<Value>,
    webhooks: Vec<Value>,
}

impl Manifests {
    /// Asks KubeVirt's own code for them.
    ///
    /// # Errors
    /// When the program fails.
    pub async fn generate(foundation: &Foundation<'_>) -> anyhow::Result<Self> {
        let output = tokio::process::Command::new(foundation.binaries.path("manifests")?)
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run manifests")?;
        if !output.status.success() {
            bail!("manifests: {}", String::from_utf8_lossy(&output.stderr));
        }
        let mut made: Self = serde_json::from_slice(&output.stdout).context("manifests printed something else")?;
        for object in made
            .crds
            .iter_mut()
            .chain(&mut made.objects)
            .chain(&mut made.api_services)
        {
            // The Go types write an empty status, which is not ours to apply.
            if let Some(object) = object.as_object_mut() {
                object.remove("status");
            }
        }
        Ok(made)
    }
}

/// KubeVirt's certificates and where virt-api listens.
pub struct KubeVirt<'a> {
    /// What it stands on.
    pub foundation: &'a Foundation<'a>,
    /// Signs virt-api's certificates.
    pub authority: Authority,
    /// virt-api's port.
    pub api_port: u16,
    /// virt-controller's port.
    pub controller_port: u16,
}

impl KubeVirt<'_> {
    /// Writes the certificates.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn prepare(&self) -> anyhow::Result<()> {
        let pki = self.foundation.pki;
        let names = ["localhost", "virt-api", "virt-api.kubevirt", "virt-api.kubevirt.svc"];
        pki.write_pair("virt-api", &self.authority.server("virt-api.kubevirt.svc", &names)?)?;
        pki.write_pair(
            "virt-handler-client",
            &self.authority.server("kubevirt.io:system:client:virt-handler", &[])?,
        )?;
        pki.write_pair(
            "virt-controller",
            &self.authority.server("virt-controller.kubevirt.svc", &["localhost"])?,
        )
    }

    fn file(&self, name: &str) -> String {
        self.foundation.pki.path(name).display().to_string()
    }

    /// virt-api: admission webhooks and subresources.
    ///
    /// # Errors
    /// When it was not built or its kubeconfig cannot be written.
    pub fn virt_api(&self, plane: &ControlPlane) -> anyhow::Result<Program> {
        let config = self.foundation.kubeconfig(plane, "virt-api", API)?;
        let args = vec![
            format!("--kubeconfig={}", config.display()),
            "--subresources-only".to_owned(),
            "--listen=127.0.0.1".to_owned(),
            format!("--port={}", self.api_port),
            format!("--tls-cert-file={}", self.file("virt-api.crt")),
            format!("--tls-key-file={}", self.file("virt-api.key")),
            format!("--handler-cert-file={}", self.file("virt-handler-client.crt")),
            format!("--handler-key-file={}", self.file("virt-handler-client.key")),
        ];
        Ok(Program::new(
            "virt-api",
            self.foundation.binaries.path("virt-api")?,
            args,
        ))
    }

    /// virt-controller. Its launcher image is named in pods and never pulled.
    ///
    /// # Errors
    /// As [`KubeVirt::virt_api`].
    pub fn virt_controller(&self, plane: &ControlPlane) -> anyhow::Result<Program> {
        let config = self.foundation.kubeconfig(plane, "virt-controller", CONTROLLER)?;
        let args = vec![
            format!("--kubeconfig={}", config.display()),
            format!("--launcher-image=registry.example.test/kubevirt/virt-launcher:{VERSION}"),
            format!("--exporter-image=registry.example.test/kubevirt/virt-exportserver:{VERSION}"),
            "--listen=127.0.0.1".to_owned(),
            format!("--port={}", self.controller_port),
            format!("--prom-cert-file={}", self.file("virt-controller.crt")),
            format!("--prom-key-file={}", self.file("virt-controller.key")),
        ];
        Ok(Program::new(
            "virt-controller",
            self.foundation.binaries.path("virt-controller")?,
            args,
        ))
    }

    /// What virt-api and virt-controller read when they start.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn install(&self, client: &Client, manifests: &Manifests) -> anyhow::Result<()> {
        let service = manifests.objects.iter().filter(|object| object["kind"] == "Service");
        let service: Vec<Value> = service.map(|object| self.at_our_port(object)).collect();
        apply_all(client, &service).await?;
        let authority = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "kubevirt-ca", "namespace": NAMESPACE },
            "data": { "ca-bundle": self.authority.certificate },
        });
        apply(client, &authority).await?;
        apply(client, &kubevirt()).await?;
        let status = json!({ "status": {
            "phase": "Deployed", "defaultArchitecture": "amd64",
            "observedKubeVirtVersion": VERSION, "targetKubeVirtVersion": VERSION, "operatorVersion": VERSION,
            "conditions": [
                { "type": "Available", "status": "True", "reason": "AllComponentsReady", "message": "All components are ready." },
                { "type": "Progressing", "status": "False", "reason": "AllComponentsReady", "message": "All components are ready." },
                { "type": "Degraded", "status": "False", "reason": "AllComponentsReady", "message": "All components are ready." },
            ],
        }});
        patch_status(client, &kubevirt(), &status).await
    }

    /// virt-api is reached through its Service; an external name leads to the process on this machine.
    fn at_our_port(&self, object: &Value) -> Value {
        let mut object = object.clone();
        object["spec"] = json!({
            "type": "ExternalName", "externalName": "localhost",
            "ports": [{ "name": "https", "port": self.api_port, "protocol": "TCP" }],
        });
        object
    }

    /// What makes the API server ask virt-api. Only once that answers: its webhooks refuse everything while it is away.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn connect(&self, client: &Client, manifests: &Manifests) -> anyhow::Result<()> {
        let bundle = BASE64_STANDARD.encode(&self.authority.certificate);
        let mut objects = manifests.api_services.clone();
        for service in &mut objects {
            service["spec"]["caBundle"] = json!(bundle);
            service["spec"]["service"]["port"] = json!(self.api_port);
        }
        for configuration in &manifests.webhooks {
            let mut configuration = configuration.clone();
            for hook in configuration["webhooks"].as_array_mut().into_iter().flatten() {
                hook["clientConfig"]["caBundle"] = json!(bundle);
                hook["clientConfig"]["service"]["port"] = json!(self.api_port);
            }
            objects.push(configuration);
        }
        apply_all(client, &objects).await
    }
}

/// KubeVirt's namespace, accounts and roles: all that is the same in every test bed.
///
/// # Errors
/// What the API server says.
pub async fn install_accounts(client: &Client, manifests: &Manifests) -> anyhow::Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    apply(client, &namespace).await?;
    let objects = manifests.objects.iter().filter(|object| object["kind"] != "Service");
    apply_all(client, &objects.cloned().collect::<Vec<_>>()).await
}

/// KubeVirt's own object, in which its components find their configuration.
fn kubevirt() -> Value {
    let limits =
        json!({ "restClient": { "rateLimiter": { "tokenBucketRateLimiter": { "qps": QPS, "burst": 2 * QPS } } } });
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": { "name": "kubevirt", "namespace": NAMESPACE },
        "spec": { "configuration": {
            "developerConfiguration": { "featureGates": FEATURE_GATES },
            "apiConfiguration": limits, "controllerConfiguration": limits,
            "webhookConfiguration": limits, "handlerConfiguration": limits,
            "migrations": { "parallelMigrationsPerCluster": 50, "parallelOutboundMigrationsPerNode": 20 },
        }},
    })
}
