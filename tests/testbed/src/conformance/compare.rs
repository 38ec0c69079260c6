//! Recordings on disk, and what differs between two.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Area, Case, Difference, Outcome,
    transcript::{Note, Recording},
};

/// Lines of a difference that are shown; one is enough to begin with, a page hides the others.
const SHOWN: usize = 40;

/// How the recording of a case differs from what is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The note, or what else it is about.
    pub what: String,
    /// Readable lines.
    pub lines: Vec<String>,
}

/// Where this crate keeps the recordings.
pub fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings")
}

fn file(folder: &Path, area: Area, id: &str) -> PathBuf {
    folder.join(area.folder()).join(format!("{id}.json"))
}

/// The recording of a case; none where there is none.
///
/// # Errors
/// When the file cannot be read or is no recording.
pub fn load(folder: &Path, case: &Case) -> Result<Option<Recording>> {
    let path = file(folder, case.area, case.id);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).with_context(|| path.display().to_string())?;
    let value: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let notes = value.get("notes").and_then(Value::as_array).into_iter().flatten();
    Ok(Some(Recording {
        case: case.id.to_owned(),
        notes: notes
            .map(|note| Note {
                what: note.get("what").and_then(Value::as_str).unwrap_or_default().to_owned(),
                saw: note.get("saw").cloned().unwrap_or(Value::Null),
            })
            .collect(),
    }))
}

/// Writes the recordings of all outcomes that are complete and says how many.
///
/// # Errors
/// When a file cannot be written.
pub fn record(folder: &Path, outcomes: &[Outcome]) -> Result<usize> {
    let mut written = 0;
    for outcome in outcomes {
        let Ok(recording) = &outcome.result else { continue };
        let path = file(folder, outcome.case.area, outcome.case.id);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        let notes: Vec<Value> = recording
            .notes
            .iter()
            .map(|note| json!({"what": note.what, "saw": note.saw}))
            .collect();
        let value = json!({"case": recording.case, "notes": notes});
        fs::write(&path, format!("{value:#}\n")).with_context(|| path.display().to_string())?;
        written += 1;
    }
    Ok(written)
}

/// How `got` differs from `want`, without the differences that are accepted. One that is accepted and does not show is an error too.
pub fn compare(want: &Recording, got: &Recording, accepted: &[Difference]) -> Vec<Mismatch> {
    let mut mismatches = differing(want, got);
    for known in accepted.iter().filter(|known| known.case == got.case) {
        let all = mismatches.len();
        mismatches.retain(|mismatch| mismatch.what != known.note);
        if mismatches.len() == all {
            mismatches.push(Mismatch {
                what: known.note.to_owned(),
                lines: vec!["is listed as a known difference but does not differ any more".to_owned()],
            });
        }
    }
    mismatches
}

fn differing(want: &Recording, got: &Recording) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for place in 0..want.notes.len().max(got.notes.len()) {
        let (left, right) = (want.notes.get(place), got.notes.get(place));
        let what = right.or(left).map(|note| note.what.clone()).unwrap_or_default();
        let mut lines = Vec::new();
        match (left, right) {
            (Some(left), Some(right)) if left.what == right.what => diff("", &left.saw, &right.saw, &mut lines),
            (Some(left), Some(_)) => lines.push(format!("wanted the note {:?}", left.what)),
            (Some(_), None) => lines.push("the note is missing".to_owned()),
            (None, Some(_)) => lines.push("the recording has no such note".to_owned()),
            (None, None) => {}
        }
        if !lines.is_empty() {
            mismatches.push(Mismatch { what, lines });
        }
    }
    mismatches
}

