//! Certificates of the test bed: one authority for Kubernetes, one for its front proxy, one for KubeVirt.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use serde_json::{Value, json};

/// Whom a client certificate is for.
#[derive(Debug, Clone, Copy)]
pub struct User<'a> {
    /// The user's name to Kubernetes.
    pub name: &'a str,
    /// Its groups.
    pub groups: &'a [&'a str],
}

/// The administrator.
pub const ADMIN: User<'static> = User {
    name: "testbed-admin",
    groups: &["system:masters"],
};

/// An authority that issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(&key)?.pem();
        let pem = key.serialize_pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
            key: pem,
        })
    }

    /// A certificate with which a user logs in.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn client(&self, user: User<'_>) -> anyhow::Result<Issued> {
        let mut params = named(user.name, user.groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// A certificate for a server on the loopback interface, known by these names too.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn server(&self, name: &str, names: &[&str]) -> anyhow::Result<Issued> {
        let mut params = named(name, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        for name in names {
            params
                .subject_alt_names
                .push(SanType::DnsName((*name).to_owned().try_into()?));
        }
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> anyhow::Result<Issued> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let key = KeyPair::generate()?;
        Ok(Issued {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// Validity is the library's: from long ago to far away, so that no clock of a test machine matters.
fn named(name: &str, groups: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    params
}

/// The folder in which a test bed keeps its certificates and kubeconfigs.
#[derive(Debug, Clone)]
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// In this folder, which is made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(dir: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        Ok(Self { dir })
    }

    /// Path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file that only its owner reads.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// Writes a certificate and its key as `<name>.crt` and `<name>.key`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_pair(&self, name: &str, issued: &Issued) -> anyhow::Result<()> {
        self.write(&format!("{name}.crt"), &issued.certificate)?;
        self.write(&format!("{name}.key"), &issued.key)?;
        Ok(())
    }

    /// Writes an authority as `<name>.crt` and `<name>.key`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_authority(&self, name: &str, authority: &Authority) -> anyhow::Result<()> {
        self.write(&format!("{name}.crt"), &authority.certificate)?;
        self.write(&format!("{name}.key"), &authority.key)?;
        Ok(())
    }
}

/// A kubeconfig with everything inline. JSON is YAML.
pub fn kubeconfig(server: &str, authority: &Authority, client: &Issued) -> String {
    let encode = |text: &str| Value::from(BASE64_STANDARD.encode(text));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "testbed",
        "clusters": [{ "name": "testbed", "cluster": {
            "server": server, "certificate-authority-data": encode(&authority.certificate),
        } }],
        "users": [{ "name": "testbed", "user": {
            "client-certificate-data": encode(&client.certificate), "client-key-data": encode(&client.key),
        } }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": "testbed" } }],
    });
    format!("{config:#}\n")
}

/// The public half of a key that signs service account tokens, PEM.
///
/// # Errors
/// When no key can be made.
pub fn token_key() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}
