//! `gpmd relay`: a relay for devices that cannot reach each other directly.
//!
//! In: where to listen, the device key of the home. Out: a running relay and the line that devices need. Must not know: networks,
//! how a relay works.

#[cfg(feature = "relay")]
use std::net::IpAddr;

use gvm_host::{Home, Result};

use crate::args::Args;

/// The port if none is chosen.
#[cfg(feature = "relay")]
const PORT: u16 = 5990;

/// Runs a relay until the process is interrupted or told to end.
#[cfg(feature = "relay")]
pub fn run(args: &Args, home: &Home, host: Option<&str>) -> Result<()> {
    use std::net::{Ipv6Addr, SocketAddr};

    use gvm_host::relay::{Own, Relay};
    use gvm_host::{Code, DeviceKey, Error};
    use gvm_tunnel::relay;
    use tokio::signal::unix::{SignalKind, signal};

    use crate::args::as_usage;
    use crate::output;

    let key = DeviceKey::open(home)?;
    let token = key.relay_token()?;
    let certificate = key.certificate()?;
    let pin = gvm_tunnel::pin_of(&certificate);
    let shown = Own { host: String::new(), port: 0, pin, token };
    let identity = relay::Identity { certificate, key: key.secret().to_der(), token: shown.token() };
    let ip = args.listen.first().copied().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let at = SocketAddr::new(ip, args.port.unwrap_or(PORT));
    let fail = |error| Error::io("cannot start a runtime", error);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(fail)?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt()).map_err(fail)?;
        let mut terminated = signal(SignalKind::terminate()).map_err(fail)?;
        let running = relay::Relay::start(at, &identity).await.map_err(|error| {
            let sentence = format!("cannot run a relay on port {} of {}", at.port(), at.ip());
            match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    Error::new(Code::PortInUse, format!("{sentence}: another process uses the port"))
                        .with_help("choose another port with `--port`, or end that process")
                }
                _ => Error::io(sentence, error),
            }
        });
        let mut running = running?;
        let at = running.address();
        let host = match (host, own_address(at.ip())) {
            (Some(host), _) => host.to_owned(),
            (None, IpAddr::V6(ip)) => format!("[{ip}]"),
            (None, ip) => ip.to_string(),
        };
        let line = Relay::Own(Own { host, port: at.port(), ..shown }).to_string();
        // What a person typed must be readable at the other end.
        line.parse::<Relay>().map_err(as_usage)?;
        output::print(&match args.json {
            true => output::json(&serde_json::json!({ "line": line, "port": at.port() }))?,
            false => format!(
                "This machine is a relay on port {} (TCP and UDP).\n\
                 On the device that invites others, run:\n  gpmd start --relay {line}\n\
                 Devices that join take the relay over. Whoever has the line can use the relay, but cannot read what it \
                 passes on.\n",
                at.port()
            ),
        });
        tokio::select! {
            why = running.ended() => return Err(Error::internal(format!("the relay has ended: {why}"))),
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        running.stop().await;
        Ok(())
    })
}

/// Returns the address at which devices are most likely to reach this machine: one of the internet, if it has one.
#[cfg(feature = "relay")]
fn own_address(bound: IpAddr) -> IpAddr {
    if !bound.is_unspecified() {
        return bound;
    }
    let all = gvm_host::net::interfaces();
    let is_public = |ip: &&IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_private() && !ip.is_link_local() && !ip.is_loopback(),
        IpAddr::V6(_) => false,
    };
    all.iter().find(is_public).or(all.first()).copied().unwrap_or(bound)
}

/// Explains that this program cannot run a relay.
///
/// # Errors
/// `BAD_ARGUMENTS` always.
#[cfg(not(feature = "relay"))]
pub fn run(_: &Args, _: &Home, _: Option<&str>) -> Result<()> {
    use gvm_host::{Code, Error};

    Err(Error::new(Code::BadArguments, "this gpmd was built without the feature `relay`")
        .with_help("build it with `cargo build --release --bin gpmd --features relay`"))
}
