//! What can go wrong in storage.

use steading_model::violation::Violations;

/// An error of the domain; `api/status.rs` says what clients see of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A resource breaks rules.
    #[error("the {kind} is not valid")]
    Invalid {
        /// Field of the resource in requests, below which the paths are.
        kind: &'static str,
        /// The rules.
        #[source]
        violations: Violations,
    },
    /// The class is not offered to the project, or does not exist: the project learns no more than that.
    #[error("storage class {class:?} is not offered to project {project}")]
    ClassNotOffered {
        /// The class as named; empty for the default.
        class: String,
        /// The project.
        project: String,
    },
    /// The class breaks rules itself.
    #[error("storage class {0} is not usable: {1}")]
    ClassUnusable(String, String),
    /// The class does not allow it.
    #[error("storage class {class} does not allow {what}")]
    ClassForbids {
        /// The class.
        class: String,
        /// What was asked for.
        what: &'static str,
    },
    /// Volumes are made of the class.
    #[error("storage class {class} has volumes, {volumes:?} among them")]
    ClassInUse {
        /// The class.
        class: String,
        /// Some of the volumes.
        volumes: Vec<String>,
    },
    /// Something that the request refers to does not exist.
    #[error("{name} does not exist")]
    ReferenceNotFound {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The volume is on, or wanted on, another machine.
    #[error("volume {volume} is attached to machine {machine}")]
    AttachedElsewhere {
        /// The volume.
        volume: String,
        /// The machine that has it.
        machine: String,
    },
    /// The volume is in use.
    #[error("volume {volume} is in use: {why}")]
    VolumeInUse {
        /// The volume.
        volume: String,
        /// By whom.
        why: String,
    },
    /// The volume is being deleted.
    #[error("{0} is being deleted")]
    Deleting(String),
    /// The state of something does not allow it.
    #[error("{0}")]
    InvalidState(String),
    /// A volume would shrink.
    #[error("volume {volume} has {present} and cannot shrink to {wanted}")]
    Shrink {
        /// The volume.
        volume: String,
        /// Its size.
        present: String,
        /// The size asked for.
        wanted: String,
    },
    /// The infra cluster has no snapshots.
    #[error("the infra cluster has no volume snapshots")]
    NoSnapshots,
    /// The project's quota has no room.
    #[error("{project} may have {limit} of storage and has {used} with its boot disks: no room for {wanted} more")]
    QuotaExceeded {
        /// The project.
        project: String,
        /// Its limit.
        limit: String,
        /// What volumes and boot disks take.
        used: String,
        /// What was asked for beyond that.
        wanted: String,
    },
    /// It cannot be seen at present where volumes are.
    #[error("the infra cluster cannot be watched at present")]
    NotWatched,
}

/// What ends the service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The server cannot serve.
    #[error("grpc server failed")]
    Server(#[from] steading_runtime::server::ServerError),
    /// A background task died.
    #[error("a task of the service ended")]
    Task(#[from] steading_runtime::tasks::TaskError),
}
