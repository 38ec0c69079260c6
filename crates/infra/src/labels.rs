//! Every label, annotation, finalizer and well-known name that Steading writes or reads.
//!
//! Other processes and people see these strings, so they are declared once, here.

/// API group of Steading's own kinds.
pub const GROUP: &str = "steading.dev";
/// API version of Steading's own kinds.
pub const VERSION: &str = "v1alpha1";
/// Namespace of Steading itself: golden images, template revisions, leases.
pub const SYSTEM_NAMESPACE: &str = "steading-system";

/// Label: id of the project that an object belongs to.
pub const PROJECT: &str = "steading.dev/project";
/// Label: id of the tenant cluster that an object belongs to.
pub const CLUSTER: &str = "steading.dev/cluster";
/// Label: id of the machine pool that a machine belongs to.
pub const POOL: &str = "steading.dev/pool";
/// Label: id of the machine (equals the VirtualMachine's name).
pub const MACHINE: &str = "steading.dev/machine";
/// Label: id of the volume that a DataVolume or claim is.
pub const VOLUME: &str = "steading.dev/volume";
/// Label: id of the snapshot that a VolumeSnapshot is.
pub const SNAPSHOT: &str = "steading.dev/snapshot";
/// Label: id of the storage class (Steading's) that a volume was made from.
pub const STORAGE_CLASS: &str = "steading.dev/storage-class";
/// Label: id of the image that a golden DataVolume or DataSource is.
pub const IMAGE: &str = "steading.dev/image";
/// Label: id of the machine template that a revision belongs to.
pub const MACHINE_TEMPLATE: &str = "steading.dev/machine-template";
/// Label: hash of everything that makes a pool's machines differ; a machine with another one is outdated.
pub const REVISION: &str = "steading.dev/revision";
/// Label: id of the load balancer that an infra Service is.
pub const LOAD_BALANCER: &str = "steading.dev/load-balancer";
/// Label: id of the maintenance that made an object (a migration, for example).
pub const MAINTENANCE: &str = "steading.dev/maintenance";
/// Label of the field: who manages the object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`] on everything that Steading makes.
pub const MANAGED_BY_STEADING: &str = "steading";

/// Finalizer on a machine's VirtualMachine: it goes only after drain and detach.
pub const MACHINE_FINALIZER: &str = "steading.dev/machine";
/// Finalizer on a Cluster: its machines, volumes and load balancers go first.
pub const CLUSTER_FINALIZER: &str = "steading.dev/cluster";
/// Finalizer on a MachinePool: its machines go first.
pub const MACHINE_POOL_FINALIZER: &str = "steading.dev/machine-pool";
/// Finalizer on a Project: its clusters and own catalogue go first.
pub const PROJECT_FINALIZER: &str = "steading.dev/project";
/// Finalizer on a volume's DataVolume: it goes only when it is attached nowhere.
pub const VOLUME_FINALIZER: &str = "steading.dev/volume";
/// Finalizer on a Maintenance: the infra node is given back first.
pub const MAINTENANCE_FINALIZER: &str = "steading.dev/maintenance";
/// Finalizer on a tenant Service: its infra Service goes first.
pub const LOAD_BALANCER_FINALIZER: &str = "steading.dev/load-balancer";

