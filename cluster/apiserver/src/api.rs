//! The public face of the server.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;

use crate::components::Component;
use crate::error::Error;
use crate::handle::handle;
use crate::https::Serving;
use crate::pki::Pki;
use crate::reply::{Body, BoxError};
use crate::server::{Config, KubeletService, Server};
use crate::user::User;

/// A running API server. Cheap to clone; all clones are one server.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) server: Arc<Server>,
}

impl ApiServer {
    /// Opens the store and starts the tasks.
    pub async fn open(config: Config) -> Result<ApiServer, Error> {
        let server = Server::open(config).await?;
        crate::tasks::start(&server);
        Ok(ApiServer { server })
    }

    /// The API for one user, as a service without a socket.
    pub fn service(&self, user: User) -> ApiService {
        ApiService { server: self.server.clone(), user: Arc::new(user) }
    }

    /// A client for one user, without a socket. Upgrades (exec, port-forward) need a real connection.
    pub fn client(&self, user: User) -> kube::Client {
        let user = match user.agent {
            Some(_) => user,
            None => user.with_agent("dodai"),
        };
        kube::Client::new(self.service(user), "default")
    }

    /// Serves the API over HTTPS until the returned handle is told to stop.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub async fn serve(&self, listener: tokio::net::TcpListener, pki: &Pki) -> Result<Serving, Error> {
        crate::https::serve(self.server.clone(), listener, pki).await
    }

    /// Names the node that answers for logs, exec, attach and port-forward.
    pub fn set_kubelet(&self, service: KubeletService) {
        *self.server.kubelet.write().unwrap_or_else(PoisonError::into_inner) = Some(service);
    }

    /// Adds text to what `/metrics` answers: Prometheus' text format, whole lines.
    pub fn set_metrics(&self, further: impl Fn() -> String + Send + Sync + 'static) {
        *self.server.further_metrics.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::new(further));
    }

    /// Names further parts of this process to list as ComponentStatus, worked out anew for each request.
    pub fn set_components(&self, components: impl Fn() -> Vec<Component> + Send + Sync + 'static) {
        *self.server.components.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(components));
    }

    /// What people should know of how the server started, such as Secrets that cannot be opened because their key is lost.
    pub fn notices(&self) -> &[String] {
        self.server.store.notices()
    }

    /// Ends watches, writes what is pending and closes the store.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.server.close().await;
        Ok(())
    }
}

/// The API for one user.
#[derive(Clone)]
pub struct ApiService {
    server: Arc<Server>,
    user: Arc<User>,
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, user) = (self.server.clone(), self.user.clone());
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Box::pin(async move { Ok(handle(&server, &user, request).await) })
    }
}
