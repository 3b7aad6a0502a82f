//! Devices behind NATs: two devices of a network, each behind a router of some kind, and a relay in the internet.
//!
//! In: the programs of this repository, a table of routers. Out: for each pair of routers how the devices reach each other, and how
//! long that takes; exit status 1 if a device cannot reach the other one, if it takes a way that it should not need, or if a call
//! has no outcome. Must not know: how relays and tunnels work. Real processes, in network namespaces that `patchbay` makes without
//! root.

mod device;
mod pair;
mod switch;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use patchbay::RouterPreset::{
    self, Cloud, Corporate, Home, Hotel, IspCgnat, IspCgnatSymmetric, Public, PublicV4,
};

use pair::{Pair, Way};

/// The routers of the inviting and of the joining device, and the way that is expected in the end.
const MATRIX: [(RouterPreset, RouterPreset, Way); 12] = [
    (Public, Public, Way::Tcp),
    (Public, Home, Way::Tcp),
    (PublicV4, Corporate, Way::Relayed),
    (PublicV4, IspCgnatSymmetric, Way::Tcp),
    (Home, Home, Way::Direct),
    (Home, IspCgnat, Way::Direct),
    (IspCgnat, IspCgnat, Way::Direct),
    (Home, IspCgnatSymmetric, Way::Any),
    (Home, Cloud, Way::Any),
    (Home, Hotel, Way::Relayed),
    (Home, Corporate, Way::Relayed),
    (Corporate, Corporate, Way::Relayed),
];

fn main() -> Result<()> {
    // Before there is any thread.
    patchbay::init_userns()?;
    let programs = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "target/debug".into()));
    let programs = programs.canonicalize()?;
    ensure!(programs.join("gpmd").exists(), "{} has no gpmd", programs.display());
    let only = std::env::args().nth(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    runtime.block_on(run(programs, only))
}

async fn run(programs: PathBuf, only: Option<String>) -> Result<()> {
    let mut failed = Vec::new();
    println!(
        "{:42} {:>8}  {:>8}  {:>8}  {:>10}  {:>9}  way",
        "inviting – joining device", "join", "result", "direct", "call", "16 MiB"
    );
    for (left, right, expected) in MATRIX {
        let name = format!("{left:?} – {right:?}");
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        match (Pair { programs: programs.clone(), left, right }).measure(expected).await {
            Ok(row) => println!("{name:42} {row}"),
            Err(error) => {
                println!("{name:42} FAILED: {error:#}");
                failed.push(name);
            }
        }
    }
    if only.as_deref().is_none_or(|only| only == "switch") {
        match switch::measure(&programs).await {
            Ok(row) => println!("{row}"),
            Err(error) => {
                println!("from Wi-Fi to mobile: FAILED: {error:#}");
                failed.push("from Wi-Fi to mobile".into());
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
