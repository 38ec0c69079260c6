//! The kinds of KubeVirt 1.8 and CDI 1.64, with a status subresource where theirs have one: VMIs and DataSources have none.

use steading_kubesim::{Column, ResourceDef, Scope};

/// Group, version, plural, kind, short names, categories, traits.
///
/// Traits: `n` namespaced, `s` status subresource, `c` scale subresource.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const ROWS: &[Row] = &[
    (
        "kubevirt.io",
        "v1",
        "virtualmachines",
        "VirtualMachine",
        "vm,vms",
        "all",
        "ns",
    ),
    (
        "kubevirt.io",
        "v1",
        "virtualmachineinstances",
        "VirtualMachineInstance",
        "vmi,vmis",
        "all",
        "n",
    ),
    (
        "kubevirt.io",
        "v1",
        "virtualmachineinstancemigrations",
        "VirtualMachineInstanceMigration",
        "vmim,vmims",
        "all",
        "ns",
    ),
    (
        "kubevirt.io",
        "v1",
        "virtualmachineinstancereplicasets",
        "VirtualMachineInstanceReplicaSet",
        "vmirs,vmirss",
        "all",
        "nsc",
    ),
    (
        "kubevirt.io",
        "v1",
        "virtualmachineinstancepresets",
        "VirtualMachineInstancePreset",
        "vmipreset,vmipresets",
        "all",
        "n",
    ),
    ("kubevirt.io", "v1", "kubevirts", "KubeVirt", "kv,kvs", "all", "ns"),
    (
        "instancetype.kubevirt.io",
        "v1beta1",
        "virtualmachineinstancetypes",
        "VirtualMachineInstancetype",
        "vminstancetype,vminstancetypes,vmf,vmfs",
        "all",
        "n",
    ),
    (
        "instancetype.kubevirt.io",
        "v1beta1",
        "virtualmachineclusterinstancetypes",
        "VirtualMachineClusterInstancetype",
        "vmclusterinstancetype,vmclusterinstancetypes,vmcf,vmcfs",
        "",
        "",
    ),
    (
        "instancetype.kubevirt.io",
        "v1beta1",
        "virtualmachinepreferences",
        "VirtualMachinePreference",
        "vmpref,vmprefs,vmp,vmps",
        "all",
        "n",
    ),
    (
        "instancetype.kubevirt.io",
        "v1beta1",
        "virtualmachineclusterpreferences",
        "VirtualMachineClusterPreference",
        "vmcp,vmcps",
        "",
        "",
    ),
    (
        "snapshot.kubevirt.io",
        "v1beta1",
        "virtualmachinesnapshots",
        "VirtualMachineSnapshot",
        "vmsnapshot,vmsnapshots",
        "all",
        "ns",
    ),
    (
        "snapshot.kubevirt.io",
        "v1beta1",
        "virtualmachinerestores",
        "VirtualMachineRestore",
        "vmrestore,vmrestores",
        "all",
        "ns",
    ),
    (
        "cdi.kubevirt.io",
        "v1beta1",
        "datavolumes",
        "DataVolume",
        "dv,dvs",
        "all",
        "ns",
    ),
    (
        "cdi.kubevirt.io",
        "v1beta1",
        "datasources",
        "DataSource",
        "das",
        "all",
        "n",
    ),
    (
        "cdi.kubevirt.io",
        "v1beta1",
        "dataimportcrons",
        "DataImportCron",
        "dic,dics",
        "all",
        "n",
    ),
    (
        "cdi.kubevirt.io",
        "v1beta1",
        "storageprofiles",
        "StorageProfile",
        "",
        "",
        "s",
    ),
    ("cdi.kubevirt.io", "v1beta1", "cdis", "CDI", "cdi,cdis", "", ""),
    ("cdi.kubevirt.io", "v1beta1", "cdiconfigs", "CDIConfig", "", "", ""),
    (
        "cdi.kubevirt.io",
        "v1beta1",
        "volumeimportsources",
        "VolumeImportSource",
        "",
        "",
        "n",
    ),
    (
        "cdi.kubevirt.io",
        "v1beta1",
        "volumeclonesources",
        "VolumeCloneSource",
        "",
        "",
        "n",
    ),
    (
        "cdi.kubevirt.io",
        "v1beta1",
        "objecttransfers",
        "ObjectTransfer",
        "ot,ots",
        "",
        "s",
    ),
];

/// Groups that are served in an older version, too, with the same fields.
const OLDER: [(&str, &str); 2] = [("kubevirt.io", "v1alpha3"), ("snapshot.kubevirt.io", "v1alpha1")];

/// The kinds, to be registered with an API server.
pub fn resources() -> Vec<ResourceDef> {
    ROWS.iter().map(resource).collect()
}

fn resource(row: &Row) -> ResourceDef {
    let (group, version, plural, kind, short_names, categories, traits) = *row;
    let scope = if traits.contains('n') {
        Scope::Namespaced
    } else {
        Scope::Cluster
    };
    let mut def = ResourceDef::preset(group, version, plural, kind, scope)
        .with_short_names(short_names)
        .with_categories(categories)
        .with_columns(columns(plural));
    if traits.contains('s') {
        def = def.with_status();
    }
    if traits.contains('c') {
        def = def.with_scale();
    }
    let older = OLDER.iter().filter(|(of, _)| *of == group);
    older.fold(def, |def, (_, version)| def.with_version(version))
}

/// Header, type, path, priority.
type ColumnRow = (&'static str, &'static str, &'static str, i64);

const AGE: ColumnRow = ("Age", "date", ".metadata.creationTimestamp", 0);

fn columns(plural: &str) -> Vec<Column> {
    let column = |(name, kind, path, priority): &ColumnRow| Column {
        name: (*name).to_owned(),
        kind: (*kind).to_owned(),
        path: (*path).to_owned(),
        priority: *priority,
    };
    column_rows(plural).iter().map(column).collect()
}

fn column_rows(plural: &str) -> &'static [ColumnRow] {
    match plural {
        "virtualmachines" => &[
            AGE,
            ("Status", "string", ".status.printableStatus", 0),
            ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status", 0),
        ],
        "virtualmachineinstances" => &[
            AGE,
            ("Phase", "string", ".status.phase", 0),
            ("IP", "string", ".status.interfaces[0].ipAddress", 0),
            ("NodeName", "string", ".status.nodeName", 0),
            ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status", 0),
            (
                "Live-Migratable",
                "string",
                ".status.conditions[?(@.type=='LiveMigratable')].status",
                1,
            ),
            ("Paused", "string", ".status.conditions[?(@.type=='Paused')].status", 1),
        ],
        "virtualmachineinstancemigrations" => &[
            ("Phase", "string", ".status.phase", 0),
            ("VMI", "string", ".spec.vmiName", 0),
        ],
        "kubevirts" => &[AGE, ("Phase", "string", ".status.phase", 0)],
        "datavolumes" => &[
            ("Phase", "string", ".status.phase", 0),
            ("Progress", "string", ".status.progress", 0),
            ("Restarts", "string", ".status.restartCount", 0),
            AGE,
        ],
        _ => &[],
    }
}