/// Annotation of a DataVolume: id of the machine it is wanted attached to.
pub const ATTACH_TO: &str = "steading.dev/attach-to";
/// Annotation of a DataVolume: the machine that may have it, `<machine>/<uid of its VirtualMachine>/<fence>`. Written before the
/// machine is changed, cleared once machine and instance are seen without the volume.
pub const PLACED_ON: &str = "steading.dev/placed-on";
/// Annotation of a VirtualMachine: counts up with each change after which an earlier attachment must no longer take effect.
pub const VOLUME_FENCE: &str = "steading.dev/volume-fence";
/// Annotation of a DataVolume: why its machine refused it, as JSON.
pub const ATTACH_REFUSAL: &str = "steading.dev/attach-refusal";
/// Annotation of a DataVolume: why the infra cluster refused to let it grow, as JSON.
pub const EXPAND_REFUSAL: &str = "steading.dev/expand-refusal";
/// Annotation of a DataVolume: the wanted size, once it differs from the one it was made with.
pub const VOLUME_SIZE: &str = "steading.dev/size";
/// Annotation of a DataVolume: bus of its disk, `scsi` or `virtio`.
pub const VOLUME_BUS: &str = "steading.dev/bus";
/// Annotation of a DataVolume: zones that reach it, separated by commas.
pub const VOLUME_ZONES: &str = "steading.dev/zones";
/// Annotation of a DataVolume: what becomes of its bytes, `Delete` or `Retain`.
pub const RECLAIM_POLICY: &str = "steading.dev/reclaim-policy";
/// Annotation of a migration that Steading made: the owner of the intent that it carries out.
pub const INTENT_OWNER: &str = "steading.dev/intent-owner";
/// Annotation of a VirtualMachine: when its guest joined the tenant cluster last, RFC 3339; a Node that is missing since then was deleted.
pub const JOINED: &str = "steading.dev/joined";
/// Annotation of a VirtualMachine: the last restart that was carried out, as JSON; a repeated request finds it.
pub const LAST_RESTART: &str = "steading.dev/last-restart";
/// Annotation of a Machine or VirtualMachine: what it costs to remove it, an integer; a scale-down removes the cheapest first.
pub const DELETION_COST: &str = "steading.dev/deletion-cost";
/// Annotation of a tenant Node: Steading cordoned it; a cordon of anybody else is never undone.
pub const CORDONED: &str = "steading.dev/cordoned";
/// Annotation of a MachinePool: when its rollout was resumed, RFC 3339; failures of new machines before it no longer count.
pub const ROLLOUT_RESUMED: &str = "steading.dev/rollout-resumed";
/// Annotation of an infra Node: the maintenance that cordoned it.
pub const CORDONED_BY: &str = "steading.dev/cordoned-by";
/// Annotation of a Maintenance that was made because pods were evicted from the infra node.
pub const DRAIN_DETECTED: &str = "steading.dev/drain-detected";
/// Annotation of an infra Service: namespace and name of the tenant's Service, `<namespace>/<name>`.
pub const TENANT_SERVICE: &str = "steading.dev/tenant-service";
/// Annotation of an infra Service: JSON list of the tenant's fields that do not carry over, with the reasons.
pub const FIELD_NOTES: &str = "steading.dev/field-notes";
/// Annotation of an infra Service: digest of everything that it was rendered to be.
pub const RENDERED: &str = "steading.dev/rendered";
/// Annotation of an infra Service that only keeps the place of a load balancer: why that one is not served, as JSON.
pub const LOAD_BALANCER_HOLD: &str = "steading.dev/hold";
/// Annotation of what Steading made for a cluster: uid of the Cluster. Only an object that carries it is deleted with the cluster.
pub const CLUSTER_UID: &str = "steading.dev/cluster-uid";
/// Annotation of a Project or Cluster: its deletion may delete what is in it. The value is the object's name.
pub const DELETION_CONSENT: &str = "steading.dev/deletion-consent";
/// Annotation of a VirtualMachine: when its bootstrap token expires, RFC 3339; absent once there is none.
pub const TOKEN_EXPIRES: &str = "steading.dev/token-expires";
/// Annotation of a VirtualMachine: when Steading began to drain its Node, RFC 3339; timeouts count from here, and the drain is undone while it is there.
pub const DRAIN_STARTED: &str = "steading.dev/drain-started";
/// Annotation of a VirtualMachine: how far a drain is that lasts, as JSON; a new leader goes on from it.
pub const DRAIN_PROGRESS: &str = "steading.dev/drain-progress";
/// Annotation: `request_id` of the call that created the object.
pub const REQUEST_ID: &str = "steading.dev/request-id";
/// Annotation: hash of the content of the call that created the object.
pub const REQUEST_HASH: &str = "steading.dev/request-hash";
/// Annotation: human-readable name.
pub const DISPLAY_NAME: &str = "steading.dev/display-name";
/// Annotation: prefix under which a resource's own annotations of the API are kept on a shared object.
pub const USER_ANNOTATION_PREFIX: &str = "annotations.steading.dev/";
/// Label: prefix under which a resource's own labels of the API are kept on a shared object.
pub const USER_LABEL_PREFIX: &str = "labels.steading.dev/";
/// Annotation of a VirtualMachine: the template revision it was rendered from.
pub const TEMPLATE_REVISION: &str = "steading.dev/template-revision";

