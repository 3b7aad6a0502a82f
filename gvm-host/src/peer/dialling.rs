//! Dials a node at one of its addresses.
//!
//! In: the addresses of a node. Out: a connection to the first address that answers. Must not know: what the connection
//! is for.

use crate::base::device::NodeName;
use crate::base::error::{Code, Error, Result};
use crate::base::node::NodeInfo;
use crate::wire::race::{Failed, race};
use crate::wire::tls::Tls;
use crate::wire::transport::{Address, Transport, dial_help, dial_words};

/// Returns the node with this address in front, so that further connections do not try the others again.
pub fn best_first(node: &NodeInfo, address: &Address) -> NodeInfo {
    let mut node = node.clone();
    let best = address.to_string();
    node.addresses.sort_by_key(|address| *address != best);
    node.address = best;
    node
}

/// Returns the help for a node that does not answer.
pub fn find_out_why(node: &NodeName) -> String {
    format!("run `gvm doctor {node}` to find out why")
}

/// Dials the addresses of a node, the best one first. Returns the one that worked too.
///
/// # Errors
/// `NODE_DOWN` if no address answers, `AUTH_FAILED` if a process answers that does not belong to this home.
pub async fn reach(node: &NodeInfo, tls: &Tls) -> Result<(Transport, Address)> {
    let addresses: Vec<Address> = node.addresses.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    let mut failed = Vec::new();
    if let Some(reached) = race(&addresses, tls, &mut failed).await {
        return Ok(reached);
    }
    failed.sort_by_key(|failed| addresses.iter().position(|address| *address == failed.address));
    let is_refused = failed.iter().any(|failed| failed.error.kind() == std::io::ErrorKind::PermissionDenied);
    let code = if is_refused { Code::AuthFailed } else { Code::NodeDown };
    let help = failed.iter().find_map(|failed| dial_help(&failed.error).map(str::to_owned));
    let tried: Vec<String> = failed
        .iter()
        .map(|Failed { address, error }| match address {
            Address::Tunnel { .. } => format!("the end of a tunnel ({})", dial_words(error)),
            _ => format!("{address} ({})", dial_words(error)),
        })
        .collect();
    let sentence = format!("node `{}` does not answer at {}", node.name, tried.join(", nor at "));
    Err(Error::new(code, sentence).with_help(help.unwrap_or_else(|| find_out_why(&node.name))))
}
