//! Dials a node at one of its addresses.
//!
//! In: the addresses of a node. Out: a connection to the first address that answers. Must not know: what the connection
//! is for.

use crate::base::device::NodeName;
use crate::base::error::{Code, Error, Result};
use crate::base::node::NodeInfo;
use crate::wire::tls::Tls;
use crate::wire::transport::{Transport, dial, dial_help, dial_words};

/// Returns the help for a node that does not answer.
pub fn find_out_why(node: &NodeName) -> String {
    format!("run `gvm doctor {node}` to find out why")
}

/// Dials the addresses of a node one after the other.
///
/// # Errors
/// `NODE_DOWN` if no address answers, `AUTH_FAILED` if a process answers that does not belong to this home.
pub async fn reach(node: &NodeInfo, tls: &Tls) -> Result<Transport> {
    let (mut tried, mut code, mut help) = (Vec::new(), Code::NodeDown, find_out_why(&node.name));
    for address in &node.addresses {
        match dial(&address.parse()?, Some(tls)).await {
            Ok(transport) => return Ok(transport),
            Err(error) => {
                if error.kind() == std::io::ErrorKind::PermissionDenied {
                    code = Code::AuthFailed;
                }
                if let Some(known) = dial_help(&error) {
                    help = known.to_owned();
                }
                tried.push(format!("{address} ({})", dial_words(&error)));
            }
        }
    }
    let sentence = format!("node `{}` does not answer at {}", node.name, tried.join(", nor at "));
    Err(Error::new(code, sentence).with_help(help))
}
