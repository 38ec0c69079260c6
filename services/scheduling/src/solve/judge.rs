//! Why a node cannot take a workload, in words for those who may read them.

use k8s_openapi::api::core::v1::Taint;

use crate::{
    observe::{ObservedPod, Readiness},
    solve::{
        filter::{
            Audience, Predicate, Refusal, Refusals, holds, unmet_affinity, unmet_label, unreachable_volume, untolerated,
        },
        neighbours::{Clash, Witness},
        overlay::Overlay,
        problem::NodeOrd,
        standing::Standing,
    },
};

impl Standing<'_> {
    /// The first predicate that refuses the node, with its reason.
    pub fn first_refusal(&self, overlay: &Overlay, ord: NodeOrd, audience: Audience<'_>) -> Option<Refusal> {
        Predicate::ALL.into_iter().find_map(|predicate| {
            let message = self.judge(overlay, ord, predicate, audience).err()?;
            Some(Refusal { predicate, message })
        })
    }

    /// One predicate on one node.
    ///
    /// # Errors
    /// If it does not hold: why.
    pub fn judge(
        &self,
        overlay: &Overlay,
        ord: NodeOrd,
        predicate: Predicate,
        audience: Audience<'_>,
    ) -> Result<(), String> {
        let Some(view) = self.problem.node(ord) else {
            return Err("the node is unknown".into());
        };
        let (node, constraints) = (&view.node, &*self.class.workload.constraints);
        match predicate {
            Predicate::TopologySpread => return self.spread.judge(ord),
            Predicate::PodAffinity | Predicate::PodAntiAffinity => {
                return match self.neighbours.clash(ord) {
                    Some(clash) if predicate_of(&clash) == predicate => Err(clash_message(&clash, audience)),
                    _ => Ok(()),
                };
            }
            Predicate::Resources => return self.resources(overlay, ord),
            _ if holds(view, self.class, predicate) => return Ok(()),
            _ => {}
        }
        Err(match predicate {
            Predicate::Ready if node.readiness == Readiness::NotReady => {
                "the kubelet reports the node as not ready".into()
            }
            Predicate::Ready => "the kubelet has not been heard of for too long".into(),
            Predicate::NotCordoned if view.closed => "the node is being drained".into(),
            Predicate::NotCordoned => "the node is cordoned".into(),
            Predicate::Virtualization => "label kubevirt.io/schedulable is not true".into(),
            Predicate::Taints => untolerated(node, constraints).map(taint_message).unwrap_or_default(),
            Predicate::NodeSelector => unmet_label(node, constraints).unwrap_or_default(),
            Predicate::NodeAffinity => unmet_affinity(node, constraints).unwrap_or_default(),
            Predicate::Volumes => unreachable_volume(node, self.class).unwrap_or_default(),
            Predicate::Resources | Predicate::TopologySpread | Predicate::PodAffinity | Predicate::PodAntiAffinity => {
                String::new()
            }
        })
    }

    fn resources(&self, overlay: &Overlay, ord: NodeOrd) -> Result<(), String> {
        let (Some(view), Some(used)) = (self.problem.node(ord), overlay.allocated(self.problem, ord)) else {
            return Ok(());
        };
        let requests = &self.class.workload.requests;
        let Some((name, wanted, left)) = view.node.allocatable.minus(used).first_shortage(requests) else {
            return Ok(());
        };
        let unit = if name == "cpu" { "m" } else { "" };
        Err(format!("{name}: {wanted}{unit} requested, {}{unit} left", left.max(0)))
    }

    /// The refusals of all nodes.
    pub fn refusals(&self, overlay: &Overlay, audience: Audience<'_>) -> Refusals {
        let nodes = (0..self.problem.node_count()).map(NodeOrd);
        nodes
            .filter_map(|ord| Some((ord, self.first_refusal(overlay, ord, audience)?)))
            .collect()
    }
}

fn taint_message(taint: &Taint) -> String {
    let value = taint.value.as_ref().map(|v| format!("={v}")).unwrap_or_default();
    format!("taint {}{value}:{} is not tolerated", taint.key, taint.effect)
}

fn predicate_of(clash: &Clash) -> Predicate {
    match clash {
        Clash::Alone(_) | Clash::NoDomain(_) => Predicate::PodAffinity,
        Clash::Avoids(..) | Clash::KeptOut(..) => Predicate::PodAntiAffinity,
    }
}

fn clash_message(clash: &Clash, audience: Audience<'_>) -> String {
    match clash {
        Clash::Alone(key) => format!("no pod that is sought runs in the same {key}"),
        Clash::NoDomain(key) => format!("label {key} is absent"),
        Clash::Avoids(key, witness) => format!("{} runs in the same {key}", name_of(witness, audience)),
        Clash::KeptOut(key, witness) => format!("{} keeps it out of its {key}", name_of(witness, audience)),
    }
}

/// What may be said of a pod: its machine's name to its own project and to operators; to others, that there is one.
fn name_of(witness: &Witness, audience: Audience<'_>) -> String {
    let Witness::Pod(pod) = witness else {
        return "another replica".into();
    };
    let ObservedPod { machine, key, .. } = &**pod;
    match (machine, audience) {
        (Some(machine), Audience::Operator) => machine.name.to_string(),
        (Some(machine), Audience::Project(project)) if machine.name.cluster.project == *project => {
            machine.name.to_string()
        }
        (Some(_), Audience::Project(_)) => "a machine of another project".into(),
        (None, Audience::Operator) => format!("pod {}/{}", key.namespace, key.name),
        (None, Audience::Project(_)) => "a pod of the infra cluster".into(),
    }
}
