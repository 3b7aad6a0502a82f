//! The network of nodes, as a node offers it to its guests.
//!
//! In: a guest's requests, with calls as text. Out: the same requests to the node's handle, nested in the
//! guest's own call. Must not know: wasm, sockets.

use std::sync::Weak;

use super::handle::{Handle, Inner};
use crate::base::device::NodeName;
use crate::base::error::{Code, Error, Result};
use crate::base::limits::Limits;
use crate::base::node::NodeInfo;
use crate::base::wave;
use crate::call::parse::{self, Expr};
use crate::call::stdio::Stdio;
use crate::call::{Args, Call};
use crate::imports::nodes::{Asked, Network, Within};

/// A weak handle of a node: guests do not keep their node alive.
pub struct OfNode(pub Weak<Inner>);

impl OfNode {
    fn node(&self) -> Result<Handle> {
        let inner = self.0.upgrade();
        inner.map(Handle).ok_or_else(|| Error::new(Code::NodeDown, "this node has been shut down"))
    }
}

fn names(nodes: Vec<NodeInfo>) -> Vec<NodeName> {
    nodes.into_iter().map(|node| node.name).collect()
}

impl Network for OfNode {
    fn name(&self) -> Result<NodeName> {
        Ok(self.node()?.name().clone())
    }

    fn discover(&self) -> Asked<'_, Vec<NodeName>> {
        Box::pin(async { self.node()?.discover().await.map(names) })
    }

    fn connect(&self, name: NodeName) -> Asked<'_, ()> {
        Box::pin(async { self.node()?.connect(name).await.map(drop) })
    }

    fn list(&self) -> Asked<'_, Vec<NodeName>> {
        Box::pin(async { self.node()?.list().await.map(names) })
    }

    fn run(&self, name: NodeName, call: String, within: Within) -> Asked<'_, Option<String>> {
        Box::pin(async move {
            let node = self.node()?;
            let Expr { target, args, .. } = parse::target(&call)?;
            let args = match args {
                None => Args::Argv(vec![target.module.to_string()]),
                Some(args) => Args::Text(parse::plain(args).ok_or_else(|| {
                    Error::new(
                        Code::BadArguments,
                        "a module makes one call at a time, but an argument is another call",
                    )
                    .with_help("make the inner call first and pass its result")
                })?),
            };
            let limits = Limits { timeout: within.left(), ..Limits::default() };
            let stdio = Stdio { output: within.output.clone(), ..Stdio::new(&limits) };
            let call = Call { limits, above: within.above, ..Call::new(target, args) };
            let outcome = node.run(Some(name), call, stdio).await;
            let ty = outcome.ty;
            Ok(outcome.result?.zip(ty).map(|(value, ty)| wave::print(&value, &ty)))
        })
    }

    fn disconnect(&self, name: NodeName) -> Asked<'_, ()> {
        Box::pin(async { self.node()?.disconnect(name).await })
    }
}
