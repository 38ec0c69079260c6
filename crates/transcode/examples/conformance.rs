//! The testee of protobuf's conformance runner: JSON → wire and wire → JSON by the codec.
//!
//! Speaks the runner's protocol on stdin and stdout: a length of four bytes, little endian, and a message. What is
//! neither from nor to JSON is skipped. `CONFORMANCE_PROTOS` names the directory of the runner's protos;
//! `conformance/run.sh` fetches it and starts all of this.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use steading_transcode::Schema;
use steading_transcode::codec::{self, DecodeOptions, EncodeOptions, Unknown, UnknownAny, Unset};

type Failure = Box<dyn std::error::Error>;

/// `conformance.WireFormat` and `conformance.TestCategory`, the values that matter here.
const PROTOBUF: i32 = 1;
const JSON: i32 = 2;
const JSON_IGNORE_UNKNOWN: i32 = 3;

/// Files that hold the types of tests; editions last, as a compiler may not know them.
const FILES: [&str; 5] = [
    "google/protobuf/test_messages_proto3.proto",
    "google/protobuf/test_messages_proto2.proto",
    "google/protobuf/test_messages_proto3_editions.proto",
    "google/protobuf/test_messages_proto2_editions.proto",
    "google/protobuf/test_messages_edition2023.proto",
];

/// An answer: the field of `ConformanceResponse` and its value.
type Answer = (&'static str, Value);

struct Testee {
    request: MessageDescriptor,
    response: MessageDescriptor,
    schema: Schema,
}

fn main() -> Result<(), Failure> {
    let protos = std::env::var_os("CONFORMANCE_PROTOS").ok_or("CONFORMANCE_PROTOS is not set")?;
    let testee = Testee::new(PathBuf::from(protos))?;
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
    /// Compiles the protos below `include`. A file that the compiler cannot read is named on stderr and left out;
    /// its tests are then skipped.
    fn new(include: PathBuf) -> Result<Self, Failure> {
        let mut compiler = protox::Compiler::new([include])?;
        compiler.include_imports(true);
        compiler.open_file("conformance/conformance.proto")?;
        for file in FILES {
            if let Err(error) = compiler.open_file(file) {
                writeln!(io::stderr(), "left out {file}: {error}")?;
            }
        }
        let pool = DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice())?;
        let find = |name| pool.get_message_by_name(name).ok_or("conformance.proto is incomplete");
        Ok(Self {
            request: find("conformance.ConformanceRequest")?,
            response: find("conformance.ConformanceResponse")?,
            schema: Schema::new(&pool),
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
        let Some(id) = self.schema.find(&name) else {
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
            match codec::decode(&self.schema, id, text.as_bytes(), &DecodeOptions { unknown }, &mut out) {
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
        match codec::encode(&self.schema, id, &wire, &options, &mut out) {
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
