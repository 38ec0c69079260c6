//! The testee of protobuf's conformance runner: JSON → wire and wire → JSON by the codec.
//!
//! Speaks the runner's protocol on stdin and stdout: a length of four bytes, little endian, and a message. What is
//! neither from nor to JSON is skipped. `CONFORMANCE_SET` names the descriptor set of the runner's protos;
//! `conformance/run.sh` makes it and starts all of this.

use std::io::{self, Read, Write};

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use steading_transcode::Catalog;
use steading_transcode::codec::{self, DecodeOptions, EncodeOptions, Unknown, UnknownAny, Unset};

type Failure = Box<dyn std::error::Error>;

/// `conformance.WireFormat` and `conformance.TestCategory`, the values that matter here.
const PROTOBUF: i32 = 1;
const JSON: i32 = 2;
const JSON_IGNORE_UNKNOWN: i32 = 3;

/// An answer: the field of `ConformanceResponse` and its value.
type Answer = (&'static str, Value);

struct Testee {
    request: MessageDescriptor,
    response: MessageDescriptor,
    catalog: Catalog,
}

fn main() -> Result<(), Failure> {
    let set = std::env::var_os("CONFORMANCE_SET").ok_or("CONFORMANCE_SET is not set")?;
    let testee = Testee::new(&std::fs::read(set)?)?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    while let Some(bytes) = read_frame(&mut input)? {
        let answer = testee.answer(&bytes)?;
        output.write_all(&u32::try_from(answer.len())?.to_le_bytes())?;
        output.write_all(&answer)?;
        output.flush()?;
    }
    Ok(())
}

/// The next message, `None` when the runner is done.
fn read_frame(input: &mut impl Read) -> Result<Option<Vec<u8>>, Failure> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(length))?];
    input.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

impl Testee {
    fn new(set: &[u8]) -> Result<Self, Failure> {
        let catalog = Catalog::new(&[set], &[], |_| false)?;
        let find = |name| {
            let found = catalog.pool().get_message_by_name(name);
            found.ok_or("conformance.proto is incomplete")
        };
        Ok(Self {
            request: find("conformance.ConformanceRequest")?,
            response: find("conformance.ConformanceResponse")?,
            catalog,
        })
    }

    fn answer(&self, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        let request = DynamicMessage::decode(self.request.clone(), bytes)?;
        let mut response = DynamicMessage::new(self.response.clone());
        let (field, value) = self.run(&request);
        response.set_field_by_name(field, value);
        Ok(response.encode_to_vec())
    }

    fn run(&self, request: &DynamicMessage) -> Answer {
        let get = |name| request.get_field_by_name(name);
        let name = get("message_type")
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default();
        if name == "conformance.FailureSet" {
            return ("protobuf_payload", Value::Bytes(Vec::new().into()));
        }
        let Some(id) = self.catalog.schema().find(&name) else {
            return skipped(&format!("{name} is not known"));
        };
        let wanted = get("requested_output_format")
            .and_then(|v| v.as_enum_number())
            .unwrap_or_default();
        let category = get("test_category")
            .and_then(|v| v.as_enum_number())
            .unwrap_or_default();
        let json = request.has_field_by_name("json_payload");
        let wire = request.has_field_by_name("protobuf_payload");
        if !(json && matches!(wanted, PROTOBUF | JSON) || wire && wanted == JSON) {
            return skipped("only JSON to and from the wire format is tested");
        }
        let wire = if json {
            let text = get("json_payload")
                .and_then(|v| v.as_str().map(str::to_owned))
                .unwrap_or_default();
            let unknown = if category == JSON_IGNORE_UNKNOWN {
                Unknown::Ignore
            } else {
                Unknown::Refuse
            };
            let mut out = Vec::new();
            match codec::decode(
                self.catalog.schema(),
                id,
                text.as_bytes(),
                &DecodeOptions { unknown },
                &mut out,
            ) {
                Ok(()) => out,
                Err(error) => return ("parse_error", Value::String(error.to_string())),
            }
        } else {
            get("protobuf_payload")
                .and_then(|v| v.as_bytes().map(|b| b.to_vec()))
                .unwrap_or_default()
        };
        if wanted == PROTOBUF {
            return ("protobuf_payload", Value::Bytes(wire.into()));
        }
        let options = EncodeOptions {
            unset: Unset::Omit,
            unknown_any: UnknownAny::Refuse,
            ..EncodeOptions::default()
        };
        let mut out = Vec::new();
        match codec::encode(self.catalog.schema(), id, &wire, &options, &mut out) {
            Ok(()) => (
                "json_payload",
                Value::String(String::from_utf8_lossy(&out).into_owned()),
            ),
            Err(codec::EncodeError::Malformed | codec::EncodeError::Utf8 | codec::EncodeError::Depth) => {
                ("parse_error", Value::String("malformed".to_owned()))
            }
            Err(error) => ("serialize_error", Value::String(error.to_string())),
        }
    }
}

fn skipped(why: &str) -> Answer {
    ("skipped", Value::String(why.to_owned()))
}
