//! Sources and disks: message ⇄ domain.

use steading_api::templating::v1::{self as proto, registry_source::PullMethod, root_disk::Source};
use steading_infra::crd::machine_template::{AdditionalDiskSpec, HttpSource, PvcSource, RegistrySource, RootDiskSpec};

use super::{access_mode, access_mode_from, disk_bus, disk_bus_from, some, volume_mode, volume_mode_from};

/// A source by HTTP as a message.
pub fn http(source: &HttpSource) -> proto::HttpSource {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    proto::HttpSource {
        url: source.url.clone(),
        checksum: text(&source.checksum),
        secret: text(&source.secret),
        extra_headers: source.extra_headers.clone(),
        secret_extra_headers: source.secret_extra_headers.clone(),
        cert_config_map: text(&source.cert_config_map),
    }
}

/// A source by HTTP from a message.
pub fn http_from(source: &proto::HttpSource) -> HttpSource {
    HttpSource {
        url: source.url.clone(),
        checksum: some(&source.checksum),
        secret: some(&source.secret),
        extra_headers: source.extra_headers.clone(),
        secret_extra_headers: source.secret_extra_headers.clone(),
        cert_config_map: some(&source.cert_config_map),
    }
}

/// A source in a registry as a message.
pub fn registry(source: &RegistrySource) -> proto::RegistrySource {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let pull = match source.pull_method.as_deref() {
        Some("pod") => PullMethod::Pod,
        Some("node") => PullMethod::Node,
        _ => PullMethod::Unspecified,
    };
    proto::RegistrySource {
        url: source.url.clone(),
        pull_method: pull.into(),
        secret: text(&source.secret),
        cert_config_map: text(&source.cert_config_map),
        architecture: text(&source.architecture),
    }
}

/// A source in a registry from a message.
pub fn registry_from(source: &proto::RegistrySource) -> RegistrySource {
    let pull = match source.pull_method() {
        PullMethod::Unspecified => None,
        PullMethod::Pod => Some("pod".to_owned()),
        PullMethod::Node => Some("node".to_owned()),
    };
    RegistrySource {
        url: source.url.clone(),
        pull_method: pull,
        secret: some(&source.secret),
        cert_config_map: some(&source.cert_config_map),
        architecture: some(&source.architecture),
    }
}

/// A claim as a message.
pub fn pvc(source: &PvcSource) -> proto::PvcSource {
    proto::PvcSource {
        namespace: source.namespace.clone(),
        name: source.name.clone(),
    }
}

/// A claim from a message.
pub fn pvc_from(source: &proto::PvcSource) -> PvcSource {
    PvcSource {
        namespace: source.namespace.clone(),
        name: source.name.clone(),
    }
}

/// A root disk as a message.
pub fn root(disk: &RootDiskSpec) -> proto::RootDisk {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let source = disk
        .image
        .clone()
        .map(Source::Image)
        .or_else(|| disk.http.as_ref().map(|s| Source::Http(http(s))))
        .or_else(|| disk.registry.as_ref().map(|s| Source::Registry(registry(s))))
        .or_else(|| disk.pvc.as_ref().map(|s| Source::Pvc(pvc(s))));
    proto::RootDisk {
        size: text(&disk.size),
        storage_class: text(&disk.storage_class),
        access_mode: access_mode_from(&text(&disk.access_mode)).into(),
        volume_mode: volume_mode_from(&text(&disk.volume_mode)).into(),
        bus: disk_bus_from(&text(&disk.bus)).into(),
        preallocation: disk.preallocation,
        cache: text(&disk.cache),
        dedicated_io_thread: disk.dedicated_io_thread,
        source,
    }
}

/// A root disk from a message.
pub fn root_from(disk: &proto::RootDisk) -> RootDiskSpec {
    let mut spec = RootDiskSpec {
        size: some(&disk.size),
        storage_class: some(&disk.storage_class),
        access_mode: access_mode(disk.access_mode()).map(str::to_owned),
        volume_mode: volume_mode(disk.volume_mode()).map(str::to_owned),
        bus: disk_bus(disk.bus()).map(str::to_owned),
        preallocation: disk.preallocation,
        cache: some(&disk.cache),
        dedicated_io_thread: disk.dedicated_io_thread,
        ..RootDiskSpec::default()
    };
    match &disk.source {
        Some(Source::Image(image)) => spec.image = some(image),
        Some(Source::Http(source)) => spec.http = Some(http_from(source)),
        Some(Source::Registry(source)) => spec.registry = Some(registry_from(source)),
        Some(Source::Pvc(source)) => spec.pvc = Some(pvc_from(source)),
        None => {}
    }
    spec
}

/// A further disk as a message.
pub fn additional(disk: &AdditionalDiskSpec) -> proto::AdditionalDisk {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    proto::AdditionalDisk {
        name: disk.name.clone(),
        size: disk.size.clone(),
        storage_class: text(&disk.storage_class),
        access_mode: access_mode_from(&text(&disk.access_mode)).into(),
        volume_mode: volume_mode_from(&text(&disk.volume_mode)).into(),
        bus: disk_bus_from(&text(&disk.bus)).into(),
        serial: text(&disk.serial),
        image: text(&disk.image),
        dedicated_io_thread: disk.dedicated_io_thread,
    }
}

/// A further disk from a message.
pub fn additional_from(disk: &proto::AdditionalDisk) -> AdditionalDiskSpec {
    AdditionalDiskSpec {
        name: disk.name.clone(),
        size: disk.size.clone(),
        storage_class: some(&disk.storage_class),
        access_mode: access_mode(disk.access_mode()).map(str::to_owned),
        volume_mode: volume_mode(disk.volume_mode()).map(str::to_owned),
        bus: disk_bus(disk.bus()).map(str::to_owned),
        serial: some(&disk.serial),
        image: some(&disk.image),
        dedicated_io_thread: disk.dedicated_io_thread,
    }
}
