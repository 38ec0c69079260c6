//! How many tenants are followed, by kind and health. No label names a tenant: there may be thousands.

use std::{collections::BTreeMap, sync::Arc};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
};
use steading_runtime::metrics::Metrics;

use super::{KindHealth, Tenant, TenantKind};

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Labels {
    source: &'static str,
    health: &'static str,
}

const HEALTHS: [&str; 4] = ["syncing", "live", "overflowing", "stale"];

fn word(health: &KindHealth) -> &'static str {
    match health {
        KindHealth::Syncing => "syncing",
        KindHealth::Live { beyond: 0 } => "live",
        KindHealth::Live { .. } => "overflowing",
        KindHealth::Stale { .. } => "stale",
    }
}

/// The gauges.
#[derive(Debug, Clone)]
pub(super) struct TenantMetrics {
    sources: Family<Labels, Gauge>,
    /// For panics of tenants' tasks.
    pub(super) process: Metrics,
}

impl TenantMetrics {
    /// Registers the gauges.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let sources = Family::default();
        metrics.register(
            "tenant_sources",
            "Tenants by kind that is followed and the health of its view",
            sources.clone(),
        );
        Self {
            sources,
            process: metrics.clone(),
        }
    }

    /// Counts all tenants.
    pub(super) fn count(&self, tenants: &[Arc<Tenant>]) {
        let mut counts: BTreeMap<Labels, i64> = BTreeMap::new();
        for kind in [TenantKind::Nodes, TenantKind::Services] {
            for health in HEALTHS {
                let source = kind.as_str();
                counts.insert(Labels { source, health }, 0);
            }
        }
        for (kind, health) in tenants.iter().flat_map(|tenant| tenant.kinds()) {
            let labels = Labels {
                source: kind.as_str(),
                health: word(&health),
            };
            *counts.entry(labels).or_default() += 1;
        }
        for (labels, count) in counts {
            self.sources.get_or_create(&labels).set(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_counted_by_health_without_their_names() {
        let metrics = Metrics::new();
        let gauges = TenantMetrics::new(&metrics);
        let tenant = Arc::new(Tenant::new("acme--prod"));
        tenant.set_kind(TenantKind::Nodes, KindHealth::Live { beyond: 0 });
        gauges.count(&[tenant]);
        let text = metrics.encode();
        assert!(
            text.contains("steading_tenant_sources{source=\"nodes\",health=\"live\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("steading_tenant_sources{source=\"services\",health=\"syncing\"} 1"),
            "{text}"
        );
        assert!(!text.contains("acme"), "{text}");
    }
}
