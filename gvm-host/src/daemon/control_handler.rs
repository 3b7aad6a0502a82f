//! The handler of commands: status, upload, remove, pin, shut down.
//!
//! In: requests of commands. Out: the state of gpmd; changes to the store, which are durable and announced to
//! subscribers before they are acknowledged. Must not know: how connections are accepted and closed.

use std::rc::Rc;
use std::time::Duration;

use semver::Version;

use super::connections::Greeted;
use super::network::commands::{self, Joined};
use super::network::links::Use;
use super::network::remote;
use super::server::State;
use super::stop::Step;
use super::upload_handler::Upload;
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::id::{Name, parse_version};
use crate::base::limits;
use crate::base::process;
use crate::modules::store::too_large;
use crate::trust::roster::Role;
use crate::wire::rpc::{Offered, contained};
use crate::wire::schema::gpmd_capnp::{control, control_door, done};
use crate::wire::{error, hello};

/// Makes the first capability of the socket and port for commands. `pid` is the process at the other end, if it is known.
pub fn offer(state: &Rc<State>, greeted: Greeted, pid: Option<u32>) -> Offered {
    let greeter = Greeter { state: state.clone(), greeted, pid };
    capnp_rpc::new_client::<control_door::Client, _>(greeter).client
}

/// Checks the greeting, then offers [`Control`].
struct Greeter {
    state: Rc<State>,
    greeted: Greeted,
    pid: Option<u32>,
}

/// Refuses the process of a confined node, or one that such a process has started: it runs code of others, and the kernel does not
/// keep it from this socket. It has lost the right to gain privileges, and gpmd has not.
fn may_command(pid: Option<u32>) -> Result<()> {
    let confined = |pid: u32| process::no_new_privileges(pid) == Some(true);
    match pid {
        Some(pid) if confined(pid) && !confined(std::process::id()) => Err(Error::new(
            Code::NotPermitted,
            "this process may not give commands to gpmd: like a confined node, it can gain no privileges \
                 (no_new_privs), and gpmd can",
        )
        .with_help("run the command outside, or start gpmd in the same environment")),
        _ => Ok(()),
    }
}

impl control_door::Server for Greeter {
    async fn greet(
        self: Rc<Self>,
        params: control_door::GreetParams,
        mut results: control_door::GreetResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let mut answer = results.get();
            let passed = self.greeted.pass(&self.state, params.get()?.get_hello()?);
            match passed.and_then(|hello| may_command(self.pid).map(|()| hello)) {
                Ok(hello) => {
                    let mut ok = answer.init_ok();
                    hello::write(&hello, ok.reborrow().init_hello());
                    let (state, asker) = (self.state.clone(), Asker::Own(self.greeted.clone()));
                    ok.set_control(capnp_rpc::new_client(Control { state, asker, _in_use: None }));
                }
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }
}

/// Makes the commands for another device of the network.
pub fn for_device(state: &Rc<State>, device: DeviceId, in_use: Option<Use>) -> control::Client {
    capnp_rpc::new_client(Control { state: state.clone(), asker: Asker::Device(device), _in_use: in_use })
}

struct Control {
    state: Rc<State>,
    asker: Asker,
    /// Keeps the connection to the other device.
    _in_use: Option<Use>,
}

/// Who gives commands.
enum Asker {
    /// A process of this device, over this connection.
    Own(Greeted),
    Device(DeviceId),
}

impl Control {
    /// Checks that the commands still belong to somebody who may give them.
    fn check(&self) -> Result<()> {
        let Asker::Device(device) = &self.asker else { return Ok(()) };
        match self.state.network.are_members(device) {
            true => Ok(()),
            false => Err(Error::new(Code::NotPermitted, "only members of the network may do this")),
        }
    }

