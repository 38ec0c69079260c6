//! What is broken comes right again; what cannot be seen is said to be unknown.

use steading_api::storage::v1::volume::{AttachmentState, State};
use steading_sim::{
    apiserver::Verb,
    faults::{Effect, Matcher, Rule},
};

use crate::fixture::{Fixture, mk_volume};

#[tokio::test]
async fn conflicts_and_refusals_at_the_machine_are_outlived() {
    let fixture = Fixture::start().await;
    fixture.create("data", mk_volume()).await.expect("made");
    fixture.until_volume("data", |volume| volume.state() == State::Ready).await;
    let at_machines = Matcher::on("virtualmachines", &[Verb::Patch]);
    fixture.server.faults().add(Rule::times(3, at_machines.clone(), Effect::Conflict));
    fixture.server.faults().add(Rule::times(6, at_machines, Effect::Unavailable));
    fixture.attach("data", "m1").await.expect("wanted");
    fixture.until("data", AttachmentState::Attached).await;
    assert_eq!(fixture.disks("m1").await, ["boot", "vol-data"]);
    fixture.stop().await;
}
