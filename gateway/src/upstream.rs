//! The services' side: which upstream serves what, and its HTTP/2 connections.
//!
//! Calls whose replies the gateway reads whole share a few connections, taken in turn. Calls that move at the pace of
//! clients have connections of their own ([`relays`]): a client that does not read fills the window of its own call
//! and of nothing else. A connection is made by the first call that needs it and replaced by the next call after it
//! broke or its certificates were replaced; a call that was not sent on a broken connection is sent once more. While
//! an upstream cannot be reached, calls fail at once but for one attempt after each [`crate::retry::rest`].

mod connect;
mod error;
mod relays;
mod slot;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::Mutex;

use crate::body::Body;
use crate::config::{Limits, Route};
use crate::scope::is_within;
use crate::tls::{Tls, TlsError};
use connect::{Bounds, Trust, Windows};
use relays::Relays;
use slot::Slot;

pub use error::UpstreamError;
pub(crate) use relays::{RELAYED_WINDOW, Ticket};

/// Window of a call whose reply is read at once: a 1 MiB reply arrives without waiting for the gateway to say "more".
const WINDOW: u32 = 1 << 20;
/// Windows of connections for calls whose replies are read at once, so that the connection's never stays full.
const AT_ONCE: Windows = Windows {
    stream: WINDOW,
    connection: WINDOW * 4,
};

/// Who decides how fast a call's request is sent and its reply is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The gateway has the request whole and reads the reply as fast as it comes.
    Gateway,
    /// A client, which may stop reading or sending.
    Client,
}

/// One upstream.
pub(crate) struct Upstream {
    authority: Authority,
    trust: Option<Arc<Trust>>,
    bounds: Bounds,
    /// For calls at the gateway's pace.
    slots: Box<[Mutex<Slot>]>,
    next: AtomicUsize,
    /// For calls at the pace of clients.
    relays: Arc<Relays>,
}

impl Upstream {
    fn new(authority: Authority, trust: Option<Arc<Trust>>, limits: &Limits) -> Self {
        let slots = (0..limits.upstream_connections.max(1))
            .map(|_| Mutex::default())
            .collect();
        Self {
            authority,
            trust,
            bounds: Bounds {
                time: limits.connect,
                header_bytes: limits.header_bytes,
            },
            slots,
            next: AtomicUsize::new(0),
            relays: Arc::new(Relays::new(limits.upstream_connections)),
        }
    }

    /// The URI of a call to it; `None` if the path is none.
    pub(crate) fn uri(&self, path: impl TryInto<PathAndQuery>) -> Option<Uri> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.trust.is_some() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        });
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path.try_into().ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Sends a call; the response's body is still to come. A ticket is kept until that has ended.
    ///
    /// # Errors
    /// It cannot be reached, or broke off before it answered.
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
        pace: Pace,
    ) -> Result<(Response<Incoming>, Option<Ticket>), UpstreamError> {
        match pace {
            Pace::Gateway => {
                let turn = self.next.fetch_add(1, Ordering::Relaxed);
                let Some(slot) = self.slots.get(turn % self.slots.len()) else {
                    return Err(UpstreamError::Uri(Uri::default()));
                };
                Ok((self.send_on(slot, turn, AT_ONCE, request).await?, None))
            }
            Pace::Client => {
                let ticket = self.relays.ticket();
                let response = self
                    .send_on(ticket.slot(), ticket.turn(), relays::WINDOWS, request)
                    .await?;
                Ok((response, Some(ticket)))
            }
        }
    }

    async fn send_on(
        &self,
        slot: &Mutex<Slot>,
        turn: usize,
        windows: Windows,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let fail = |source| UpstreamError::Call {
            authority: self.authority.clone(),
            source,
        };
        let mut tries = 0;
        loop {
            let mut sender = self.sender(slot, turn, windows).await?;
            sender.ready().await.map_err(fail)?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if tries == 0 => {
                        tries += 1;
                        request = unsent;
                    }
                    _ => return Err(fail(error.into_error())),
                },
            }
        }
    }

    async fn sender(
        &self,
        slot: &Mutex<Slot>,
        turn: usize,
        windows: Windows,
    ) -> Result<SendRequest<Body>, UpstreamError> {
        let asked = Instant::now();
        let epoch = self.trust.as_ref().map_or(0, |trust| trust.epoch());
        // Held while connecting, so that a burst of calls makes one connection.
        let mut slot = slot.lock().await;
        if let Some(sender) = slot.usable(epoch) {
            return Ok(sender.clone());
        }
        // A dead upstream is left alone for a while. Those who waited for the attempt asked before it failed, so they share its failure
        // instead of waiting each for an attempt of its own.
        if slot.rests(asked) {
            return Err(UpstreamError::Resting {
                authority: self.authority.clone(),
            });
        }
        // Boxed: it is rare, and would make the future of every request larger.
        let opened = Box::pin(connect::open(
            &self.authority,
            self.trust.as_deref(),
            turn,
            self.bounds,
            windows,
        ));
        let opened = opened.await;
        let failures = slot.failed.map_or(0, |(_, failures)| failures);
        slot.failed = opened.is_err().then(|| (Instant::now(), failures.saturating_add(1)));
        slot.sender = opened.as_ref().ok().cloned();
        slot.epoch = epoch;
        opened
    }
}

