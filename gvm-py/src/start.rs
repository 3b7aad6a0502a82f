//! The settings of a node.
//!
//! In: settings that Python checked. Out: the configuration of a node. Must not know: the requests to the
//! node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gvm_host::daemon::server::NODE_PORT;
use gvm_host::net::{Address, host_and_port};
use gvm_host::{Authorities, Code, Config, Dir, Error, Grants, Home, LISTEN, Limits, Name, Result};
use pyo3::prelude::*;

use crate::gpmd::engine;

/// The settings of a node, from a Python dict.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Start {
    name: Option<String>,
    home: PathBuf,
    gpmd: Option<String>,
    listen: Option<String>,
    accept: String,
    python: PathBuf,
    /// For each folder: its path, its name for guests, and whether it is read-only.
    dirs: Vec<(PathBuf, String, bool)>,
    env: Vec<(String, String)>,
    allow_net: Vec<String>,
    /// Whether guests may use the network of nodes.
    nodes: bool,
    allow_calls: Vec<String>,
    /// `any` or `own`.
    modules: String,
    /// In seconds.
    session_time: Option<f64>,
}

impl Start {
    /// Returns the configuration. These limits also bound the calls of peers, except the timeout, which each
    /// call has.
    ///
    /// # Errors
    /// `HOME_INSECURE`; `SYNTAX` or `BAD_ARGUMENTS` for a setting that cannot be read.
    pub fn config(self, limits: Limits) -> Result<Config> {
        let home = Home::open(&self.home)?;
        let mut grants = Grants { env: self.env, nodes: self.nodes, ..Grants::default() };
        grants.dirs =
            self.dirs.into_iter().map(|(host, guest, read_only)| Dir { host, guest, read_only }).collect();
        self.allow_net.iter().try_for_each(|text| grants.net.allow(text))?;
        if !grants.net.is_empty() {
            grants.authorities = Authorities::of_system();
        }
        let listen: SocketAddr = self.listen.map_or(Ok(LISTEN), |text| host_and_port(&text, 0))?;
        let name: Option<Name> = self.name.map(|name| name.parse()).transpose()?;
        let rules: Result<Vec<_>> = self.allow_calls.iter().map(|text| text.parse()).collect();
        let engine = engine(&home, self.python);
        let mut config = Config::new(home, engine)
            .listen(listen)
            .accept(self.accept.parse()?)
            .allow_calls(rules?)
            .grants(grants)
            .limits(Limits { timeout: None, ..limits });
        if self.modules == "own" {
            config = config.own_modules();
        }
        config.name = name;
        config.gpmd = self.gpmd.map(|text| Address::typed(&text, NODE_PORT)).transpose()?;
        config.session_time = self.session_time.map(session_time).transpose()?;
        Ok(config)
    }
}

fn session_time(seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        Error::new(Code::BadArguments, format!("session_time: {seconds} seconds is out of range"))
    })
}
