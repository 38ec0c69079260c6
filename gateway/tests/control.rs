//! What changes while the gateway runs: descriptors, certificates.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use steading_gateway::{Identity, Tls};
use support::Rig;
use tokio_rustls::TlsAcceptor;

/// The descriptors without the first rule of `GetBook`, or with it.
fn descriptors(with_first: bool) -> Bytes {
    let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let source = std::fs::read_to_string(root.join("transcode/tests/proto/steading/testing/v1/library.proto")).unwrap();
    let changed = source.replace("/v1/books/{name}", "/v2/books/{name}");
    assert_ne!(source, changed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("steading/testing/v1");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("library.proto"), if with_first { source } else { changed }).unwrap();
    let mut compiler = protox::Compiler::new([folder.path().to_path_buf(), root.join("api/vendor")]).unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file("steading/testing/v1/library.proto").unwrap();
    compiler.encode_file_descriptor_set().into()
}

#[tokio::test]
async fn other_descriptors_are_served_from_the_next_request_on() {
    let rig = Rig::start(|_| {}).await;
    let status = async |path: &str| rig.http(&format!("GET {path}"), &[], b"").await.status.as_u16();
    assert_eq!((status("/v1/books/b").await, status("/v2/books/b").await), (200, 404));
    let etag = rig.http("GET /openapi.json", &[], b"").await.header("etag").to_owned();
    // A stream that begins now goes on with what it began with.
    let watch = http::Request::builder()
        .uri("/v1/shelves/forever/books:watch")
        .header("host", "test")
        .body(http_body_util::Full::default())
        .unwrap();
    let mut stream = rig.send(watch).await;
    assert!(stream.frame().await.unwrap().is_ok());

    rig.control.replace_descriptors(&[descriptors(false)]).unwrap();
    assert_eq!((status("/v1/books/b").await, status("/v2/books/b").await), (404, 200));
    let document = rig.http("GET /openapi.json", &[], b"").await;
    assert!(document.json()["paths"]["/v2/books/{name}"].is_object());
    assert_ne!(document.header("etag"), etag);
    assert_eq!(
        rig.gone.load(std::sync::atomic::Ordering::SeqCst),
        0,
        "the stream lives"
    );

    let refused = rig.control.replace_descriptors(&[Bytes::from_static(b"nonsense")]);
    assert!(refused.is_err());
    assert_eq!(
        status("/v2/books/b").await,
        200,
        "what cannot be served changes nothing"
    );
    rig.control.replace_descriptors(&[descriptors(true)]).unwrap();
    assert_eq!(status("/v1/books/b").await, 200);
}

