use proptest::prelude::*;

use super::*;

fn at(name: &str) -> ObjectRef {
    ObjectRef::new("ns", name)
}

fn mk_index() -> Index<String> {
    Index::new().with_key("value", |_, value: &String| vec![value.clone()])
}

fn names(found: &[(ObjectRef, Arc<String>)]) -> Vec<String> {
    found.iter().map(|(object, _)| object.to_string()).collect()
}

#[test]
fn a_late_reply_does_not_overwrite_a_newer_event() {
    let index = mk_index();
    assert!(index.upsert(at("a"), Version::from(5), "new".into()));
    assert!(!index.upsert(at("a"), Version::from(4), "old".into()));
    assert_eq!(index.get("ns", "a").as_deref(), Some(&"new".to_owned()));
}

#[test]
fn what_was_deleted_does_not_come_back_by_a_late_reply() {
    let index = mk_index();
    index.upsert(at("a"), Version::from(5), "x".into());
    assert!(index.remove(&at("a"), Version::from(7)));
    assert!(!index.upsert(at("a"), Version::from(6), "x".into()));
    assert!(index.get("ns", "a").is_none());
    assert!(index.upsert(at("a"), Version::from(8), "made again".into()));
    assert!(
        !index.remove(&at("a"), Version::from(7)),
        "an old deletion is not of the new one"
    );
}

#[test]
fn a_list_removes_what_it_lacks_but_not_what_is_newer_than_it() {
    let index = mk_index();
    index.upsert(at("old"), Version::from(3), "x".into());
    index.upsert(at("written-since"), Version::from(12), "x".into());
    index.replace(
        vec![(at("listed"), Version::from(2), Some("y".into()))],
        Version::from(10),
    );
    assert_eq!(names(&index.all()), ["ns/listed", "ns/written-since"]);
    assert_eq!(index.version(), Version::from(10));
}

#[test]
fn secondary_keys_follow_their_objects() {
    let index = mk_index();
    index.upsert(at("a"), Version::from(1), "red".into());
    index.upsert(at("b"), Version::from(2), "red".into());
    index.upsert(at("a"), Version::from(3), "blue".into());
    assert_eq!(names(&index.by("value", "red")), ["ns/b"]);
    assert_eq!(names(&index.by("value", "blue")), ["ns/a"]);
    index.remove(&at("b"), Version::from(4));
    assert_eq!(index.count_by("value", "red"), 0);
}

#[test]
fn only_what_differs_is_a_change() {
    let index = mk_index();
    let start = index.end();
    index.upsert(at("a"), Version::from(1), "x".into());
    assert!(!index.upsert(at("a"), Version::from(2), "x".into()));
    assert_eq!(index.since(start).expect("in reach").len(), 1);
    assert_eq!(index.version_of(&at("a")), Some(Version::from(2)));
}

#[test]
fn a_snapshot_and_the_changes_behind_it_miss_nothing() {
    let index = mk_index();
    index.upsert(at("a"), Version::from(1), "x".into());
    let (seen, cursor) = index.snapshot();
    index.upsert(at("b"), Version::from(2), "y".into());
    let later = index.since(cursor).expect("in reach");
    assert_eq!((seen.len(), later.len()), (1, 1));
}

#[test]
fn pages_follow_each_other_over_namespaces() {
    let index = Index::new();
    for (number, (namespace, name)) in (1u64..).zip([("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")]) {
        index.upsert(ObjectRef::new(namespace, name), Version::from(number), number);
    }
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = index.page(None, after.as_ref(), 2);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.iter().map(|(object, _)| object.to_string()));
    }
    assert_eq!(seen, ["a/x", "a/y", "b/x", "c/z"]);
    assert_eq!(index.page(Some("b"), None, 9).len(), 1);
    assert_eq!(index.page(Some("missing"), None, 9).len(), 0);
}

#[tokio::test]
async fn readers_wait_for_a_version() {
    let index = Arc::new(mk_index());
    let waiting = index.reaches(Version::from(3));
    index.advance(Version::from(3));
    waiting.await;
}

proptest! {
    /// Whatever order events, replies and lists arrive in: per object the newest word stands.
    #[test]
    fn the_newest_word_stands_in_any_order(mut words in proptest::collection::vec((0u8..3, 1u64..40, any::<bool>()), 1..40)) {
        // One word a version, as of an API server.
        words.sort_by_key(|(_, version, _)| *version);
        words.dedup_by_key(|(_, version, _)| *version);
        let mut newest = std::collections::BTreeMap::new();
        for (object, version, present) in &words {
            newest.insert(*object, (*version, *present));
        }
        let mut shuffled = words.clone();
        shuffled.reverse();
        shuffled.sort_by_key(|(object, version, _)| (u64::from(*object) * 7 + version * 13) % 11);
        let index: Index<u64> = Index::new();
        for (object, version, present) in shuffled {
            let object = at(&object.to_string());
            if present {
                index.upsert(object, Version::from(version), version);
            } else {
                index.remove(&object, Version::from(version));
            }
        }
        for (object, (version, present)) in newest {
            let found = index.get("ns", &object.to_string()).map(|value| *value);
            prop_assert_eq!(found, present.then_some(version));
        }
    }
}
