use serde_json::json;

use super::*;

fn mk_tenant(name: &str, node_port: Option<i32>) -> Arc<Service> {
    let mut port = json!({"port": 80});
    if let Some(number) = node_port {
        port["nodePort"] = json!(number);
    }
    let value = json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "LoadBalancer", "ports": [port]},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn mk_balanced(name: &str) -> Balanced {
    Balanced {
        cluster: "acme--prod".into(),
        namespace: "shop".into(),
        service: name.into(),
    }
}

fn infra_of(step: &BalancerStep) -> Arc<Service> {
    let BalancerStep::Apply(service) = step else {
        panic!("{step:?}")
    };
    let mut service = (**service).clone();
    service.metadata.uid = Some("u-1".into());
    Arc::new(service)
}

fn plan(tenant: Option<&[Arc<Service>]>, infra: &[Arc<Service>], admitted: &[&str], now: i64) -> BalancerPlan {
    let admitted = admitted
        .iter()
        .map(|name| ("acme--prod".to_owned(), mk_balanced(name).infra_name()))
        .collect();
    let observed = ObservedBalancers {
        cluster: "acme--prod",
        terminating: false,
        tenant,
        infra,
        admitted: &admitted,
        allowances: &Allowances::default(),
    };
    plan_balancers(&observed, Timestamp::from_second(now).unwrap())
}

#[test]
fn while_the_tenant_is_not_seen_nothing_is_made_or_removed() {
    let made = plan(Some(&[mk_tenant("web", Some(30080))]), &[], &["web"], 0);
    let infra = infra_of(&made.keep[0].step);
    assert_eq!(plan(None, &[infra], &["web"], 0), BalancerPlan::default());
}

#[test]
fn a_load_balancer_beyond_the_quota_is_held_with_the_reason_and_served_later() {
    let tenant = [mk_tenant("web", Some(30080))];
    let held = plan(Some(&tenant), &[], &[], 0);
    assert_eq!(
        held.keep[0].announce.as_ref().unwrap().reason,
        HoldReason::QuotaExceeded
    );
    let infra = infra_of(&held.keep[0].step);
    assert!(is_placeholder(&infra) && hold_of(&infra).is_some());
    let again = plan(Some(&tenant), &[Arc::clone(&infra)], &[], 0);
    assert_eq!(
        (&again.keep[0].step, &again.keep[0].announce),
        (&BalancerStep::Leave, &None)
    );
    let later = plan(Some(&tenant), &[infra], &["web"], 0);
    assert_eq!(later.keep[0].step, BalancerStep::Clear("u-1".into()));
}

#[test]
fn a_service_without_node_ports_is_pending_with_its_reason() {
    let held = plan(Some(&[mk_tenant("web", None)]), &[], &["web"], 0);
    let infra = infra_of(&held.keep[0].step);
    assert_eq!(hold_of(&infra).unwrap().reason, HoldReason::NoNodePorts);
    let notes = &infra.annotations()[labels::FIELD_NOTES];
    assert!(notes.contains("spec.ports[0].nodePort"), "{notes}");
}

#[test]
fn what_is_served_stays_when_a_change_cannot_be_carried_over() {
    let made = plan(Some(&[mk_tenant("web", Some(30080))]), &[], &["web"], 0);
    let infra = infra_of(&made.keep[0].step);
    let changed = plan(Some(&[mk_tenant("web", None)]), &[infra], &["web"], 0);
    assert!(matches!(&changed.keep[0].step, BalancerStep::Annotate(hold) if hold.reason == HoldReason::NoNodePorts));
}

#[test]
fn a_refused_service_is_tried_again_after_a_while_or_when_it_changes() {
    let tenant = [mk_tenant("web", Some(30080))];
    let made = plan(Some(&tenant), &[], &["web"], 0);
    let rendered = &made.keep[0].rendered.service;
    let hold = Hold::refused("webhook says no", rendered, Timestamp::from_second(0).unwrap());
    let mut infra = placeholder(&mk_balanced("web"), &hold, &[]);
    infra.metadata.uid = Some("u-1".into());
    let infra = [Arc::new(infra)];
    assert_eq!(
        plan(Some(&tenant), &infra, &["web"], 60).keep[0].step,
        BalancerStep::Leave
    );
    let clear = BalancerStep::Clear("u-1".into());
    assert_eq!(plan(Some(&tenant), &infra, &["web"], 301).keep[0].step, clear);
    let other = [mk_tenant("web", Some(30081))];
    assert_eq!(plan(Some(&other), &infra, &["web"], 60).keep[0].step, clear);
}

