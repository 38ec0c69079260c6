//! Plays the infra cluster's load balancer: every Service of type LoadBalancer gets an address of each of its families.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::watcher,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    drive::{Again, Cache, follow, unless_gone, work_off},
    timers::Timers,
};
use steading_kubesim::Key;

/// Addresses that can be handed out in each family: the benchmarking network 198.18.0.0/16 and 2001:db8::/112.
const POOL: u32 = 1 << 16;

#[derive(Clone)]
struct Balancer {
    context: Context,
    services: Cache<Service>,
    timers: Timers,
    /// Number of each Service.
    taken: Arc<Mutex<BTreeMap<Key, u32>>>,
}

/// Runs until `cancel`.
pub async fn run(context: Context, cancel: CancellationToken) {
    let (services, seen) = follow(Api::<Service>::all(context.client.clone()), watcher::Config::default());
    let balancer = Balancer {
        timers: Timers::new(&context),
        context: context.clone(),
        services,
        taken: Arc::default(),
    };
    work_off(&context.time, cancel, seen.map(|seen| seen.key).boxed(), |key| {
        let balancer = balancer.clone();
        async move { balancer.sync(&key).await }
    })
    .await;
}

impl Balancer {
    async fn sync(&self, key: &Key) -> kube::Result<Again> {
        let Some(service) = self.services.get(key) else {
            self.release(key);
            return Ok(None);
        };
        let Some(spec) = &service.spec else { return Ok(None) };
        let present = addresses(&service);
        let wanted = spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none();
        if !wanted {
            self.release(key);
            return if present.is_empty() {
                Ok(None)
            } else {
                self.write(key, &[]).await
            };
        }
        let families = spec
            .ip_families
            .clone()
            .filter(|list| !list.is_empty())
            .unwrap_or_else(|| vec!["IPv4".to_owned()]);
        let number = self.number(key, present.iter().find_map(|address| number_of(address)));
        let asked = spec.load_balancer_ip.clone().filter(|address| !address.is_empty());
        let addresses: Vec<String> = families
            .iter()
            .map(|family| match (family.as_str(), &asked) {
                ("IPv6", _) => format!("2001:db8::{number:x}"),
                (_, Some(asked)) => asked.clone(),
                _ => format!("198.18.{}.{}", number >> 8, number & 0xff),
            })
            .collect();
        if present == addresses {
            return Ok(None);
        }
        match self.timers.left(key, "address", self.context.pace.address) {
            Some(left) => Ok(Some(left)),
            None => self.write(key, &addresses).await,
        }
    }

    fn release(&self, key: &Key) {
        self.taken.lock().remove(key);
        self.timers.forget(key);
    }

    /// The Service's number: the one it has, or the lowest that is free.
    fn number(&self, key: &Key, has: Option<u32>) -> u32 {
        let mut taken = self.taken.lock();
        if let Some(number) = taken.get(key) {
            return *number;
        }
        let free = |number: &u32| !taken.values().any(|other| other == number);
        let number = has
            .filter(|has| free(has))
            .or_else(|| (1..POOL).find(free))
            .unwrap_or(0);
        taken.insert(key.clone(), number);
        number
    }

    async fn write(&self, key: &Key, addresses: &[String]) -> kube::Result<Again> {
        let api: Api<Service> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let ingress: Vec<Value> = addresses
            .iter()
            .map(|address| json!({ "ip": address, "ipMode": "VIP" }))
            .collect();
        let patch = json!({ "status": { "loadBalancer": { "ingress": ingress } } });
        unless_gone(
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )?;
        Ok(None)
    }
}

fn addresses(service: &Service) -> Vec<String> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    ingress.iter().filter_map(|ingress| ingress.ip.clone()).collect()
}

fn number_of(address: &str) -> Option<u32> {
    if let Some(tail) = address.strip_prefix("2001:db8::") {
        return u32::from_str_radix(tail, 16).ok();
    }
    let (high, low) = address.strip_prefix("198.18.")?.split_once('.')?;
    Some(high.parse::<u32>().ok()? << 8 | low.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_its_number() {
        assert_eq!(number_of("198.18.1.2"), Some(258));
        assert_eq!(number_of("2001:db8::102"), Some(258));
        assert_eq!(number_of("10.0.0.1"), None);
    }
}
