//! A client for every method of the contracts, driven by their descriptors: JSON in, JSON out.
//!
//! The user's commands work on any resource kind, so they need no generated client; what a service gains, the
//! commands gain with it. Calls go over native gRPC, through the gateway or to one service directly.

use std::{fmt, time::Duration};

use futures::{Stream, StreamExt};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use serde_json::Value;
use steading_api::{error::reason_name, types::v1::ErrorReason};
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

/// How long a unary call may take before the client gives up.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long connecting may take; a server that is there answers on the first round trip.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest message taken from a server: a full page of the largest resources stays far below.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Calls methods of Steading by their descriptors.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    server: String,
}

impl Client {
    /// A client of the gateway (or of one service) at `server`, such as `http://127.0.0.1:8080`. Connects lazily.
    ///
    /// # Errors
    /// [`CallError::Address`] when `server` is not an `http://` or `https://` address.
    pub fn new(server: &str) -> Result<Self, CallError> {
        let url = if server.contains("://") {
            server.to_owned()
        } else {
            format!("http://{server}")
        };
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(|source| CallError::Address {
                server: server.to_owned(),
                reason: source.to_string(),
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .tcp_nodelay(true);
        Ok(Self {
            channel: endpoint.connect_lazy(),
            server: url,
        })
    }

    /// The channel below, for generated clients.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Calls a unary method.
    ///
    /// # Errors
    /// [`CallError::Request`] when the JSON does not fit the request type, [`CallError::Rpc`] when the server refuses.
    pub async fn call(&self, method: &MethodDescriptor, request: Value) -> Result<Value, CallError> {
        let mut request = Request::new(decode_json(method.input(), request)?);
        request.set_timeout(CALL_TIMEOUT);
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|source| self.unreachable(&source))?;
        let reply = grpc
            .unary(
                request,
                path_of(method)?,
                DynamicCodec {
                    output: method.output(),
                },
            )
            .await
            .map_err(|status| self.rpc_error(status))?;
        encode_json(reply.get_ref())
    }

    /// Calls a method that streams its replies.
    ///
    /// # Errors
    /// As [`Client::call`]; errors after the first reply are items of the stream.
    pub async fn stream(
        &self,
        method: &MethodDescriptor,
        request: Value,
    ) -> Result<impl Stream<Item = Result<Value, CallError>> + Send + use<>, CallError> {
        let request = Request::new(decode_json(method.input(), request)?);
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|source| self.unreachable(&source))?;
        let reply = grpc
            .server_streaming(
                request,
                path_of(method)?,
                DynamicCodec {
                    output: method.output(),
                },
            )
            .await
            .map_err(|status| self.rpc_error(status))?;
        let this = self.clone();
        Ok(reply.into_inner().map(move |item| match item {
            Ok(message) => encode_json(&message),
            Err(status) => Err(this.rpc_error(status)),
        }))
    }

    fn grpc(&self) -> tonic::client::Grpc<Channel> {
        tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn unreachable(&self, source: &dyn fmt::Display) -> CallError {
        CallError::Unreachable {
            server: self.server.clone(),
            reason: source.to_string(),
        }
    }

    /// A transport failure and a refusal both arrive as a status; only the former has a source.
    fn rpc_error(&self, status: Status) -> CallError {
        let source = std::error::Error::source(&status).map(ToString::to_string);
        match source {
            Some(reason) if status.code() == Code::Unavailable => CallError::Unreachable {
                server: self.server.clone(),
                reason,
            },
            _ => CallError::Rpc(Box::new(status)),
        }
    }
}

/// The contracts that this build knows.
///
/// # Errors
/// When the embedded descriptor set cannot be read, which is a fault of the build.
pub fn contracts() -> Result<DescriptorPool, CallError> {
    DescriptorPool::decode(steading_api::FILE_DESCRIPTOR_SET).map_err(|source| CallError::Contracts {
        reason: source.to_string(),
    })
}

fn path_of(method: &MethodDescriptor) -> Result<http::uri::PathAndQuery, CallError> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    path.parse().map_err(|_| CallError::Contracts {
        reason: format!("{path} is not a path"),
    })
}

pub(crate) fn decode_json(descriptor: MessageDescriptor, json: Value) -> Result<DynamicMessage, CallError> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor, json, &options).map_err(|source| CallError::Request {
        reason: source.to_string(),
    })
}

fn encode_json(message: &DynamicMessage) -> Result<Value, CallError> {
    let options = SerializeOptions::new().skip_default_fields(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| CallError::Contracts {
            reason: source.to_string(),
        })
}

