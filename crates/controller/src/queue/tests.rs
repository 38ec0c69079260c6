use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key(&'static str, u32);

impl Keyed for Key {
    fn tenant(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_comes_once_at_its_earliest_time() {
    let start = Instant::now();
    let queue = Queue::default();
    queue.add_after("a", Duration::from_secs(9));
    queue.add_after("b", Duration::from_secs(2));
    queue.add_after("a", Duration::from_secs(1));
    queue.add_after("a", Duration::from_secs(5));
    assert_eq!((queue.next().await, start.elapsed().as_secs()), ("a", 1));
    assert_eq!((queue.next().await, start.elapsed().as_secs()), ("b", 2));
    assert_eq!(queue.depth().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_busy_key_never_runs_twice_and_comes_again() {
    let queue = Queue::default();
    queue.add("a");
    assert_eq!(queue.next().await, "a");
    queue.add("a");
    assert!(timeout(LONG, queue.next()).await.is_err(), "not while it is worked on");
    queue.done(&"a", Outcome::Settled);
    assert_eq!(queue.next().await, "a");
    queue.done(&"a", Outcome::Settled);
    assert!(timeout(LONG, queue.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_up_to_the_bound_and_success_forgets_them() {
    let config = QueueConfig {
        last_pause: Duration::from_secs(2),
        ..QueueConfig::default()
    };
    let queue = Queue::new(config);
    queue.add("a");
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let before = Instant::now();
        let key = queue.next().await;
        pauses.push(before.elapsed());
        queue.done(&key, Outcome::Failed(Retry::Backoff));
    }
    assert!(
        pauses[1] < pauses[3] && pauses[7] <= Duration::from_millis(2400),
        "{pauses:?}"
    );
    queue.next().await;
    queue.done(&"a", Outcome::Settled);
    queue.add("a");
    queue.next().await;
    let before = Instant::now();
    queue.done(&"a", Outcome::Failed(Retry::Backoff));
    queue.next().await;
    assert!(before.elapsed() < Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn what_only_a_change_can_mend_waits_for_the_change() {
    let queue = Queue::default();
    queue.add("a");
    let key = queue.next().await;
    queue.done(&key, Outcome::Failed(Retry::OnChange));
    assert!(timeout(LONG, queue.next()).await.is_err());
    queue.add("a");
    assert_eq!(queue.next().await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_takes_at_most_a_quarter_of_the_slots() {
    let config = QueueConfig {
        slots: 8,
        ..QueueConfig::default()
    };
    let queue = Queue::new(config);
    for number in 0..100 {
        queue.add(Key("noisy", number));
    }
    queue.add(Key("quiet", 0));
    queue.add(Key("", 0));
    let mut taken = Vec::new();
    while let Ok(key) = timeout(Duration::from_secs(1), queue.next()).await {
        taken.push(key);
    }
    let noisy = taken.iter().filter(|key| key.0 == "noisy").count();
    assert_eq!((noisy, taken.len()), (2, 4), "{taken:?}");
    let mut served = 0;
    let mut busy: Vec<Key> = taken;
    while let Some(key) = busy.pop() {
        queue.done(&key, Outcome::Settled);
        served += 1;
        while let Ok(next) = timeout(Duration::from_millis(1), queue.next()).await {
            busy.push(next);
        }
    }
    assert_eq!(served, 102, "nothing is lost");
}

#[tokio::test(start_paused = true)]
async fn no_more_keys_than_slots_are_given_out() {
    let config = QueueConfig {
        slots: 2,
        ..QueueConfig::default()
    };
    let queue = Queue::new(config);
    for key in ["a", "b", "c"] {
        queue.add(key);
    }
    queue.next().await;
    let second = queue.next().await;
    assert!(timeout(LONG, queue.next()).await.is_err());
    assert_eq!(queue.depth().oldest, LONG);
    queue.done(&second, Outcome::Settled);
    assert_eq!(queue.next().await, "c");
}
