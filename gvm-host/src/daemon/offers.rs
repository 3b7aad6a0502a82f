//! What the sockets and the port of this device's own processes offer.
//!
//! In: an accepted connection whose other end belongs to this home. Out: its first capability. Must not know: other devices
//! (`network/door.rs`), what the capabilities do.

use std::rc::Rc;

use super::connections::Greeted;
use super::server::State;
use super::{control_handler, registry_handler};
use crate::wire::rpc::{MessageLimits, Offered};
use crate::wire::transport::OtherEnd;

/// For the socket of nodes.
pub fn nodes(state: &Rc<State>, greeted: Greeted, _: &OtherEnd, _: Vec<u8>) -> (Offered, MessageLimits) {
    (registry_handler::offer(state, greeted), MessageLimits::CONTROL)
}

/// For the socket and the port of commands.
pub fn commands(
    state: &Rc<State>,
    greeted: Greeted,
    peer: &OtherEnd,
    _: Vec<u8>,
) -> (Offered, MessageLimits) {
    (control_handler::offer(state, greeted, peer.pid()), MessageLimits::CONTROL)
}
