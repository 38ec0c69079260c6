//! Amounts of compute resources, as whole numbers.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubeQuantity;
use steading_model::quantity::Quantity;

/// Amounts of resources: what a node has, or what a pod requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Processors in thousandths.
    pub cpu_millis: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Pods.
    pub pods: i64,
    /// Everything else by resource name, in its own unit.
    pub extended: BTreeMap<Arc<str>, i64>,
    /// What kube-scheduler assumes in its scores, and only there, of containers that request no processors or no memory.
    pub assumed: Assumed,
}

/// Amounts that count for scores only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Assumed {
    /// Processors in thousandths.
    pub cpu_millis: i64,
    /// Memory in bytes.
    pub memory: i64,
}

impl Amounts {
    /// Reads a resource list of the Kubernetes API. A quantity that cannot be read counts as nothing.
    pub fn from_list(list: Option<&BTreeMap<String, KubeQuantity>>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            let Ok(quantity) = quantity.0.parse::<Quantity>() else {
                continue;
            };
            match name.as_str() {
                "cpu" => amounts.cpu_millis = clamp(quantity.millis()),
                "memory" => amounts.memory = clamp(quantity.bytes()),
                "pods" => amounts.pods = clamp(quantity.units()),
                other => {
                    amounts.extended.insert(Arc::from(other), clamp(quantity.units()));
                }
            }
        }
        amounts
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes `other` away; may become negative, which says by how much a node is overcommitted.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// Takes over from `other` each resource that `named` names.
    pub fn replace(&mut self, other: &Self, named: impl Fn(&str) -> bool) {
        if named("cpu") {
            self.cpu_millis = other.cpu_millis;
        }
        if named("memory") {
            self.memory = other.memory;
        }
        for (name, amount) in &other.extended {
            self.extended.insert(name.clone(), *amount);
        }
    }

    /// The larger of both, resource by resource.
    pub fn maximum(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, operation: fn(i64, i64) -> i64) {
        self.cpu_millis = operation(self.cpu_millis, other.cpu_millis);
        self.memory = operation(self.memory, other.memory);
        self.pods = operation(self.pods, other.pods);
        self.assumed.cpu_millis = operation(self.assumed.cpu_millis, other.assumed.cpu_millis);
        self.assumed.memory = operation(self.assumed.memory, other.assumed.memory);
        for (name, amount) in &other.extended {
            if let Some(entry) = self.extended.get_mut(name) {
                *entry = operation(*entry, *amount);
            } else {
                self.extended.insert(name.clone(), operation(0, *amount));
            }
        }
    }

    /// What is left of `self` after `used`.
    #[must_use]
    pub fn minus(&self, used: &Self) -> Self {
        let mut left = self.clone();
        left.subtract(used);
        left
    }

    /// The first resource of which `request` wants more than there is: its name, what is wanted, what is there.
    pub fn first_shortage(&self, request: &Self) -> Option<(String, i64, i64)> {
        let fixed = [
            ("cpu", request.cpu_millis, self.cpu_millis),
            ("memory", request.memory, self.memory),
            ("pods", request.pods, self.pods),
        ];
        let fixed = fixed
            .into_iter()
            .map(|(name, wanted, there)| (name.to_owned(), wanted, there));
        let extended = request.extended.iter().map(|(name, wanted)| {
            (
                name.to_string(),
                *wanted,
                self.extended.get(name).copied().unwrap_or_default(),
            )
        });
        fixed
            .chain(extended)
            .find(|(_, wanted, there)| *wanted > 0 && wanted > there)
    }

    /// Whether `request` is there.
    pub fn covers(&self, used: &Self, request: &Self) -> bool {
        let fits = |there: i64, used: i64, wanted: i64| wanted <= 0 || wanted <= there.saturating_sub(used);
        let of = |amounts: &Self, name: &Arc<str>| amounts.extended.get(name).copied().unwrap_or_default();
        fits(self.cpu_millis, used.cpu_millis, request.cpu_millis)
            && fits(self.memory, used.memory, request.memory)
            && fits(self.pods, used.pods, request.pods)
            && request
                .extended
                .iter()
                .all(|(name, wanted)| fits(of(self, name), of(used, name), *wanted))
    }

    /// How many times `request` fits, at most `limit`.
    pub fn fits(&self, request: &Self, limit: i64) -> i64 {
        let fixed = [
            (request.cpu_millis, self.cpu_millis),
            (request.memory, self.memory),
            (request.pods, self.pods),
        ];
        let extended = request
            .extended
            .iter()
            .map(|(name, wanted)| (*wanted, self.extended.get(name).copied().unwrap_or_default()));
        fixed
            .into_iter()
            .chain(extended)
            .filter(|(wanted, _)| *wanted > 0)
            .map(|(wanted, there)| there.max(0) / wanted)
            .min()
            .unwrap_or(limit)
            .min(limit)
    }
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(&str, &str)]) -> BTreeMap<String, KubeQuantity> {
        entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), KubeQuantity((*v).to_owned())))
            .collect()
    }

    #[test]
    fn resource_lists_become_numbers() {
        let amounts = Amounts::from_list(Some(&list(&[
            ("cpu", "1500m"),
            ("memory", "2Gi"),
            ("pods", "110"),
            ("nvidia.com/A30", "2"),
            ("broken", "x"),
        ])));
        assert_eq!((amounts.cpu_millis, amounts.memory, amounts.pods), (1500, 2 << 30, 110));
        assert_eq!(amounts.extended, BTreeMap::from([(Arc::from("nvidia.com/A30"), 2)]));
    }

    #[test]
    fn a_device_that_is_not_there_is_a_shortage() {
        let node = Amounts {
            cpu_millis: 4000,
            memory: 100,
            pods: 10,
            ..Amounts::default()
        };
        let mut request = Amounts {
            cpu_millis: 1000,
            pods: 1,
            ..Amounts::default()
        };
        assert_eq!(node.first_shortage(&request), None);
        assert_eq!(node.fits(&request, 100), 4);
        request.extended.insert("gpu".into(), 1);
        assert_eq!(node.first_shortage(&request), Some(("gpu".into(), 1, 0)));
        assert_eq!(node.fits(&request, 100), 0);
    }
}