/// All upstreams by the services that they serve.
pub(crate) struct Upstreams {
    /// Longest prefix first.
    routes: Vec<(String, usize)>,
    pub(crate) all: Vec<Upstream>,
    /// Of all that are `https`.
    trust: Option<Arc<Trust>>,
}

impl Upstreams {
    /// # Errors
    /// A URI that is none, or TLS that cannot be set up where one is `https`.
    pub(crate) fn new(routes: &[Route], tls: &Tls, limits: &Limits) -> Result<Self, UpstreamError> {
        let secure = routes.iter().any(|route| route.uri.scheme() == Some(&Scheme::HTTPS));
        let trust = secure
            .then(|| tls.client().map(|config| Arc::new(Trust::new(config))))
            .transpose()?;
        let mut all: Vec<Upstream> = Vec::new();
        let mut table = Vec::new();
        for route in routes {
            let (authority, https) = address(&route.uri)?;
            let same = |other: &Upstream| other.authority == authority && other.trust.is_some() == https;
            let index = all.iter().position(same).unwrap_or(all.len());
            if index == all.len() {
                all.push(Upstream::new(authority, trust.clone().filter(|_| https), limits));
            }
            table.push((route.service.clone(), index));
        }
        table.sort_by_key(|(service, _)| std::cmp::Reverse(service.len()));
        Ok(Self {
            routes: table,
            all,
            trust,
        })
    }

    /// The upstream of a service: by its name, by a package around it, or the default.
    pub(crate) fn of(&self, service: &str) -> Option<&Upstream> {
        self.routes
            .iter()
            .find(|(prefix, _)| is_within(service, prefix))
            .and_then(|(_, index)| self.all.get(*index))
    }

    /// Uses other certificates from the next call on; calls under way end on the connections that they have.
    ///
    /// # Errors
    /// They cannot be used; the present ones stay.
    pub(crate) fn replace_tls(&self, tls: &Tls) -> Result<(), TlsError> {
        if let Some(trust) = &self.trust {
            trust.replace(tls.client()?);
        }
        Ok(())
    }
}

/// Host and port, and whether it is `https`.
fn address(uri: &Uri) -> Result<(Authority, bool), UpstreamError> {
    let fail = || UpstreamError::Uri(uri.clone());
    let https = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        _ => return Err(fail()),
    };
    let authority = uri.authority().cloned().ok_or_else(fail)?;
    // A path would be ignored: gRPC has its own.
    let bare = matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("" | "/"));
    if bare { Ok((authority, https)) } else { Err(fail()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(routes: &[(&str, &str)]) -> Result<Upstreams, UpstreamError> {
        let routes: Vec<Route> = routes
            .iter()
            .map(|(service, uri)| Route {
                service: (*service).to_owned(),
                uri: uri.parse().unwrap(),
            })
            .collect();
        Upstreams::new(&routes, &Tls::default(), &Limits::default())
    }

    #[test]
    fn the_longest_name_that_fits_serves() {
        let table = upstreams(&[
            ("", "http://a:1"),
            ("shop.v1", "http://b:1"),
            ("shop.v1.Cart", "http://c:1"),
        ])
        .unwrap();
        let of = |service| table.of(service).unwrap().authority.as_str();
        assert_eq!(
            (
                of("shop.v1.Cart"),
                of("shop.v1.Cash"),
                of("shop.v10.Cart"),
                of("other.X")
            ),
            ("c:1", "b:1", "a:1", "a:1")
        );
        assert!(
            upstreams(&[("shop.v1", "http://b:1")])
                .unwrap()
                .of("shop.v2.X")
                .is_none()
        );
    }

    #[test]
    fn an_upstream_is_a_scheme_a_host_and_a_port() {
        for uri in ["http://h:1/path", "http://h:1/?q", "/only", "ftp://h:1", "h:1"] {
            assert!(matches!(upstreams(&[("", uri)]), Err(UpstreamError::Uri(_))), "{uri}");
        }
        assert!(upstreams(&[("", "http://h:1/")]).is_ok());
    }
}
