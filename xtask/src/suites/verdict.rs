//! What a suite's results mean, held against what is expected of it.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Characters of an error that are shown; the rest is in the suite's log.
const SHOWN: usize = 600;

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Case {
    /// `GROUP/…`, unique in the suite.
    #[serde(rename = "case")]
    pub(crate) name: String,
    /// Why it failed; nothing if it passed.
    #[serde(default)]
    pub(crate) error: Option<String>,
}

impl Case {
    /// One that holds if nothing went wrong.
    pub(crate) fn of<T>(name: impl Into<String>, result: Result<T>) -> Self {
        Self {
            name: name.into(),
            error: result.err().map(|error| format!("{error:#}")),
        }
    }

    fn group(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// `expected.json` of a suite.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    /// How many cases are played: a suite that has lost some must not pass.
    cases: usize,
    /// Cases that fail, and why that is right.
    #[serde(default)]
    accepted: Vec<Accepted>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    case: String,
    reason: String,
}

impl Expected {
    /// Reads it.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        serde_json::from_str(&text).with_context(|| file.display().to_string())
    }
}

/// Something that is not as expected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A case failed.
    Failed { case: String, error: String },
    /// A case that is expected to fail passes.
    Passes { case: String, reason: String },
    /// A case that is expected to fail was not played.
    Missing { case: String },
    /// Two cases have one name, so that one may hide the other.
    Twice { case: String },
    /// Another number of cases.
    Count { expected: usize, played: usize },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { case, error } => {
                let shown: String = error.chars().take(SHOWN).collect();
                write!(f, "FAILED   {case}: {shown}")
            }
            Self::Passes { case, reason } => write!(f, "passes   {case}, expected to fail: {reason}"),
            Self::Missing { case } => write!(f, "missing  {case}, expected to fail"),
            Self::Twice { case } => write!(f, "twice    {case}"),
            Self::Count { expected, played } => write!(f, "count    {played} cases instead of {expected}"),
        }
    }
}

/// Counts of a group.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Row {
    passed: usize,
    accepted: usize,
    failed: usize,
}

/// What comes out.
#[derive(Debug)]
pub(crate) struct Judgement {
    groups: BTreeMap<String, Row>,
    accepted: Vec<(String, String)>,
    /// Empty if all is as expected.
    pub(crate) findings: Vec<Finding>,
}

/// Holds results against what is expected.
pub(crate) fn judge(cases: &[Case], expected: &Expected) -> Judgement {
    let mut judgement = Judgement {
        groups: BTreeMap::new(),
        accepted: Vec::new(),
        findings: Vec::new(),
    };
    let mut seen = BTreeMap::new();
    for case in cases {
        if seen.insert(case.name.as_str(), case).is_some() {
            judgement.findings.push(Finding::Twice {
                case: case.name.clone(),
            });
        }
        let accepted = expected.accepted.iter().find(|accepted| accepted.case == case.name);
        let row = judgement.groups.entry(case.group().to_owned()).or_default();
        match (&case.error, accepted) {
            (None, None) => row.passed += 1,
            (None, Some(accepted)) => {
                row.passed += 1;
                judgement.findings.push(Finding::Passes {
                    case: case.name.clone(),
                    reason: accepted.reason.clone(),
                });
            }
            (Some(_), Some(accepted)) => {
                row.accepted += 1;
                judgement.accepted.push((case.name.clone(), accepted.reason.clone()));
            }
            (Some(error), None) => {
                row.failed += 1;
                judgement.findings.push(Finding::Failed {
                    case: case.name.clone(),
                    error: error.clone(),
                });
            }
        }
    }
    for accepted in &expected.accepted {
        if !seen.contains_key(accepted.case.as_str()) {
            judgement.findings.push(Finding::Missing {
                case: accepted.case.clone(),
            });
        }
    }
    if cases.len() != expected.cases {
        judgement.findings.push(Finding::Count {
            expected: expected.cases,
            played: cases.len(),
        });
    }
    judgement
}

impl Judgement {
    fn total(&self) -> Row {
        self.groups.values().fold(Row::default(), |sum, row| Row {
            passed: sum.passed + row.passed,
            accepted: sum.accepted + row.accepted,
            failed: sum.failed + row.failed,
        })
    }

    /// A line a group, then the accepted deviations; indented, each line ended.
    pub(crate) fn table(&self) -> String {
        let mut table = format!("    {:24} passed  accepted  failed\n", "");
        for (group, row) in &self.groups {
            let Row {
                passed,
                accepted,
                failed,
            } = row;
            table += &format!("    {group:24} {passed:6}  {accepted:8}  {failed:6}\n");
        }
        for (case, reason) in &self.accepted {
            table += &format!("    accepted {case}: {reason}\n");
        }
        table
    }

    /// All in a few words.
    pub(crate) fn summary(&self) -> String {
        let Row {
            passed,
            accepted,
            failed,
        } = self.total();
        format!("{passed} passed, {accepted} accepted, {failed} failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, error: Option<&str>) -> Case {
        Case {
            name: name.to_owned(),
            error: error.map(str::to_owned),
        }
    }

    fn expected(cases: usize, accepted: &[(&str, &str)]) -> Expected {
        let accepted = accepted.iter().map(|(case, reason)| Accepted {
            case: (*case).to_owned(),
            reason: (*reason).to_owned(),
        });
        Expected {
            cases,
            accepted: accepted.collect(),
        }
    }

    #[test]
    fn a_failure_is_accepted_only_by_its_name() {
        let cases = [case("a/1", None), case("a/2", Some("x")), case("b/1", Some("y"))];
        let judgement = judge(&cases, &expected(3, &[("a/2", "their bug")]));
        let failed = Finding::Failed {
            case: "b/1".to_owned(),
            error: "y".to_owned(),
        };
        assert_eq!(judgement.findings, [failed]);
        assert_eq!(judgement.summary(), "1 passed, 1 accepted, 1 failed");
    }

    #[test]
    fn what_is_accepted_must_still_fail() {
        let cases = [case("a/1", None)];
        let judgement = judge(&cases, &expected(1, &[("a/1", "their bug"), ("a/2", "their bug")]));
        let passes = Finding::Passes {
            case: "a/1".to_owned(),
            reason: "their bug".to_owned(),
        };
        let missing = Finding::Missing { case: "a/2".to_owned() };
        assert_eq!(judgement.findings, [passes, missing]);
    }

    #[test]
    fn cases_cannot_get_lost_or_hide_each_other() {
        let judgement = judge(&[], &expected(53, &[]));
        let count = Finding::Count {
            expected: 53,
            played: 0,
        };
        assert_eq!(judgement.findings, [count]);
        let twice = judge(&[case("a/1", None), case("a/1", None)], &expected(2, &[]));
        assert_eq!(twice.findings, [Finding::Twice { case: "a/1".to_owned() }]);
    }

    #[test]
    fn results_are_read_as_the_players_write_them() {
        let passed: Case = serde_json::from_str(r#"{"case":"a/1"}"#).unwrap();
        let failed: Case = serde_json::from_str(r#"{"case":"a/2","error":"x"}"#).unwrap();
        assert_eq!([passed, failed], [case("a/1", None), case("a/2", Some("x"))]);
    }
}
