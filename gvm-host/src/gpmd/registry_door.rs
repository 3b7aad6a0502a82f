//! What nodes may do: register, discover, look up, subscribe to the index.
//!
//! In: requests of nodes. Out: the registry's answers; word to subscribers when the index changes.
//! Must not know: how connections come and go; a registration ends when its capability is dropped,
//! which the end of its connection does too.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::connections::Greeted;
use super::registry::Token;
use super::server::{State, now_ms};
use crate::wire::rpc::{Offered, contained};
use crate::wire::schema::gpmd_capnp::{
    index_subscriber, registration, registry, registry_door, subscription,
};
use crate::wire::{error, hello};

/// How long the acknowledgement of a change waits for a subscriber. A node answers within
/// milliseconds; one that is stopped must not hold up an upload.
const SUBSCRIBER: Duration = Duration::from_secs(1);

/// The first capability of the socket for nodes.
pub fn offer(state: &Rc<State>, greeted: Greeted) -> Offered {
    let door = Door { state: state.clone(), greeted };
    capnp_rpc::new_client::<registry_door::Client, _>(door).client
}

struct Door {
    state: Rc<State>,
    greeted: Greeted,
}

impl registry_door::Server for Door {
    async fn greet(
        self: Rc<Self>,
        params: registry_door::GreetParams,
        mut results: registry_door::GreetResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let mut answer = results.get();
            match self.greeted.pass(&self.state, params.get()?.get_hello()?) {
                Ok(hello) => {
                    let mut ok = answer.init_ok();
                    hello::write(&hello, ok.reborrow().init_hello());
                    let (state, greeted) = (self.state.clone(), self.greeted.clone());
                    ok.set_registry(capnp_rpc::new_client(Registry { state, greeted }));
                }
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }
}

struct Registry {
    state: Rc<State>,
    greeted: Greeted,
}

impl registry::Server for Registry {
    async fn register(
        self: Rc<Self>,
        params: registry::RegisterParams,
        mut results: registry::RegisterResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let mut answer = results.get();
            let applicant = hello::read_applicant(params.get()?.get_node()?);
            let registered = applicant.and_then(|applicant| {
                let mut chance = || uuid::Uuid::new_v4().as_u64_pair().1;
                self.state.registry.borrow_mut().register(applicant, now_ms(), &mut chance)
            });
            match registered {
                Ok((token, node)) => {
                    tracing::info!(name = %node.name, id = %node.id, "a node registered");
                    let mut ok = answer.init_ok();
                    hello::write_node(&node, ok.reborrow().init_node());
                    ok.set_registration(capnp_rpc::new_client(Registration {
                        state: self.state.clone(),
                        token,
                    }));
                }
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn discover(
        self: Rc<Self>,
        _: registry::DiscoverParams,
        mut results: registry::DiscoverResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let registry = self.state.registry.borrow();
            let nodes = registry.discover();
            let mut list = results.get().init_nodes(nodes.len() as u32);
            for (index, node) in nodes.enumerate() {
                hello::write_node(node, list.reborrow().get(index as u32));
            }
            Ok(())
        })
        .await
    }

    async fn look_up(
        self: Rc<Self>,
        params: registry::LookUpParams,
        mut results: registry::LookUpResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let name = params.get()?.get_name()?.to_string()?;
            let mut answer = results.get();
            match self.state.registry.borrow().look_up(&name) {
                Ok(node) => hello::write_node(node, answer.init_node()),
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn subscribe(
        self: Rc<Self>,
        params: registry::SubscribeParams,
        mut results: registry::SubscribeResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let client = params.get()?.get_subscriber()?;
            // First a subscriber, then told: a change that comes between is told twice, not never.
            let number = self.state.subscribers.add(client.clone());
            let mut subscription = Subscription { state: self.state.clone(), number, _watched: None };
            tell(&client, self.state.store.index().revision).await?;
            // From now on a node that says nothing for some seconds is gone.
            subscription._watched = self.greeted.watch(move || client.ping_request().send().promise);
            results.get().set_subscription(capnp_rpc::new_client(subscription));
            Ok(())
        })
        .await
    }

    async fn ping(
        self: Rc<Self>,
        _: registry::PingParams,
        _: registry::PingResults,
    ) -> Result<(), capnp::Error> {
        Ok(())
    }
}

struct Registration {
    state: Rc<State>,
    token: Token,
}

impl registration::Server for Registration {}

impl Drop for Registration {
    fn drop(&mut self) {
        let gone = self.state.registry.borrow_mut().remove(self.token);
        if let Some(node) = gone {
            tracing::info!(name = %node.name, id = %node.id, "a node is gone");
        }
    }
}

struct Subscription {
    state: Rc<State>,
    number: u64,
    /// Whether the subscriber still lives is looked after for as long.
    _watched: Option<AbortOnDropHandle<()>>,
}

impl subscription::Server for Subscription {}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.state.subscribers.remove(self.number);
    }
}

/// Who wants to hear of changes. Belongs to the server's thread.
#[derive(Default)]
pub struct Subscribers {
    all: RefCell<BTreeMap<u64, index_subscriber::Client>>,
    last: Cell<u64>,
}

impl Subscribers {
    fn add(&self, client: index_subscriber::Client) -> u64 {
        self.last.set(self.last.get() + 1);
        self.all.borrow_mut().insert(self.last.get(), client);
        self.last.get()
    }

    fn remove(&self, number: u64) {
        let gone = self.all.borrow_mut().remove(&number);
        drop(gone);
    }

    fn snapshot(&self) -> Vec<(u64, index_subscriber::Client)> {
        self.all.borrow().iter().map(|(number, client)| (*number, client.clone())).collect()
    }

    /// Tells everyone at once, and waits until all have read it, or as long as it may take. Who
    /// answers with an error is told nothing more.
    pub async fn tell_changed(&self, revision: u64) {
        let telling = self.snapshot().into_iter().map(|(number, client)| async move {
            if tell(&client, revision).await.is_err() {
                self.remove(number);
            }
        });
        join_all(telling).await;
    }

    /// Tells everyone that gpmd leaves.
    pub async fn tell_goodbye(&self, reason: &str) {
        let telling = self.snapshot().into_iter().map(|(_, client)| async move {
            let mut request = client.goodbye_request();
            request.get().set_reason(reason);
            let _ = timeout(SUBSCRIBER, request.send().promise).await;
        });
        join_all(telling).await;
    }
}

/// Tells one subscriber; slowness is no error.
async fn tell(client: &index_subscriber::Client, revision: u64) -> Result<(), capnp::Error> {
    let mut request = client.changed_request();
    request.get().set_revision(revision);
    match timeout(SUBSCRIBER, request.send().promise).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}
