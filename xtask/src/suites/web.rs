//! Clients of gRPC-Web that others wrote (Connect's and Google's own), and grpcurl, on the showcase's services behind the gateway.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Error, Result, ensure};

use super::{
    fetch::{self, Unavailable},
    place::{self, Place},
    process::{Finished, Program},
    showcase::Showcase,
    verdict::Case,
};
use crate::tools;

/// All cases take a few seconds; each has 20 s before it fails by itself.
const PATIENCE: Duration = Duration::from_secs(300);

/// Something that is asked of grpcurl.
struct Question {
    name: &'static str,
    /// Arguments before the address.
    before: &'static [&'static str],
    /// Arguments behind it.
    behind: &'static [&'static str],
    /// What its answer must have.
    words: &'static [&'static str],
}

const fn question(
    name: &'static str,
    before: &'static [&'static str],
    behind: &'static [&'static str],
    words: &'static [&'static str],
) -> Question {
    Question {
        name,
        before,
        behind,
        words,
    }
}

const GRPCURL: [Question; 9] = [
    question(
        "list",
        &[],
        &["list"],
        &["google.showcase.v1beta1.Echo\n", "google.longrunning.Operations\n"],
    ),
    question(
        "describe a method",
        &[],
        &["describe", "google.showcase.v1beta1.Echo.Expand"],
        &["returns ( stream .google.showcase.v1beta1.EchoResponse )"],
    ),
    question(
        "describe a message",
        &[],
        &["describe", "google.showcase.v1beta1.EchoRequest"],
        &["message EchoRequest {", ".google.rpc.Status error = 2"],
    ),
    question(
        "a unary call",
        &["-d", r#"{"content":"one"}"#],
        &["google.showcase.v1beta1.Echo/Echo"],
        &[r#""content": "one""#],
    ),
    question(
        "a stream of replies",
        &["-d", r#"{"content":"one two"}"#],
        &["google.showcase.v1beta1.Echo/Expand"],
        &[r#""content": "one""#, r#""content": "two""#],
    ),
    question(
        "a stream of requests",
        &["-d", r#"{"content":"one"}{"content":"two"}"#],
        &["google.showcase.v1beta1.Echo/Collect"],
        &[r#""content": "one two""#],
    ),
    question(
        "streams both ways",
        &["-d", r#"{"content":"one"}{"content":"two"}"#],
        &["google.showcase.v1beta1.Echo/Chat"],
        &[r#""content": "one""#, r#""content": "two""#],
    ),
    question(
        "an error",
        &["-d", r#"{"name":"users/9999"}"#],
        &["google.showcase.v1beta1.Identity/GetUser"],
        &["Code: NotFound", "users/9999"],
    ),
    question(
        "health",
        &[],
        &["grpc.health.v1.Health/Check"],
        &[r#""status": "SERVING""#],
    ),
];

/// Plays it.
pub(crate) fn play(place: &Place) -> Result<Vec<Case>> {
    let node = fetch::node(place)?;
    let grpcurl = tools::grpcurl().map_err(|error| Error::new(Unavailable(format!("grpcurl: {error:#}"))))?;
    let showcase = Showcase::start(place)?;
    println!("    playing");
    // Beside node_modules, where Node.js looks for what they import.
    for file in ["client.mjs", "connect.mjs", "google.mjs"] {
        fs::copy(place.source.join(file), node.join(file)).with_context(|| file.to_owned())?;
    }
    let mut command = Command::new("node");
    command
        .current_dir(&node)
        .arg("client.mjs")
        .arg(format!("http://{}", showcase.address))
        .arg(&showcase.descriptors);
    let played = Program::start(&place.kept.join("client"), &mut command)?;
    let mut cases = place::cases(&played.finish(PATIENCE)?.succeeded()?)?;

    let log = place.kept.join("grpcurl");
    for question in GRPCURL {
        let answered = ask(&grpcurl, &log, showcase.address, &question)
            .and_then(|ended| has_words(&format!("{}{}", ended.said, ended.complaint), question.words));
        cases.push(Case::of(format!("grpcurl/{}", question.name), answered));
    }
    Ok(cases)
}

fn ask(grpcurl: &Path, log: &Path, gateway: SocketAddr, question: &Question) -> Result<Finished> {
    let mut command = Command::new(grpcurl);
    command
        .args(["-plaintext", "-max-time", "20"])
        .args(question.before)
        .arg(gateway.to_string())
        .args(question.behind);
    Program::start(log, &mut command)?.finish(PATIENCE)
}

fn has_words(answer: &str, words: &[&str]) -> Result<()> {
    let missing: Vec<_> = words.iter().filter(|word| !answer.contains(**word)).collect();
    ensure!(missing.is_empty(), "{missing:?} is not in {answer}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_needs_all_words() {
        has_words("one two", &["one", "two"]).unwrap();
        assert!(has_words("one", &["one", "two"]).is_err());
    }
}