/// Why a call did not give a result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The address cannot be used.
    #[error("{server} is not an address such as http://127.0.0.1:8080: {reason}")]
    Address {
        /// What was given.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error("cannot reach {server}: {reason}")]
    Unreachable {
        /// The address.
        server: String,
        /// The transport's word.
        reason: String,
    },
    /// The request does not fit the contract.
    #[error("{reason}")]
    Request {
        /// Which field, and why.
        reason: String,
    },
    /// The server refused.
    #[error("{}", describe_status(.0))]
    Rpc(Box<Status>),
    /// The contracts of this build are broken.
    #[error("the embedded contracts cannot be read: {reason}")]
    Contracts {
        /// What failed.
        reason: String,
    },
}

impl CallError {
    /// Whether the server said that the resource does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Rpc(status) if status.code() == Code::NotFound)
    }

    /// Whether the server said that what the request was based on has changed.
    pub fn is_stale(&self) -> bool {
        let Self::Rpc(status) = self else { return false };
        let details = status.get_error_details();
        let mismatch = reason_name(ErrorReason::EtagMismatch);
        details.error_info().is_some_and(|info| info.reason == mismatch)
    }

    /// Whether trying again later is worth it: nobody answered, or the server is draining.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unreachable { .. }) || matches!(self, Self::Rpc(s) if s.code() == Code::Unavailable)
    }

    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } | Self::Address { .. } => {
                Some("start a server with `steading up`, or pass its address with --server or STEADING_SERVER")
            }
            Self::Rpc(status) if status.code() == Code::Aborted => Some("read the resource again and retry"),
            Self::Rpc(status) if status.code() == Code::Unimplemented => Some("docs/status.md says what is served"),
            _ => None,
        }
    }
}

/// The message, the code with its reason, and each violation on a line of its own.
fn describe_status(status: &Status) -> String {
    let details = status.get_error_details();
    let mut text = status.message().to_owned();
    let code = canonical_name(status.code());
    match details.error_info() {
        Some(info) => text.push_str(&format!(" ({code}, {})", info.reason)),
        None => text.push_str(&format!(" ({code})")),
    }
    for violation in details
        .bad_request()
        .map(|b| b.field_violations.as_slice())
        .unwrap_or_default()
    {
        text.push_str(&format!("\n  field {}: {}", violation.field, violation.description));
    }
    for violation in details
        .precondition_failure()
        .map(|p| p.violations.as_slice())
        .unwrap_or_default()
    {
        text.push_str(&format!(
            "\n  {} {}: {}",
            violation.r#type, violation.subject, violation.description
        ));
    }
    for violation in details
        .quota_failure()
        .map(|q| q.violations.as_slice())
        .unwrap_or_default()
    {
        text.push_str(&format!(
            "\n  quota of {}: {}",
            violation.subject, violation.description
        ));
    }
    text
}

/// The code as `google.rpc.Code` spells it.
fn canonical_name(code: Code) -> String {
    let mut name = String::new();
    for (i, c) in format!("{code:?}").chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// Encodes and decodes messages that are known by descriptor only.
struct DynamicCodec {
    output: MessageDescriptor,
}

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        DynamicDecoder {
            output: self.output.clone(),
        }
    }
}

struct DynamicEncoder;

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::Message::encode(&item, dst).map_err(|e| malformed(&e))
    }
}

struct DynamicDecoder {
    output: MessageDescriptor,
}

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        DynamicMessage::decode(self.output.clone(), src)
            .map(Some)
            .map_err(|e| malformed(&e))
    }
}

fn malformed(error: &dyn fmt::Display) -> Status {
    use steading_api::error::RpcError;
    RpcError::new(ErrorReason::MalformedRequest, error.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_names_are_those_of_google_rpc() {
        assert_eq!(canonical_name(Code::FailedPrecondition), "FAILED_PRECONDITION");
        assert_eq!(canonical_name(Code::Ok), "OK");
    }

    #[test]
    fn a_refusal_names_its_reason_and_fields() {
        use steading_api::{error::RpcError, types::v1::ErrorReason};
        let status: Status = RpcError::new(ErrorReason::InvalidField, "bad pool")
            .with_field("machine_pool.replicas", "negative")
            .into();
        assert_eq!(
            CallError::Rpc(Box::new(status)).to_string(),
            "bad pool (INVALID_ARGUMENT, INVALID_FIELD)\n  field machine_pool.replicas: negative"
        );
    }
}
