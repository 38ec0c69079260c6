//! Holds the simulator to what the real control plane said.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::Path};

use steading_testbed::conformance::{DIFFERENCES, all, on_simulator, recordings, table};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulator_answers_as_the_real_control_plane_did() {
    let filter = std::env::var("CONFORMANCE").ok();
    let outcomes = on_simulator(filter.as_deref()).await.expect("the simulator must start");
    assert!(!outcomes.is_empty(), "no case has {filter:?} in its name");
    let failures = table(&recordings(), &outcomes, DIFFERENCES).expect("recordings must be readable");
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn every_case_has_its_own_name_and_every_recording_its_case() {
    let cases = all();
    let names: BTreeSet<String> = cases
        .iter()
        .map(|case| format!("{}/{}.json", case.area.folder(), case.id))
        .collect();
    assert_eq!(names.len(), cases.len(), "two cases have the same name");
    for area in fs::read_dir(recordings()).expect("recordings") {
        let area = area.expect("a folder of recordings").path();
        for file in fs::read_dir(&area).expect("a folder of recordings") {
            let file = file.expect("a recording").path();
            let name = file
                .strip_prefix(recordings())
                .expect("a recording")
                .display()
                .to_string();
            assert!(names.contains(&name), "the recording {name} has no case");
        }
    }
}

#[test]
fn known_differences_are_those_in_the_documentation() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/simulator.md");
    let text = fs::read_to_string(docs).expect("docs/simulator.md");
    let section = text
        .split("## Known differences")
        .nth(1)
        .expect("the section Known differences");
    let listed: BTreeSet<&str> = section
        .split("\n## ")
        .next()
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("- "))
        .collect();
    let known: BTreeSet<&str> = DIFFERENCES.iter().map(|difference| difference.reason).collect();
    assert_eq!(listed, known);
    for difference in DIFFERENCES {
        assert!(
            all().iter().any(|case| case.id == difference.case),
            "{}",
            difference.case
        );
    }
}