/// Suffix of the Secret that holds a machine's user data.
pub const USER_DATA_SUFFIX: &str = "-userdata";
/// Key of the user data in that Secret.
pub const USER_DATA_KEY: &str = "userdata";
/// Default name of the Secret with a tenant cluster's kubeconfig, in the cluster's namespace.
pub const KUBECONFIG_SECRET: &str = "kubeconfig";
/// Key of the kubeconfig in that Secret.
pub const KUBECONFIG_KEY: &str = "kubeconfig";
/// Path of the file in a machine's user data with which the guest joins its tenant cluster.
pub const BOOTSTRAP_KUBECONFIG_PATH: &str = "/etc/kubernetes/bootstrap-kubeconfig";

/// Field manager and lease name of templating.
pub const TEMPLATING_MANAGER: &str = "steading-templating";
/// Field manager and lease name of scheduling.
pub const SCHEDULING_MANAGER: &str = "steading-scheduling";
/// Field manager and lease name of storage.
pub const STORAGE_MANAGER: &str = "steading-storage";
/// Field manager and lease name of lifecycle.
pub const LIFECYCLE_MANAGER: &str = "steading-lifecycle";
/// Field manager of the simulated controllers.
pub const SIMULATION_MANAGER: &str = "steading-sim";

/// Node label: host name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// Node label: zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Node label: region.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Node label: instance type.
pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
/// Taint of a fresh tenant Node until its cloud provider has filled it in.
pub const UNINITIALIZED_TAINT: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// Node label of KubeVirt: the node takes virtual machines.
pub const KUBEVIRT_SCHEDULABLE: &str = "kubevirt.io/schedulable";
/// Node annotation of KubeVirt: last sign of life of its node agent.
pub const KUBEVIRT_HEARTBEAT: &str = "kubevirt.io/heartbeat";
/// Pod label of KubeVirt: what the pod is (`virt-launcher`, `hotplug-disk`).
pub const KUBEVIRT_ROLE: &str = "kubevirt.io";
/// Pod label of KubeVirt: uid of the VMI that made it.
pub const KUBEVIRT_CREATED_BY: &str = "kubevirt.io/created-by";
/// Pod annotation of KubeVirt: name of the VMI.
pub const KUBEVIRT_DOMAIN: &str = "kubevirt.io/domain";
/// Label of KubeVirt on launcher pods: the VM's name.
pub const KUBEVIRT_VM_NAME: &str = "vm.kubevirt.io/name";
/// Label of KubeVirt on a VMI: the node it runs on.
pub const KUBEVIRT_NODE_NAME: &str = "kubevirt.io/nodeName";
/// Annotation of KubeVirt on an evacuation's migration: the node that is being emptied.
pub const KUBEVIRT_EVACUATION_MIGRATION: &str = "kubevirt.io/evacuationMigration";
/// Label of KubeVirt on a migration and its target pod.
pub const KUBEVIRT_MIGRATION_JOB: &str = "kubevirt.io/migrationJobUID";
/// Finalizer of KubeVirt's VM controller.
pub const KUBEVIRT_VM_FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";
/// Finalizer of KubeVirt on VMIs: launcher pods go first.
pub const KUBEVIRT_VMI_FINALIZER: &str = "kubevirt.io/foregroundDeleteVirtualMachine";
/// Annotation of CDI: keep the DataVolume after its claim was filled.
pub const CDI_DELETE_AFTER_COMPLETION: &str = "cdi.kubevirt.io/storage.deleteAfterCompletion";
/// Annotation of CDI: bind the claim at once, without waiting for a first consumer.
pub const CDI_BIND_IMMEDIATE: &str = "cdi.kubevirt.io/storage.bind.immediate.requested";

/// Separates the project's id from the rest in namespace and catalogue object names.
pub const PROJECT_SEPARATOR: &str = "--";
