//! What of a tenant's Service may reach the infra cluster: nothing that takes an address unless the operator allows it.
//!
//! `externalIPs` make every node of the infra cluster send traffic for an address to the tenant, and a requested address or a
//! sharing key takes one that is somebody else's. Both are denied by default.

use std::net::IpAddr;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Whether an address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shared = |a: &[u8], b: &[u8]| {
            let bits = usize::from(self.bits);
            let (whole, rest) = (bits / 8, bits % 8);
            let mask = u8::MAX
                .checked_shl(8 - u32::try_from(rest).unwrap_or_default())
                .unwrap_or_default();
            a.get(..whole) == b.get(..whole)
                && (rest == 0 || a.get(whole).map(|x| x & mask) == b.get(whole).map(|x| x & mask))
        };
        match (self.network, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => shared(&a.octets(), &b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => shared(&a.octets(), &b.octets()),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be a range such as 192.0.2.0/24".to_owned();
        let (network, bits) = text.split_once('/').ok_or_else(wrong)?;
        let network: IpAddr = network.parse().map_err(|_| wrong())?;
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Self { network, bits }).ok_or_else(wrong)
    }
}

/// What the operator allows tenants' Services. The default allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Allowances {
    /// Ranges whose addresses tenants' Services may have as externalIPs.
    #[arg(
        long = "allow-external-ips",
        env = "STEADING_ALLOW_EXTERNAL_IPS",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    pub external_ips: Vec<Cidr>,
    /// Ranges whose addresses tenants' Services may request by loadBalancerIP.
    #[arg(
        long = "allow-load-balancer-ips",
        env = "STEADING_ALLOW_LOAD_BALANCER_IPS",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    pub requested: Vec<Cidr>,
    /// Annotations of load balancer implementations that carry over: a key, or a prefix that ends in `/`.
    #[arg(
        long = "allow-load-balancer-annotations",
        env = "STEADING_ALLOW_LOAD_BALANCER_ANNOTATIONS",
        value_delimiter = ',',
        value_name = "KEY"
    )]
    pub annotations: Vec<String>,
}

impl Allowances {
    /// Whether an address may be an external IP.
    pub fn allows_external_ip(&self, text: &str) -> bool {
        is_within(&self.external_ips, text)
    }

    /// Whether an address may be requested.
    pub fn allows_requested(&self, text: &str) -> bool {
        is_within(&self.requested, text)
    }

    /// Whether an annotation carries over.
    pub fn allows_annotation(&self, key: &str) -> bool {
        let matches =
            |allowed: &String| key == allowed || (allowed.ends_with('/') && key.starts_with(allowed.as_str()));
        self.annotations.iter().any(matches)
    }
}

fn is_within(ranges: &[Cidr], text: &str) -> bool {
    let address: Option<IpAddr> = text.parse().ok();
    address.is_some_and(|address| ranges.iter().any(|range| range.contains(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_own_addresses_only() {
        let range: Cidr = "192.0.2.64/26".parse().unwrap();
        let contains = |text: &str| range.contains(text.parse().unwrap());
        assert!(contains("192.0.2.64") && contains("192.0.2.127"));
        assert!(!contains("192.0.2.128") && !contains("192.0.2.63") && !contains("::ffff:192.0.2.64"));
        let all: Cidr = "::/0".parse().unwrap();
        assert!(all.contains("fd00::1".parse().unwrap()));
        assert!("192.0.2.0/33".parse::<Cidr>().is_err() && "192.0.2.0".parse::<Cidr>().is_err());
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let none = Allowances::default();
        assert!(!none.allows_external_ip("10.96.0.1") && !none.allows_requested("192.0.2.9"));
        assert!(!none.allows_annotation("metallb.io/allow-shared-ip"));
    }

    #[test]
    fn a_prefix_allows_what_is_below_it_and_a_key_itself() {
        let some = Allowances {
            annotations: vec!["metallb.io/address-pool".into(), "lbipam.cilium.io/".into()],
            ..Allowances::default()
        };
        assert!(some.allows_annotation("metallb.io/address-pool") && some.allows_annotation("lbipam.cilium.io/ips"));
        assert!(!some.allows_annotation("metallb.io/address-pool-2"));
    }
}
