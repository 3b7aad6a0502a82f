//! Both sides of an invitation: a device that joins, and the one that invited it.
//!
//! In: the line of an invitation, an application. Out: a device more in the network. Must not know: how the line came to the
//! other device. Nothing is revealed to a device that does not know the secret of an open invitation.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::device::{encode_statements, read_statements};
use super::invitations::invalid;
use super::meeting::Met;
use super::{dial, links, membership};
use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;
use crate::daemon::server::{State, ended, now_ms};
use crate::trust::invitation::{Bound, InvitationId, Line, Side as Part};
use crate::trust::key::PublicKey;
use crate::wire;
use crate::wire::rpc::{Connection, MessageLimits, Side};
use crate::wire::schema::device_capnp::{admitted, application, device_door};
use crate::wire::schema::hello_capnp::PROTOCOL;
use crate::wire::tls::Tls;
use crate::wire::transport::{Address, Transport};

/// How long to look for the inviting device, perhaps at a relay.
const FIND: Duration = Duration::from_secs(15);

/// How long to try again, and the pauses between.
const AGAIN: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);

/// How long the inviting device may take to answer: it writes to its disk.
const ANSWER: Duration = Duration::from_secs(20);

/// How long to wait for the connection with the inviting device, so that its nodes are known when the command ends.
const MEET: Duration = Duration::from_secs(3);

/// What a device that was admitted gets.
pub struct Admitted {
    pub proof: [u8; 32],
    pub founder: PublicKey,
    pub statements: Vec<Vec<u8>>,
}

/// The answer to an application.
pub enum Answer {
    Admitted(Admitted),
    /// The key was removed from the network before, and can never belong to it again.
    KeyRemoved,
}

/// Decides about the application of the device with this key. `binding` is a secret of the TLS connection with it.
///
/// # Errors
/// `INVITATION_INVALID`, `VERSION_MISMATCH`, `STORAGE_FULL`, `INTERNAL`.
pub async fn answer(
    state: &Rc<State>,
    joiner: PublicKey,
    binding: &[u8],
    from: application::Reader<'_>,
) -> Result<Answer> {
    let network = &state.network;
    let failed = |_: capnp::Error| invalid();
    links::check_protocol(from.get_protocol(), "unknown")?;
    let id = InvitationId::read(from.get_invitation().map_err(failed)?).ok_or_else(invalid)?;
    let proof = from.get_proof().map_err(failed)?;
    let wished: Option<Name> =
        from.get_name().ok().and_then(|name| name.to_str().ok()).and_then(|name| name.parse().ok());
    let inviter = network.key().public();
    let bound = Bound { binding, inviter: &inviter, joiner: &joiner };
    if binding.is_empty() || !network.is_member() {
        return Err(invalid());
    }
    let was_removed = network.roster.borrow().was_removed(&joiner);
    if was_removed && network.invitations.borrow().is_open_to(id, bound, proof, now_ms()) {
        return Ok(Answer::KeyRemoved);
    }
    let accepted = network.invitations.borrow_mut().accept(id, bound, proof, now_ms())?;
    // The invitation is used, durably, before the device is admitted.
    store_invitations(state).await?;
    network.invited.notify_one();
    let is_in = network.roster.borrow().device(&joiner).is_some();
    if !is_in {
        let name = accepted.name.or(wished).ok_or_else(invalid)?;
        let named = membership::admit(state, joiner, name, accepted.role).await;
        let named = named.map_err(|error| match error.code() {
            // It used the invitation before, and was removed since.
            Code::BadArguments if accepted.again => invalid(),
            _ => error,
        })?;
        tracing::info!(device = %joiner.id(), name = %named, role = %accepted.role, "a device joined the network");
    }
    let (founder, statements) = network.statements();
    let statements = encode_statements(&statements)?;
    Ok(Answer::Admitted(Admitted { proof: accepted.proof, founder, statements }))
}

/// Stores the open invitations. They are durable when this returns.
///
/// # Errors
/// `STORAGE_FULL`, `INTERNAL`.
pub async fn store_invitations(state: &State) -> Result<()> {
    let network = &state.network;
    let _turn = network.changing.lock().await;
    let (home, invitations) = (network.home.clone(), network.invitations.borrow().clone());
    spawn_blocking(move || invitations.write(&home)).await.map_err(ended)?
}

/// What a device knows after it has joined.
pub struct Joined {
    pub inviter: Name,
    pub own: Name,
    pub devices: usize,
}

/// Dials the inviting device. Tries again for a moment: it may be about to listen on other addresses, or to start.
async fn find(addresses: &[Address], tls: &Tls) -> Result<(Transport, Address)> {
    let until = Instant::now() + AGAIN;
    loop {
        match dial::reach(addresses, tls, FIND).await {
            Err(_) if Instant::now() < until => sleep(PAUSE).await,
            found => return found,
        }
    }
}

