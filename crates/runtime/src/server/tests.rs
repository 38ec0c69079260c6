//! A server and a channel over a real socket.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use steading_api::{
    convert::reason_of,
    error::RpcError,
    lifecycle::v1::{
        GetProjectRequest, Project,
        project_service_client::ProjectServiceClient,
        project_service_server::{ProjectService, ProjectServiceServer},
    },
    types::v1::ErrorReason,
};
use tokio::sync::mpsc;
use tonic::{Code, Response, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::{
    CallContext,
    auth::{Action, Verb},
    channel::{ChannelConfig, PeerChannel, connect_lazy},
    tasks::TaskGroup,
};

mod calls;
mod drain;
mod fixture;