/// `- path: recorded` and `+ path: seen`, for each leaf that differs.
fn diff(path: &str, want: &Value, got: &Value, lines: &mut Vec<String>) {
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match (want, got) {
        (Value::Object(left), Value::Object(right)) => {
            for (key, value) in left {
                match right.get(key) {
                    Some(other) => diff(&below(key), value, other, lines),
                    None => lines.push(format!("- {}: {value}", below(key))),
                }
            }
            for (key, value) in right.iter().filter(|(key, _)| !left.contains_key(*key)) {
                lines.push(format!("+ {}: {value}", below(key)));
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (place, (value, other)) in left.iter().zip(right).enumerate() {
                diff(&below(&place.to_string()), value, other, lines);
            }
        }
        (left, right) if left == right => {}
        (left, right) => {
            lines.push(format!("- {path}: {left}"));
            lines.push(format!("+ {path}: {right}"));
        }
    }
}

/// All failures with what differs, ready to print; empty when there is none. A case without a recording fails if `folder` has any.
/// `accepted` is [`DIFFERENCES`](super::DIFFERENCES) for the simulator and nothing for the real control plane.
///
/// # Errors
/// When a recording cannot be read.
pub fn table(folder: &Path, outcomes: &[Outcome], accepted: &[Difference]) -> Result<String> {
    let mut text = String::new();
    let mut failed = 0;
    for outcome in outcomes {
        let mismatches = judge(folder, outcome, accepted)?;
        if mismatches.is_empty() {
            continue;
        }
        failed += 1;
        let _ = writeln!(text, "✗ {} ({:.1} s)", outcome.case.id, outcome.took.as_secs_f64());
        for mismatch in mismatches {
            let _ = writeln!(text, "    {}", mismatch.what);
            for line in mismatch.lines.iter().take(SHOWN) {
                let _ = writeln!(text, "      {line}");
            }
            if mismatch.lines.len() > SHOWN {
                let _ = writeln!(text, "      … and {} more", mismatch.lines.len() - SHOWN);
            }
        }
    }
    if failed > 0 {
        let _ = writeln!(text, "{failed} of {} cases differ", outcomes.len());
    }
    Ok(text)
}

fn judge(folder: &Path, outcome: &Outcome, accepted: &[Difference]) -> Result<Vec<Mismatch>> {
    let one = |what: &str, line: String| {
        vec![Mismatch {
            what: what.to_owned(),
            lines: vec![line],
        }]
    };
    Ok(match (&outcome.result, load(folder, &outcome.case)?) {
        (Err(error), _) => one("did not end", error.clone()),
        (Ok(got), Some(want)) => compare(&want, got, accepted),
        (Ok(_), None) if folder.join(outcome.case.area.folder()).exists() => {
            one("has no recording", "record it on the real control plane".to_owned())
        }
        (Ok(_), None) => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_recording(notes: &[(&str, Value)]) -> Recording {
        Recording {
            case: "a-case".to_owned(),
            notes: notes
                .iter()
                .map(|(what, saw)| Note {
                    what: (*what).to_owned(),
                    saw: saw.clone(),
                })
                .collect(),
        }
    }

    #[test]
    fn each_leaf_that_differs_is_named_with_both_sides() {
        let want = mk_recording(&[("get", json!({"code": 200, "body": {"a": [1, 2], "b": 1}}))]);
        let got = mk_recording(&[("get", json!({"code": 404, "body": {"a": [1, 3], "c": 1}}))]);
        let mismatches = compare(&want, &got, &[]);
        assert_eq!(mismatches.len(), 1);
        assert_eq!(
            mismatches[0].lines,
            [
                "- code: 200",
                "+ code: 404",
                "- body.a.1: 2",
                "+ body.a.1: 3",
                "- body.b: 1",
                "+ body.c: 1"
            ]
        );
        assert!(compare(&want, &want, &[]).is_empty());
    }

    #[test]
    fn missing_and_surplus_notes_are_differences() {
        let long = mk_recording(&[("a", json!(1)), ("b", json!(2))]);
        let short = mk_recording(&[("a", json!(1))]);
        assert_eq!(compare(&long, &short, &[])[0].lines, ["the note is missing"]);
        assert_eq!(compare(&short, &long, &[])[0].lines, ["the recording has no such note"]);
    }

    #[test]
    fn an_accepted_difference_must_show() {
        let (want, got) = (mk_recording(&[("a", json!(1))]), mk_recording(&[("a", json!(2))]));
        let known = [Difference {
            case: "a-case",
            note: "a",
            reason: "",
        }];
        assert!(compare(&want, &got, &known).is_empty());
        assert_eq!(compare(&want, &want, &known).len(), 1);
    }
}
