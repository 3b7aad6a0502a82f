//! The handler of commands: status, upload, remove, pin, shut down.
//!
//! In: requests of commands. Out: the state of gpmd; changes to the store, which are durable and announced to
//! subscribers before they are acknowledged. Must not know: how connections are accepted and closed.

use std::rc::Rc;

use semver::Version;

use super::connections::Greeted;
use super::server::State;
use super::stop::Step;
use super::upload_handler::Upload;
use crate::base::error::Result;
use crate::base::id::{Name, parse_version};
use crate::base::limits;
use crate::modules::store::too_large;
use crate::wire::rpc::{Offered, contained};
use crate::wire::schema::gpmd_capnp::{control, control_door};
use crate::wire::{error, hello};

/// Makes the first capability of the socket and port for commands.
pub fn offer(state: &Rc<State>, greeted: Greeted) -> Offered {
    let greeter = Greeter { state: state.clone(), greeted };
    capnp_rpc::new_client::<control_door::Client, _>(greeter).client
}

/// Checks the greeting, then offers [`Control`].
struct Greeter {
    state: Rc<State>,
    greeted: Greeted,
}

impl control_door::Server for Greeter {
    async fn greet(
        self: Rc<Self>,
        params: control_door::GreetParams,
        mut results: control_door::GreetResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let mut answer = results.get();
            match self.greeted.pass(&self.state, params.get()?.get_hello()?) {
                Ok(hello) => {
                    let mut ok = answer.init_ok();
                    hello::write(&hello, ok.reborrow().init_hello());
                    let (state, greeted) = (self.state.clone(), self.greeted.clone());
                    ok.set_control(capnp_rpc::new_client(Control { state, greeted }));
                }
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }
}

struct Control {
    state: Rc<State>,
    greeted: Greeted,
}

impl control::Server for Control {
    async fn status(
        self: Rc<Self>,
        _: control::StatusParams,
        mut results: control::StatusResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let mut status = results.get().init_status();
            let record = &self.state.record;
            status.set_pid(record.pid);
            status.set_version(&record.version);
            status.set_home(self.state.home.path().to_string_lossy());
            status.set_address(&record.address);
            status.set_command_address(&record.command_address);
            status.set_socket(&record.socket);
            status.set_command_socket(&record.command_socket);
            status.set_since(record.since_ms);
            status.set_modules(self.state.store.index().modules.len() as u32);
            let registry = self.state.registry.borrow();
            let nodes = registry.discover();
            let mut list = status.init_nodes(nodes.len() as u32);
            for (index, node) in nodes.enumerate() {
                hello::write_node(node, list.reborrow().get(index as u32));
            }
            Ok(())
        })
        .await
    }

    async fn shut_down(
        self: Rc<Self>,
        params: control::ShutDownParams,
        _: control::ShutDownResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let reason = error::reason(params.get()?.get_reason())?;
            self.state.stop.ask(reason);
            self.state.stop.reach(Step::Ready).await;
            Ok(())
        })
        .await
    }

    async fn upload(
        self: Rc<Self>,
        params: control::UploadParams,
        mut results: control::UploadResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let params = params.get()?;
            let (name, version) = (params.get_name()?.to_string()?, params.get_version()?.to_string()?);
            let mut answer = results.get();
            match begin(&self.state, &name, &version, params.get_size()) {
                Ok(mut upload) => {
                    if params.has_alive() {
                        let alive = params.get_alive()?;
                        // A sender that has stopped must not keep its place.
                        upload.watched = self.greeted.watch(move || alive.ping_request().send().promise);
                    }
                    answer.set_upload(capnp_rpc::new_client(upload));
                }
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn remove(
        self: Rc<Self>,
        params: control::RemoveParams,
        mut results: control::RemoveResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let params = params.get()?;
            let name = params.get_name()?.to_string()?;
            let version = version(params.has_version(), params.get_version()?);
            let removed = match version {
                Ok(version) => self.state.change(move |store| store.remove(&name, version.as_ref())).await,
                Err(refused) => Err(refused),
            };
            let mut answer = results.get();
            match removed {
                Ok(versions) => {
                    let mut list = answer.init_removed(versions.len() as u32);
                    for (index, version) in versions.iter().enumerate() {
                        list.set(index as u32, version.to_string());
                    }
                }
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn pin(
        self: Rc<Self>,
        params: control::PinParams,
        mut results: control::PinResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let params = params.get()?;
            let name = params.get_name()?.to_string()?;
            let version = version(params.has_version(), params.get_version()?);
            let pinned = match version {
                Ok(version) => self.state.change(move |store| store.pin(&name, version.as_ref())).await,
                Err(refused) => Err(refused),
            };
            let mut answer = results.get();
            match pinned {
                Ok(()) => answer.set_ok(()),
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }
}

fn begin(state: &Rc<State>, name: &str, version: &str, size: u64) -> Result<Upload> {
    let name: Name = name.parse()?;
    let version = parse_version(version)?;
    if size > limits::MODULE_BYTES {
        return Err(too_large());
    }
    Upload::begin(state, name, version, size)
}

fn version(given: bool, text: capnp::text::Reader<'_>) -> Result<Option<Version>> {
    if !given {
        return Ok(None);
    }
    parse_version(&String::from_utf8_lossy(text.as_bytes())).map(Some)
}