/// Joins the network of the device that made the line.
///
/// # Errors
/// `INVITATION_INVALID`, `NETWORK_JOINED`, `DEVICE_DOWN` if the inviting device cannot be reached, `AUTH_FAILED`,
/// `STORAGE_FULL`, `INTERNAL`.
pub async fn join(state: &Rc<State>, line: &Line) -> Result<Joined> {
    let network = &state.network;
    if line.inviter == network.key().public() {
        let sentence = "this device made the invitation";
        return Err(Error::new(Code::BadArguments, sentence).with_help("run `gpmd join` on the other device"));
    }
    if network.was_removed() {
        // The key that was removed can never belong to that network again.
        membership::renew(state).await?;
    }
    if let Some(joined) = apply(state, line).await? {
        return Ok(joined);
    }
    // An earlier answer was lost, so this device did not know that it belonged to the network and was removed.
    membership::renew(state).await?;
    let removed = || Error::new(Code::AuthFailed, "the inviting device says that a new key was removed");
    apply(state, line).await?.ok_or_else(removed)
}

/// Applies with the key of this device. Returns `None` if the key was removed from that network.
async fn apply(state: &Rc<State>, line: &Line) -> Result<Option<Joined>> {
    let network = &state.network;
    membership::check_alone(&network.roster.borrow(), &network.key())?;
    let tls = network.tls_to(line.inviter)?;
    if let Some(relay) = &line.relay {
        // Used from now on, as the other devices of the network do.
        network.adopt_relay(relay)?;
    }
    let mut ways: Vec<Address> = line.addresses.iter().copied().map(Address::Tcp).collect();
    if let Some(tunnels) = network.tunnels() {
        tunnels.meets(Met { key: line.inviter, relay: line.relay.clone(), direct: Vec::new() });
        ways.push(tunnels.address(line.inviter.id()));
    }
    let (transport, at) = find(&ways, &tls).await.map_err(|error| {
        let sentence = format!("cannot reach the inviting device: {}", error.message());
        Error::new(Code::DeviceDown, sentence)
            .with_help(
                "check that both devices are in the same network and that no firewall blocks the port, then run \
                 the command again",
            )
            .with_source(error)
    })?;
    let own = network.key().public();
    let binding = transport.binding()?;
    let bound = Bound { binding: &binding, inviter: &line.inviter, joiner: &own };
    let proofs = line.proof_key();
    let connection = Connection::start(transport, Side::Dialled, MessageLimits::CONTROL, None);
    let mut request = connection.first::<device_door::Client>().join_request();
    let mut application = request.get().init_application();
    application.set_protocol(PROTOCOL);
    application.set_invitation(line.id().bytes());
    application.set_proof(&proofs.prove(Part::Joiner, bound));
    application.set_name(network.name.as_str());
    let answer = timeout(ANSWER, request.send().promise).await;
    let answer = answer.map_err(|_| Error::new(Code::DeviceDown, "the inviting device does not answer"))?;
    let failed = |error| wire::error::from_capnp(error, "the inviting device", Code::DeviceDown);
    let answer = answer.map_err(|error| match error.kind {
        // Without an open invitation its TLS accepts no stranger, which shows after this side's handshake.
        capnp::ErrorKind::Disconnected | capnp::ErrorKind::Failed => invalid(),
        _ => failed(error),
    })?;
    let (proof, founder, statements) =
        match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
            admitted::Ok(ok) => (
                ok.get_proof().map_err(failed)?.to_vec(),
                PublicKey::read(ok.get_network().map_err(failed)?),
                read_statements(ok.get_statements().map_err(failed)?).map_err(failed)?,
            ),
            admitted::Removed(()) => return Ok(None),
            admitted::Error(error) => return Err(wire::error::read(error.map_err(failed)?)),
        };
    let founder = founder.filter(|_| proofs.is_proven(Part::Inviter, bound, &proof));
    let founder = founder.ok_or_else(|| {
        Error::new(Code::AuthFailed, "the other device does not know the secret of the invitation")
    })?;
    connection.finish().await;
    let inviter = line.inviter.id();
    let worked = || {
        if let Address::Tcp(at) = at {
            network.worked(inviter, at);
        }
    };
    worked();
    membership::adopt(state, founder, statements).await?;
    network.told_addresses(inviter, &line.addresses);
    network.meets(inviter, line.relay.as_ref());
    worked();
    if let Some(inviter) = network.other(&inviter) {
        let _ = match network.is_direct(&inviter.id) {
            true => timeout(MEET, inviter.linked()).await.is_ok(),
            false => timeout(MEET, links::need(state, &inviter)).await.is_ok(),
        };
    }
    let known = network.devices.now();
    let inviter = known.get(&inviter).map(|device| device.name.clone());
    let inviter =
        inviter.ok_or_else(|| Error::new(Code::AuthFailed, "the inviting device is not in its network"))?;
    Ok(Some(Joined { inviter, own: network.own_name(), devices: known.all().len() }))
}
