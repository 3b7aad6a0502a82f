//! What nodes may do: register, discover, look up, subscribe to the index.
//!
//! In: requests of nodes. Out: the registry's answers; word to subscribers when the index changes.
//! Must not know: how connections come and go; a registration ends when its capability is dropped,
//! which the end of its connection does too.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::connections::Greeted;
use super::registry::Token;
use super::server::{State, now_ms};
use crate::base::error::{Code, Error, Result};
use crate::base::id::{NodeInfo, Secret};
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
            let asked = params.get()?;
            let applicant = hello::read_applicant(asked.get_node()?);
            let secret = Secret::read(asked.get_secret()?);
            let registered = applicant.and_then(|applicant| {
                let mut chance = || uuid::Uuid::new_v4().as_u64_pair().1;
                self.state.registry.borrow_mut().register(applicant, secret, now_ms(), &mut chance)
            });
            match registered {
                Ok((token, node)) => {
                    // It may have replaced an earlier one.
                    self.state.unregistered.notify_waiters();
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

impl Registration {
    /// The node whose registration this is.
    fn node(&self) -> Result<NodeInfo> {
        let registry = self.state.registry.borrow();
        registry.get(self.token).cloned().ok_or_else(|| {
            Error::new(Code::AuthFailed, "this registration has ended: the node registered again elsewhere")
        })
    }

    /// The node that a ticket introduces to this one.
    fn introduced(&self, ticket: &[u8]) -> Result<NodeInfo> {
        let me = self.node()?.life();
        let ticket = Secret::read(ticket);
        let of = ticket.and_then(|ticket| self.state.tickets.borrow_mut().take(&ticket, me, Instant::now()));
        let node = of.and_then(|token| self.state.registry.borrow().get(token).cloned());
        node.ok_or_else(|| Error::new(Code::NodeNotFound, "no live node was given this ticket"))
    }
}

impl registration::Server for Registration {
    async fn introduce(
        self: Rc<Self>,
        params: registration::IntroduceParams,
        mut results: registration::IntroduceResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let to = hello::read_node(params.get()?.get_to()?).map_err(failed)?.life();
            self.node().map_err(failed)?;
            let ticket = Secret::random();
            self.state.tickets.borrow_mut().give(ticket, self.token, to, Instant::now());
            results.get().set_ticket(ticket.bytes());
            Ok(())
        })
        .await
    }

    async fn identify(
        self: Rc<Self>,
        params: registration::IdentifyParams,
        mut results: registration::IdentifyResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let mut answer = results.get();
            match self.introduced(params.get()?.get_ticket()?) {
                Ok(node) => hello::write_node(&node, answer.init_node()),
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn ended(
        self: Rc<Self>,
        _: registration::EndedParams,
        _: registration::EndedResults,
    ) -> Result<(), capnp::Error> {
        // Waiting must not keep the registration.
        let (state, token) = (self.state.clone(), self.token);
        drop(self);
        loop {
            let next = state.unregistered.notified();
            if state.registry.borrow().get(token).is_none() {
                return Ok(());
            }
            next.await;
        }
    }
}

fn failed(error: Error) -> capnp::Error {
    capnp::Error::failed(error.to_string())
}

impl Drop for Registration {
    fn drop(&mut self) {
        let gone = self.state.registry.borrow_mut().remove(self.token);
        self.state.unregistered.notify_waiters();
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
