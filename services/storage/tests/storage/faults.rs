//! What is broken comes right again; what cannot be seen is said to be unknown.

use steading_api::storage::v1::{
    self as proto,
    volume::{AttachmentState, State},
};
use steading_kubesim::{
    Verb,
    faults::{Cut, Effect, Matcher, Rule},
};

use crate::fixture::{Fixture, eventually, machine_name, mk_volume};

#[tokio::test]
async fn conflicts_and_refusals_at_the_machine_are_outlived() {
    let fixture = Fixture::start().await;
    fixture.create("data", mk_volume()).await.expect("made");
    fixture
        .until_volume("data", |volume| volume.state() == State::Ready)
        .await;
    let at_machines = Matcher::on("virtualmachines", &[Verb::Patch]);
    fixture
        .server
        .faults()
        .add(Rule::times(3, at_machines.clone(), Effect::Conflict));
    fixture
        .server
        .faults()
        .add(Rule::times(2, at_machines, Effect::Unavailable));
    fixture.attach("data", "m1").await.expect("wanted");
    fixture.until("data", AttachmentState::Attached).await;
    assert_eq!(fixture.disks("m1").await, ["boot", "vol-data"]);
    fixture.stop().await;
}

#[tokio::test]
async fn a_restarted_service_ends_in_the_same_state() {
    let mut fixture = Fixture::start().await;
    let wanted = proto::Volume {
        machine: machine_name("m1"),
        ..mk_volume()
    };
    for round in 0..4 {
        fixture
            .create(&format!("v{round}"), wanted.clone())
            .await
            .expect("made");
        tokio::time::sleep(std::time::Duration::from_millis(60 * round)).await;
        fixture.restart();
    }
    for round in 0..4 {
        fixture.until(&format!("v{round}"), AttachmentState::Attached).await;
    }
    assert_eq!(fixture.disks("m1").await.len(), 5);
    fixture.stop().await;
}

#[tokio::test]
async fn what_cannot_be_watched_is_unknown() {
    let fixture = Fixture::start().await;
    fixture
        .create(
            "data",
            proto::Volume {
                machine: machine_name("m1"),
                ..mk_volume()
            },
        )
        .await
        .expect("made");
    fixture.until("data", AttachmentState::Attached).await;
    let instances = Matcher::on("virtualmachineinstances", &[]).from_agent("storage");
    let rule = fixture
        .server
        .faults()
        .add(Rule::always(instances.clone(), Effect::Unavailable));
    fixture.server.faults().cut_watches(&instances, Cut::Expire);
    let unknown = fixture.until("data", AttachmentState::Unknown).await;
    assert_eq!(unknown.attached_machine, machine_name("m1"), "where it was seen last");
    fixture.detach("data").await.expect("a wish can always be noted");
    assert_eq!(
        fixture.get("data").await.expect("there").attachment_state(),
        AttachmentState::Unknown,
        "never detached unseen"
    );
    fixture.server.faults().remove(rule);
    fixture.until("data", AttachmentState::Detached).await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_lost_answer_does_not_attach_twice() {
    let fixture = Fixture::start().await;
    let at_machines = Matcher::on("virtualmachines", &[Verb::Patch]);
    fixture
        .server
        .faults()
        .add(Rule::times(1, at_machines, Effect::DropAnswer));
    fixture
        .create(
            "data",
            proto::Volume {
                machine: machine_name("m1"),
                ..mk_volume()
            },
        )
        .await
        .expect("made");
    fixture.until("data", AttachmentState::Attached).await;
    let settled = eventually(async || (fixture.disks("m1").await == ["boot", "vol-data"]).then_some(()));
    settled.await.expect("once");
    fixture.stop().await;
}