#[tokio::test]
async fn no_request_fails_while_descriptors_change() {
    let rig = Rig::start(|_| {}).await;
    let sets = [descriptors(true), descriptors(false)];
    let asked = async {
        for _ in 0..200 {
            assert_eq!(rig.http("GET /v1/shelves/a/books/b", &[], b"").await.status, 200);
        }
    };
    let changed = async {
        for turn in 0..10 {
            rig.control.replace_descriptors(&[sets[turn % 2].clone()]).unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(asked, changed);
}

/// An authority and what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    fn pem(&self) -> Bytes {
        self.issuer.pem().into()
    }

    /// A certificate for this name and its key.
    fn sign(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: certificate.pem().into(),
            key: key.serialize_pem().into(),
        }
    }

    /// A server with this certificate that asks clients for one of this authority.
    fn acceptor(&self, Identity { chain, key }: &Identity) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.pem()).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .unwrap();
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key).unwrap())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn status(rig: &Rig) -> u16 {
    // Past the rest that follows a failure, which a client would retry over.
    for _ in 0..100 {
        let answer = rig.http("GET /v1/shelves/a/books/b", &[], b"").await.status.as_u16();
        if answer != 503 {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    503
}

#[tokio::test]
async fn upstreams_are_reached_by_tls_with_a_certificate_of_the_gateways_own() {
    let authority = Authority::new();
    let tls = Tls {
        authorities: Some(authority.pem()),
        identity: Some(authority.sign("gateway")),
    };
    let acceptor = authority.acceptor(&authority.sign("localhost"));
    let rig = Rig::behind_tls(acceptor.clone(), |config| config.tls = tls.clone()).await;
    assert_eq!(status(&rig).await, 200);
    let (_, trailers) = rig.grpc("/steading.testing.v1.Library/GetBook", &[b"\x0a\x01b"]).await;
    assert_eq!(trailers["grpc-status"], "0");

    for wrong in [
        Tls {
            identity: None,
            ..tls.clone()
        },
        Tls {
            authorities: Some(Authority::new().pem()),
            ..tls.clone()
        },
        Tls {
            identity: Some(Authority::new().sign("gateway")),
            ..tls.clone()
        },
    ] {
        let rig = Rig::behind_tls(acceptor.clone(), |config| config.tls = wrong).await;
        let answer = rig.http("GET /v1/shelves/a/books/b", &[], b"").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(rig.calls(), 0);
    }
    let elsewhere = authority.acceptor(&authority.sign("elsewhere.test"));
    let rig = Rig::behind_tls(elsewhere, |config| config.tls = tls.clone()).await;
    assert_eq!(
        rig.http("GET /v1/shelves/a/books/b", &[], b"").await.status,
        503,
        "the name counts"
    );
}

#[tokio::test]
async fn certificates_are_replaced_while_it_runs() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = |authority: &Authority| Tls {
        authorities: Some(authority.pem()),
        identity: Some(authority.sign("gateway")),
    };
    // The service has moved to the new authority already.
    let acceptor = new.acceptor(&new.sign("localhost"));
    let rig = Rig::behind_tls(acceptor, |config| config.tls = tls(&old)).await;
    assert_eq!(rig.http("GET /v1/shelves/a/books/b", &[], b"").await.status, 503);
    let broken = Tls {
        authorities: Some(Bytes::from_static(b"no PEM")),
        identity: None,
    };
    assert!(rig.control.replace_tls(&broken).is_err());
    rig.control.replace_tls(&tls(&new)).unwrap();
    assert_eq!(status(&rig).await, 200);
    let mixed = Tls {
        identity: Some(Identity {
            key: new.sign("b").key,
            ..new.sign("a")
        }),
        ..tls(&new)
    };
    assert!(rig.control.replace_tls(&mixed).is_err(), "a key of another certificate");
    assert_eq!(status(&rig).await, 200);
}

/// The head of an answer by TLS to a client that trusts this authority, or why there is none.
async fn by_tls(
    rig: &Rig,
    authority: &Authority,
    protocol: &[u8],
) -> Result<(String, Option<Vec<u8>>), std::io::Error> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&authority.pem()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = tokio::net::TcpStream::connect(rig.address).await?;
    let name = "gateway.test".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await?;
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    if protocol == b"h2" {
        return Ok((String::new(), agreed));
    }
    let request = "GET /v1/shelves/a/books/b HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    Ok((text, agreed))
}

#[tokio::test]
async fn clients_are_served_by_tls_and_see_a_new_certificate_at_once() {
    let (old, new) = (Authority::new(), Authority::new());
    let rig = Rig::start(|config| {
        config.identity = Some(old.sign("gateway.test"));
        config.limits.receive = std::time::Duration::from_millis(300);
    })
    .await;
    let (text, agreed) = by_tls(&rig, &old, b"http/1.1").await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert_eq!(agreed.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(by_tls(&rig, &old, b"h2").await.unwrap().1.as_deref(), Some(&b"h2"[..]));
    // One that never shakes hands is let go.
    let mut silent = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let mut buffer = [0; 16];
    let read = tokio::io::AsyncReadExt::read(&mut silent, &mut buffer);
    assert_eq!(
        tokio::time::timeout(std::time::Duration::from_secs(10), read)
            .await
            .unwrap()
            .unwrap(),
        0
    );

    let mixed = Identity {
        key: new.sign("b").key,
        ..new.sign("gateway.test")
    };
    assert!(rig.control.replace_identity(&mixed).is_err());
    assert!(by_tls(&rig, &new, b"h2").await.is_err(), "the present one stays");
    rig.control.replace_identity(&new.sign("gateway.test")).unwrap();
    assert!(by_tls(&rig, &new, b"h2").await.is_ok());
    assert!(by_tls(&rig, &old, b"h2").await.is_err());
}
