//! The client: keeps a number of connections busy for a time, and counts.

use std::{
    fmt,
    net::SocketAddr,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, task::JoinSet};

use crate::contract;

/// Connections of the unary cases.
pub(crate) const CONNECTIONS: u32 = 16;
/// Not counted, so that connections are open and code is warm.
const WARM_UP: Duration = Duration::from_millis(500);
/// What stands in each event once, whatever a gateway writes around it.
const ITEM: &[u8] = b"shops/north/items/item-1";
/// How long opening the watches may take.
const OPENING: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    /// One item of 1.1 KB.
    Get,
    /// 50 of them.
    List,
    /// 0.5 KB posted.
    Post,
    /// Many watchers of one stream, each with an event every 100 ms.
    Watch,
}

impl Case {
    const ALL: [Self; 4] = [Self::Get, Self::List, Self::Post, Self::Watch];
    /// Those with one reply.
    pub(crate) const UNARY: [Self; 3] = [Self::Get, Self::List, Self::Post];

    fn request(self) -> anyhow::Result<Request<Full<Bytes>>> {
        let (method, path) = match self {
            Self::Get => (Method::GET, "/v1/shops/north/items/item-1"),
            Self::List => (Method::GET, "/v1/shops/north/items?pageSize=50"),
            Self::Post => (Method::POST, "/v1/shops/north/items"),
            Self::Watch => (Method::GET, "/v1/shops/north/items:watch"),
        };
        let body = if self == Self::Post {
            contract::draft().to_string()
        } else {
            String::new()
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost");
        if self == Self::Post {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if self == Self::Watch {
            request = request.header(header::ACCEPT, "text/event-stream");
        }
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Post => "post",
            Self::Watch => "watch",
        })
    }
}

impl FromStr for Case {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|case| case.to_string() == text);
        found.with_context(|| format!("unknown case {text}"))
    }
}

/// What one run counted.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Replies; events of watches.
    pub(crate) count: u64,
    /// In this time.
    pub(crate) took: Duration,
    /// In the middle; of watches, the time to open one.
    pub(crate) latency: Duration,
    /// Of the body of a reply, in bytes.
    pub(crate) size: usize,
    /// What the gateway took of its core, warm-up included.
    #[serde(default)]
    pub(crate) processor: Duration,
    /// The same during the warm-up.
    pub(crate) warm: u64,
    /// What the gateway holds, in bytes.
    #[serde(default)]
    pub(crate) memory: u64,
}

/// Runs, and prints the sample as a line of JSON.
pub(crate) async fn run(server: SocketAddr, case: Case, seconds: u32, width: u32) -> anyhow::Result<()> {
    let time = Duration::from_secs(seconds.into());
    let sample = if case == Case::Watch {
        watch(server, time, width).await?
    } else {
        unary(server, case, time, width).await?
    };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

async fn connect(server: SocketAddr, driving: &mut JoinSet<()>) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(socket)).await?;
    // A connection that breaks fails the request on it.
    driving.spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn unary(server: SocketAddr, case: Case, time: Duration, width: u32) -> anyhow::Result<Sample> {
    let mut driving = JoinSet::new();
    let mut busy = JoinSet::new();
    let start = Instant::now() + WARM_UP;
    let end = start + time;
    for _ in 0..width {
        let mut sender = connect(server, &mut driving).await?;
        let request = case.request()?;
        busy.spawn(async move {
            let (mut warm, mut latencies, mut size) = (0, Vec::new(), 0);
            loop {
                let asked = Instant::now();
                if asked >= end {
                    return anyhow::Ok((warm, latencies, size));
                }
                sender.ready().await?;
                let reply = sender.send_request(request.clone()).await?;
                let status = reply.status();
                let body = reply.into_body().collect().await?.to_bytes();
                ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
                size = body.len();
                if asked < start {
                    warm += 1;
                } else {
                    latencies.push(asked.elapsed());
                }
            }
        });
    }
    let mut sample = Sample::default();
    let mut all = Vec::new();
    while let Some(done) = busy.join_next().await {
        let (warm, latencies, size) = done??;
        sample.warm += warm;
        sample.size = size;
        all.extend(latencies);
    }
    all.sort_unstable();
    sample.count = all.len() as u64;
    sample.took = start.elapsed();
    sample.latency = *all.get(all.len() / 2).context("nothing was answered")?;
    Ok(sample)
}

async fn watch(server: SocketAddr, time: Duration, width: u32) -> anyhow::Result<Sample> {
    let mut driving = JoinSet::new();
    let mut opened = Vec::new();
    let opening = Instant::now();
    for _ in 0..width {
        let mut sender = connect(server, &mut driving).await?;
        let reply = tokio::time::timeout(OPENING, sender.send_request(Case::Watch.request()?)).await??;
        ensure!(
            reply.status().is_success(),
            "a watch is refused with {}",
            reply.status()
        );
        opened.push((sender, reply.into_body()));
    }
    let mut sample = Sample {
        latency: opening.elapsed() / width.max(1),
        ..Sample::default()
    };
    // What has piled up while the others were opened is read during the warm-up.
    let start = Instant::now() + WARM_UP;
    let end = tokio::time::Instant::from_std(start + time);
    let mut reading = JoinSet::new();
    for (sender, mut body) in opened {
        reading.spawn(async move {
            let (mut warm, mut events, mut size) = (0_u64, 0_u64, 0);
            while let Ok(Some(frame)) = tokio::time::timeout_at(end, body.frame()).await {
                if let Ok(data) = frame?.into_data() {
                    let read = data.windows(ITEM.len()).filter(|bytes| *bytes == ITEM).count() as u64;
                    *if Instant::now() < start { &mut warm } else { &mut events } += read;
                    size = size.max(data.len());
                }
            }
            drop(sender);
            anyhow::Ok((warm, events, size))
        });
    }
    while let Some(done) = reading.join_next().await {
        let (warm, events, size) = done??;
        sample.warm += warm;
        sample.count += events;
        sample.size = sample.size.max(size);
    }
    sample.took = start.elapsed();
    ensure!(sample.count > 0, "no event came");
    Ok(sample)
}