#[test]
fn an_annotation_that_the_tenant_removed_is_removed() {
    let mut annotated = (*mk_tenant("web", Some(30080))).clone();
    annotated
        .annotations_mut()
        .insert("metallb.io/address-pool".into(), "public".into());
    let admitted = BTreeSet::from([("acme--prod".to_owned(), mk_balanced("web").infra_name())]);
    let allowances = Allowances {
        annotations: vec!["metallb.io/".into()],
        ..Allowances::default()
    };
    let look = |tenant: Arc<Service>, infra: &[Arc<Service>]| {
        let observed = ObservedBalancers {
            cluster: "acme--prod",
            terminating: false,
            tenant: Some(&[tenant]),
            infra,
            admitted: &admitted,
            allowances: &allowances,
        };
        plan_balancers(&observed, Timestamp::default()).keep.remove(0).step
    };
    let infra = [infra_of(&look(Arc::new(annotated), &[]))];
    assert!(infra[0].annotations().contains_key("metallb.io/address-pool"));
    let step = look(mk_tenant("web", Some(30080)), &infra);
    assert!(
        matches!(&step, BalancerStep::Apply(wanted) if !wanted.annotations().contains_key("metallb.io/address-pool"))
    );
}

#[test]
fn an_infra_service_that_nobody_wants_is_removed_by_its_uid() {
    let made = plan(Some(&[mk_tenant("web", Some(30080))]), &[], &["web"], 0);
    let infra = infra_of(&made.keep[0].step);
    let name = infra.name_any();
    assert_eq!(plan(Some(&[]), &[infra], &[], 0).remove, [(name, "u-1".to_owned())]);
}

/// Carries a plan out on a model of the infra cluster; whether anything was done.
fn carry_out(infra: &mut Vec<Arc<Service>>, plan: &BalancerPlan, uids: &mut u32) -> bool {
    let mut did = false;
    for (name, uid) in &plan.remove {
        infra.retain(|one| one.name_any() != *name || one.uid().as_ref() != Some(uid));
        did = true;
    }
    for kept in &plan.keep {
        let name = kept.balanced.infra_name();
        let at = infra.iter().position(|one| one.name_any() == name);
        match &kept.step {
            BalancerStep::Leave => continue,
            BalancerStep::Clear(uid) => infra.retain(|one| one.uid().as_ref() != Some(uid)),
            BalancerStep::Annotate(hold) => {
                let mut service = (*infra[at.unwrap()]).clone();
                let text = serde_json::to_string(hold).unwrap();
                service
                    .annotations_mut()
                    .insert(labels::LOAD_BALANCER_HOLD.into(), text);
                infra[at.unwrap()] = Arc::new(service);
            }
            BalancerStep::Apply(wanted) => {
                let mut service = (**wanted).clone();
                *uids += 1;
                service.metadata.uid = at.map_or_else(|| Some(format!("u-{uids}")), |at| infra[at].uid());
                match at {
                    Some(at) => infra[at] = Arc::new(service),
                    None => infra.push(Arc::new(service)),
                }
            }
        }
        did = true;
    }
    did
}

proptest::proptest! {
    /// Whatever the tenant does, in whatever order and however often the work ends in between: a fixed point in a few passes, no more
    /// served than the quota admits, and nothing left that nobody wants.
    #[test]
    fn load_balancers_converge_whatever_the_tenant_does(
        turns in proptest::collection::vec(proptest::collection::vec((0_usize..6, proptest::bool::ANY), 0..6), 1..5),
        quota in 0_usize..5,
    ) {
        let (mut infra, mut uids) = (Vec::new(), 0);
        for turn in turns {
            let tenant: Vec<_> = turn
                .iter()
                .map(|(at, ports)| (*at, mk_tenant(&format!("s{at}"), ports.then_some(30080))))
                .collect::<BTreeMap<_, _>>()
                .into_values()
                .collect();
            let mut passes = 0;
            loop {
                // What is served keeps its place.
                let served = infra.iter().filter(|one: &&Arc<Service>| !is_placeholder(one)).map(|one| one.name_any());
                let mut places: Vec<String> = served.collect();
                for service in &tenant {
                    let name = mk_balanced(&service.name_any()).infra_name();
                    if places.len() < quota && !places.contains(&name) {
                        places.push(name);
                    }
                }
                let admitted = places.into_iter().map(|name| ("acme--prod".to_owned(), name)).collect();
                let observed = ObservedBalancers {
                    cluster: "acme--prod",
                    terminating: false,
                    tenant: Some(&tenant),
                    infra: &infra.clone(),
                    admitted: &admitted,
                    allowances: &Allowances::default(),
                };
                let plan = plan_balancers(&observed, Timestamp::default());
                if !carry_out(&mut infra, &plan, &mut uids) {
                    break;
                }
                passes += 1;
                proptest::prop_assert!(passes < 6, "no fixed point");
            }
            let names: BTreeSet<_> = tenant.iter().map(|one| mk_balanced(&one.name_any()).infra_name()).collect();
            proptest::prop_assert_eq!(infra.iter().map(|one| one.name_any()).collect::<BTreeSet<_>>(), names);
            let served = infra.iter().filter(|one| !is_placeholder(one)).count();
            proptest::prop_assert!(served <= quota, "{} served", served);
        }
    }
}
