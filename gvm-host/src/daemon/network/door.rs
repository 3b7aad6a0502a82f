//! The first capability of a connection to the port for nodes.
//!
//! In: who is at the other end, as TLS proved it. Out: the registry for this device's processes, meeting for the devices of
//! the network, joining for strangers while an invitation is open. Must not know: what follows.

use std::cell::Cell;
use std::rc::Rc;

use super::Network;
use super::join::{self, Answer};
use super::links::{self, Arrival};
use crate::base::error::{Code, Error, Result};
use crate::daemon::connections::Greeted;
use crate::daemon::registry_handler;
use crate::daemon::server::State;
use crate::trust::key::PublicKey;
use crate::wire::error;
use crate::wire::gate::Pass;
use crate::wire::rpc::{MessageLimits, Offered, contained, overloaded};
use crate::wire::schema::device_capnp::device_door;
use crate::wire::transport::{OtherEnd, Place};

/// How often one connection may apply: more than a person needs, and nothing against 128 random bits.
const TRIES: u32 = 3;

/// What a connection offers, and the limits of its messages.
pub fn offer(
    state: &Rc<State>,
    greeted: Greeted,
    other: &OtherEnd,
    binding: Vec<u8>,
) -> (Offered, MessageLimits) {
    let control = MessageLimits::CONTROL;
    let OtherEnd::Device { at, key } = *other else {
        return (registry_handler::offer(state, greeted), control);
    };
    let network = &state.network;
    let known = network.devices.now();
    if known.own() == Some(key) {
        return (registry_handler::offer(state, greeted), control);
    }
    let is_known = known.key(&key.id()) == Some(key);
    let place = match is_known {
        true => None,
        false => match network.strangers.enter("connections") {
            Ok(place) => Some(place),
            Err(_) => return (overloaded(), MessageLimits::STRANGER),
        },
    };
    let door = Door { state: state.clone(), greeted, at, key, binding, tries: Cell::new(0), _place: place };
    let offered = capnp_rpc::new_client::<device_door::Client, _>(door).client;
    (offered, if is_known { control } else { MessageLimits::STRANGER })
}

struct Door {
    state: Rc<State>,
    greeted: Greeted,
    at: Place,
    /// The key that the other device has proved.
    key: PublicKey,
    /// A secret of the TLS connection.
    binding: Vec<u8>,
    tries: Cell<u32>,
    /// The place of a stranger.
    _place: Option<Pass>,
}

impl Door {
    fn check_known(&self, network: &Network) -> Result<()> {
        match network.devices.now().key(&self.key.id()) == Some(self.key) {
            true => Ok(()),
            false => Err(Error::new(Code::AuthFailed, "this device does not belong to the network")),
        }
    }
}

impl device_door::Server for Door {
    async fn meet(
        self: Rc<Self>,
        params: device_door::MeetParams,
        mut results: device_door::MeetResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let network = &self.state.network;
            let params = params.get()?;
            let (hello, device) = (params.get_hello()?, params.get_device()?);
            let Some(grip) = self.greeted.grip() else {
                return Err(capnp::Error::failed("the connection has ended".into()));
            };
            let met = async {
                self.check_known(network)?;
                let version = links::read_hello(network, hello)?;
                let arrival = Arrival { key: self.key, at: self.at, grip, device, version };
                links::accept(&self.state, arrival).await
            };
            match met.await {
                Ok(device) => {
                    self.greeted.keep();
                    let mut ok = results.get().init_ok();
                    links::write_hello(network, ok.reborrow().init_hello());
                    ok.set_device(device);
                }
                Err(refused) => error::write(&refused, results.get().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn join(
        self: Rc<Self>,
        params: device_door::JoinParams,
        mut results: device_door::JoinResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let application = params.get()?.get_application()?;
            self.tries.set(self.tries.get() + 1);
            let answered = match self.tries.get() > TRIES {
                true => Err(Error::new(Code::Overloaded, "too many attempts to join")),
                false => join::answer(&self.state, self.key, &self.binding, application).await,
            };
            match answered {
                Ok(Answer::KeyRemoved) => results.get().set_removed(()),
                Ok(Answer::Admitted(admitted)) => {
                    let mut ok = results.get().init_ok();
                    ok.set_proof(&admitted.proof);
                    ok.set_network(admitted.founder.bytes());
                    let mut list = ok.init_statements(admitted.statements.len() as u32);
                    for (place, statement) in admitted.statements.iter().enumerate() {
                        list.set(place as u32, statement);
                    }
                }
                Err(refused) => error::write(&refused, results.get().init_error()),
            }
            Ok(())
        })
        .await
    }
}