    /// Checks that a command comes from this device.
    fn check_own(&self) -> Result<()> {
        match self.asker {
            Asker::Own(_) => Ok(()),
            Asker::Device(_) => {
                Err(Error::new(Code::NotPermitted, "this command can be given only on the device itself")
                    .with_help("run it there, without `--on`"))
            }
        }
    }
}

impl control::Server for Control {
    async fn status(
        self: Rc<Self>,
        _: control::StatusParams,
        mut results: control::StatusResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            self.check().map_err(|refused| capnp::Error::failed(refused.to_string()))?;
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
            self.check().map_err(|refused| capnp::Error::failed(refused.to_string()))?;
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
            let begun = self.check();
            match begun.and_then(|()| begin(&self.state, &name, &version, params.get_size())) {
                Ok(mut upload) => {
                    // A sender on this device that has stopped must not keep its place. If one on another device stops,
                    // its connection to its own gpmd ends, and the upload with it.
                    if let Asker::Own(greeted) = &self.asker
                        && params.has_alive()
                    {
                        let alive = params.get_alive()?;
                        upload.watched = greeted.watch(move || alive.ping_request().send().promise);
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
            let version = self.check().and(version(params.has_version(), params.get_version()?));
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
            let version = self.check().and(version(params.has_version(), params.get_version()?));
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

    async fn invite(
        self: Rc<Self>,
        params: control::InviteParams,
        mut results: control::InviteResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let params = params.get()?;
            let role = if params.get_guest() { Role::Guest } else { Role::Member };
            let name = name(params.has_name(), params.get_name()?);
            let invited = async {
                self.check_own()?;
                let expires = Duration::from_millis(params.get_expires());
                commands::invite(&self.state, expires, role, name?).await
            };
            match invited.await {
                Ok((line, invitation)) => {
                    let mut ok = results.get().init_ok();
                    ok.set_line(line.to_string());
                    ok.set_listens(self.state.network.listens());
                    commands::write_invitation(&invitation, ok.init_invitation());
                }
                Err(refused) => error::write(&refused, results.get().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn invitations(
        self: Rc<Self>,
        _: control::InvitationsParams,
        mut results: control::InvitationsResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            self.check_own().map_err(|refused| capnp::Error::failed(refused.to_string()))?;
            let open = commands::invitations(&self.state);
            let mut list = results.get().init_invitations(open.len() as u32);
            for (place, invitation) in open.iter().enumerate() {
                commands::write_invitation(invitation, list.reborrow().get(place as u32));
            }
            Ok(())
        })
        .await
    }

    async fn revoke(
        self: Rc<Self>,
        params: control::RevokeParams,
        mut results: control::RevokeResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let begin = params.get()?.get_invitation()?.to_string()?;
            let revoked = match self.check_own() {
                Ok(()) => commands::revoke(&self.state, &begin).await,
                Err(refused) => Err(refused),
            };
            done(revoked, results.get());
            Ok(())
        })
        .await
    }

    async fn join(
        self: Rc<Self>,
        params: control::JoinParams,
        mut results: control::JoinResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let line = params.get()?.get_line()?.to_string()?;
            let joined = match self.check_own() {
                Ok(()) => commands::join(&self.state, &line).await,
                Err(refused) => Err(refused),
            };
            match joined {
                Ok(Joined { inviter, own, devices }) => {
                    let mut ok = results.get().init_ok();
                    ok.set_inviter(inviter.as_str());
                    ok.set_name(own.as_str());
                    ok.set_devices(devices as u32);
                }
                Err(refused) => error::write(&refused, results.get().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn devices(
        self: Rc<Self>,
        _: control::DevicesParams,
        mut results: control::DevicesResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            self.check_own().map_err(|refused| capnp::Error::failed(refused.to_string()))?;
            commands::write_network(&self.state, results.get().init_network());
            Ok(())
        })
        .await
    }

    async fn remove_device(
        self: Rc<Self>,
        params: control::RemoveDeviceParams,
        mut results: control::RemoveDeviceResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let device = params.get()?.get_device()?.to_string()?;
            let removed = match self.check_own() {
                Ok(()) => commands::remove(&self.state, &device).await,
                Err(refused) => Err(refused),
            };
            done(removed.map(|name| name.to_string()), results.get());
            Ok(())
        })
        .await
    }

    async fn leave(
        self: Rc<Self>,
        _: control::LeaveParams,
        mut results: control::LeaveResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let left = match self.check_own() {
                Ok(()) => commands::leave(&self.state).await,
                Err(refused) => Err(refused),
            };
            match left {
                Ok(told) => {
                    let mut list = results.get().init_told(told.len() as u32);
                    for (place, name) in told.iter().enumerate() {
                        list.set(place as u32, name.as_str());
                    }
                }
                Err(refused) => error::write(&refused, results.get().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn on(
        self: Rc<Self>,
        params: control::OnParams,
        mut results: control::OnResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let device = params.get()?.get_device()?.to_string()?;
            let control = match self.check_own() {
                Ok(()) => commands::on(&self.state, &device).await,
                Err(refused) => Err(refused),
            };
            match control {
                Ok(control) => results.get().set_control(control),
                Err(refused) => error::write(&refused, results.get().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn index(
        self: Rc<Self>,
        _: control::IndexParams,
        mut results: control::IndexResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let text = self.check().and_then(|()| self.state.store.index().to_json());
            remote::write_index(text, results.get());
            Ok(())
        })
        .await
    }

    async fn module(
        self: Rc<Self>,
        params: control::ModuleParams,
        mut results: control::ModuleResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let sha256 = params.get()?.get_sha256()?.to_vec();
            match self.check() {
                Ok(()) => remote::write_module(&self.state.home, &sha256, results.get()).await,
                Err(refused) => error::write(&refused, results.get().init_error()),
            }
            Ok(())
        })
        .await
    }
}

/// Answers with a name or an error.
fn done(result: Result<String>, mut to: done::Builder<'_>) {
    match result {
        Ok(name) => to.set_name(&name),
        Err(refused) => error::write(&refused, to.init_error()),
    }
}

fn name(given: bool, text: capnp::text::Reader<'_>) -> Result<Option<Name>> {
    match given {
        true => String::from_utf8_lossy(text.as_bytes()).parse().map(Some),
        false => Ok(None),
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
