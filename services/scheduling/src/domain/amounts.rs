//! Amounts of compute resources, as whole numbers.

use std::collections::BTreeMap;

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
    pub extended: BTreeMap<String, i64>,
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
                    amounts.extended.insert(other.to_owned(), clamp(quantity.units()));
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

    /// The larger of both, resource by resource.
    pub fn maximum(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, operation: fn(i64, i64) -> i64) {
        self.cpu_millis = operation(self.cpu_millis, other.cpu_millis);
        self.memory = operation(self.memory, other.memory);
        self.pods = operation(self.pods, other.pods);
        for (name, amount) in &other.extended {
            let entry = self.extended.entry(name.clone()).or_default();
            *entry = operation(*entry, *amount);
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
                name.clone(),
                *wanted,
                self.extended.get(name).copied().unwrap_or_default(),
            )
        });
        fixed
            .chain(extended)
            .find(|(_, wanted, there)| *wanted > 0 && wanted > there)
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
        assert_eq!(amounts.extended, BTreeMap::from([("nvidia.com/A30".to_owned(), 2)]));
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
