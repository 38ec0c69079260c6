//! The engine as handlers use it.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use steading_api::{
    error::RpcError,
    reflect,
    standard::{self, Act, Creation},
};
use tonic::{Request, Response, Status};

use super::{Acts, Collection, Revises, Writable, act, change, create, delete, list, mark::Mark, read, watch};
use crate::{CallContext, clock::Clock};

/// A stream of responses.
pub type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The methods of a collection. Cheap to clone if the collection is.
#[derive(Clone, Debug)]
pub struct Methods<C> {
    collection: C,
    clock: Clock,
}

impl<C: Collection> Methods<C> {
    /// The methods of `collection`; `clock` dates deletions that are only checked.
    pub fn new(collection: C, clock: Clock) -> Self {
        Self { collection, clock }
    }

    /// The collection.
    pub fn collection(&self) -> &C {
        &self.collection
    }

    /// An object as the resource that clients see, with its etag; `None` if it is no resource of the collection.
    ///
    /// # Errors
    /// If the message has no descriptor.
    pub fn show(&self, object: &C::Object) -> Result<Option<C::Resource>, RpcError> {
        read::sealed(&self.collection, object)
    }

    /// Returns one resource.
    ///
    /// # Errors
    /// If it does not exist, the name is wrong, or the caller may not.
    pub async fn get<Q>(&self, request: Request<Q>) -> Result<Response<C::Resource>, Status>
    where
        Q: standard::Get<Resource = C::Resource>,
    {
        let context = CallContext::from_request(&request);
        let found = read::get(&self.collection, &context, request.get_ref().name()).await?;
        Ok(Response::new(found))
    }

    /// Returns one page in the order of names.
    ///
    /// # Errors
    /// If a parameter is wrong, the parent does not exist, or the caller may not.
    pub async fn list<Q>(&self, request: Request<Q>) -> Result<Response<Q::Response>, Status>
    where
        Q: standard::List<Resource = C::Resource>,
    {
        let context = CallContext::from_request(&request);
        let query = request.into_inner().into_query();
        let (items, token) = list::list(&self.collection, &context, &query).await?;
        Ok(Response::new(Q::page(items, token)))
    }

    /// Sends what exists, then each change.
    ///
    /// # Errors
    /// If a parameter is wrong, the parent does not exist, the token has expired, or the caller may not.
    pub async fn watch<Q>(&self, request: Request<Q>) -> Result<Response<ResponseStream<Q::Response>>, Status>
    where
        Q: standard::Watch<Resource = C::Resource>,
    {
        let context = CallContext::from_request(&request);
        let query = request.into_inner().into_query();
        let events = watch::watch(&self.collection, &context, query).await?;
        Ok(Response::new(Box::pin(events.map(|event| {
            let event = event.map_err(Status::from)?;
            Ok(Q::event(event.kind, event.resource, event.token))
        }))))
    }

    /// Carries out a custom method.
    ///
    /// # Errors
    /// If the resource does not exist, has another etag, what is asked for cannot be, or the caller may not.
    pub async fn act<Q>(&self, request: Request<Q>) -> Result<Response<C::Resource>, Status>
    where
        Q: Act<Resource = C::Resource>,
        C: Acts<Q>,
    {
        let context = CallContext::from_request(&request);
        let done = act::act(&self.collection, &context, request.get_ref()).await?;
        Ok(Response::new(done))
    }
}

impl<C: Writable> Methods<C> {
    /// Creates a resource, or returns what the same request created before.
    ///
    /// # Errors
    /// If it exists already, something in it is wrong, its parent does not exist, or the caller may not.
    pub async fn create<Q>(&self, request: Request<Q>) -> Result<Response<C::Resource>, Status>
    where
        Q: standard::Create<Resource = C::Resource>,
    {
        let context = CallContext::from_request(&request);
        let request = request.into_inner();
        let hash = reflect::request_hash(Q::MESSAGE, &request)?;
        // On the heap, as are update and revise: what looks up references is large.
        let made = Box::pin(self.create_as(&context, request.into_creation(), Q::ID_FIELD, hash)).await?;
        Ok(Response::new(made))
    }

    /// Creates a resource for a request that is not a Create, such as a clone. `id_field` is the path of the id in errors,
    /// `hash` the digest of the request.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_as(
        &self,
        context: &CallContext,
        creation: Creation<C::Resource>,
        id_field: &str,
        hash: String,
    ) -> Result<C::Resource, RpcError> {
        create::create(&self.collection, context, creation, id_field, hash).await
    }

    /// Changes fields of a resource.
    ///
    /// # Errors
    /// If it does not exist, has another etag, something in it is wrong, or the caller may not.
    pub async fn update<Q>(&self, request: Request<Q>) -> Result<Response<C::Resource>, Status>
    where
        Q: standard::Update<Resource = C::Resource>,
    {
        let context = CallContext::from_request(&request);
        let request = request.into_inner();
        let hash = reflect::request_hash(Q::MESSAGE, &request)?;
        let changed = change::update(&self.collection, &context, request.into_change(), hash).await?;
        Ok(Response::new(changed))
    }

    /// Carries out a custom method that changes fields.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn revise<Q>(&self, request: Request<Q>) -> Result<Response<C::Resource>, Status>
    where
        Q: Act<Resource = C::Resource>,
        C: Revises<Q>,
    {
        let context = CallContext::from_request(&request);
        let changed = change::revise(&self.collection, &context, request.get_ref()).await?;
        Ok(Response::new(changed))
    }

    /// Deletes a resource and returns it as it is then.
    ///
    /// # Errors
    /// If it does not exist, has another etag or children, is used by others, or the caller may not.
    pub async fn delete<Q>(&self, request: Request<Q>) -> Result<Response<C::Resource>, Status>
    where
        Q: standard::Delete<Resource = C::Resource>,
    {
        let context = CallContext::from_request(&request);
        let deletion = request.into_inner().into_deletion();
        Mark::check_id(&deletion.request_id)?;
        let last = delete::delete(&self.collection, &context, &self.clock, &deletion).await?;
        Ok(Response::new(last))
    }
}
