//! The addresses that guests may use, and the names that they may look up.
//!
//! In: the values of `--allow-net`. Out: the check for every socket of a guest, and the lookup of names
//! (`wasi:sockets/ip-name-lookup`), which knows granted names only. It asks the system's resolver when a grant is
//! read, and never for a guest. Must not know: the caller, and the data that is sent.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress};
use wasmtime_wasi::p2::{DynPollable, Network, Pollable, subscribe};
use wasmtime_wasi::sockets::SocketAddrUse;

use crate::base::error::{Code, Error, Result};
use crate::imports::WASI;
use crate::imports::http::Denied;
use crate::imports::state::State;

/// The interface that looks up names. The functions defined here replace those of wasmtime, which ask the system for
/// any name.
const LOOKUP: &str = "wasi:sockets/ip-name-lookup";

/// What guests may reach. The default is nothing. Cheap to clone; clones share the data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Net(Arc<Reachable>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reachable {
    addresses: Vec<SocketAddr>,
    /// Names in lower case, with their addresses at the time of the grant.
    names: Vec<(String, Vec<IpAddr>)>,
}

impl Net {
    /// Allows an address and port, or all current addresses of a name. Guests may then look up that name, and get
    /// those addresses.
    ///
    /// # Errors
    /// `SYNTAX` if it is not a `HOST:PORT` with a port from 1 to 65535, or the name has no address.
    pub fn allow(&mut self, host_port: &str) -> Result<()> {
        let wrong = |why: &str| {
            Error::new(Code::Syntax, format!("{host_port:?} is not a valid HOST:PORT: {why}"))
                .with_help("write it as in `192.0.2.7:443`, `[2001:db8::7]:443` or `example.org:443`")
                .with_exit(2)
        };
        let (host, port) = host_port.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let port = match port.parse::<u16>() {
            // `u16` accepts a sign.
            Ok(port) if port > 0 && !host_port.ends_with(&format!("+{port}")) => port,
            _ => return Err(wrong("the port must be a number from 1 to 65535")),
        };
        let reachable = Arc::make_mut(&mut self.0);
        let literal = match host.strip_prefix('[') {
            Some(inner) => match host_port.parse::<SocketAddr>() {
                Ok(address) if inner.ends_with(']') => Some(address),
                _ => return Err(wrong("the brackets do not contain an IPv6 address")),
            },
            None if host.contains(':') => return Err(wrong("an IPv6 address must be in brackets")),
            None => host_port.parse().ok(),
        };
        if let Some(address) = literal {
            if address.ip().is_unspecified() {
                return Err(wrong("the address must be that of one host"));
            }
            reachable.addresses.push(canonical(address));
            return Ok(());
        }
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        let found = (host, port).to_socket_addrs().map_err(|error| {
            Error::new(Code::Syntax, format!("cannot look up the name in {host_port:?}: {error}"))
                .with_help("correct the name, or use an address")
                .with_exit(2)
                .with_source(error)
        })?;
        let mut found: Vec<_> = found.map(canonical).collect();
        found.dedup();
        reachable.names.push((plain(host), found.iter().map(SocketAddr::ip).collect()));
        reachable.addresses.extend(found);
        Ok(())
    }

    /// Whether guests may reach nothing.
    pub fn is_empty(&self) -> bool {
        self.0.addresses.is_empty()
    }

    /// Returns the ports that guests may reach, of any host.
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.0.addresses.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Whether a socket may use this address for this purpose.
    pub(super) fn permits(&self, address: SocketAddr, reason: SocketAddrUse) -> bool {
        match reason {
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => {
                self.0.addresses.contains(&canonical(address))
            }
            // A client binds to any free port before it connects or sends.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => address.port() == 0,
            // No one may connect to a guest.
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => false,
        }
    }

    /// Returns the addresses to which a guest may connect for this host and port.
    ///
    /// # Errors
    /// What is not granted: the name, or the address in text form.
    pub(super) fn destinations(&self, host: &str, port: u16) -> std::result::Result<Vec<SocketAddr>, Denied> {
        let (found, denied) = match host.parse::<IpAddr>() {
            Ok(address) => (vec![address], Denied::Address),
            Err(_) => (self.look_up(host).unwrap_or_default(), Denied::Name),
        };
        let mut found: Vec<_> = found.into_iter().map(|ip| canonical(SocketAddr::new(ip, port))).collect();
        found.retain(|address| self.permits(*address, SocketAddrUse::TcpConnect));
        if found.is_empty() { Err(denied) } else { Ok(found) }
    }

    /// Returns the addresses of a name, or of an address in text form; `None` if it was not granted.
    fn look_up(&self, name: &str) -> Option<Vec<IpAddr>> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return (!self.is_empty()).then(|| vec![address]);
        }
        let name = plain(name);
        let mut found: Vec<_> =
            self.0.names.iter().filter(|(known, _)| *known == name).flat_map(|(_, found)| found).collect();
        // A name can be granted with several ports.
        let mut seen = Vec::new();
        found.retain(|address| {
            !seen.contains(address) && {
                seen.push(*address);
                true
            }
        });
        (!found.is_empty()).then(|| found.into_iter().copied().collect())
    }
}

/// Converts an IPv4 address that is written as an IPv6 address to IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Normalizes a name for comparison: lower case, without the dot of the root.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The result of a lookup, which a guest reads one address at a time: `resolve-address-stream`.
struct Addresses(std::vec::IntoIter<IpAddr>);

#[wasmtime_wasi::async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {}
}

/// Defines the lookup of granted names.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut lookup = linker.instance(&format!("{LOOKUP}@{WASI}"))?;
    lookup.resource("resolve-address-stream", ResourceType::host::<Addresses>(), |mut store, rep| {
        store.data_mut().ctx().table.delete(Resource::<Addresses>::new_own(rep))?;
        Ok(())
    })?;
    lookup.func_wrap("resolve-addresses", resolve)?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: StoreContextMut<'_, State>, (found,): (Resource<Addresses>,)| {
            let next = store.data_mut().ctx().table.get_mut(&found)?.0.next();
            Ok((Ok::<Option<IpAddress>, ErrorCode>(next.map(IpAddress::from)),))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: StoreContextMut<'_, State>, (found,): (Resource<Addresses>,)| {
            Ok((subscribe(store.data_mut().ctx().table, found)?,))
                as wasmtime::Result<(Resource<DynPollable>,)>
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

type Resolved = (Result<Resource<Addresses>, ErrorCode>,);

fn resolve(
    mut store: StoreContextMut<'_, State>,
    (network, name): (Resource<Network>, String),
) -> wasmtime::Result<Resolved> {
    let state = store.data_mut();
    let found = state.net().look_up(&name);
    let table = state.ctx().table;
    // A guest that has a `network` may look up names; the resource has no other content.
    table.get(&network)?;
    Ok((match found {
        Some(found) => Ok(table.push(Addresses(found.into_iter()))?),
        None => Err(ErrorCode::PermanentResolverFailure),
    },))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(words: &[&str]) -> Net {
        let mut net = Net::default();
        words.iter().for_each(|word| net.allow(word).unwrap());
        net
    }

    #[test]
    fn addresses_are_taken_by_the_letter() {
        let net = net(&["127.0.0.1:80", "[::1]:443", "[::ffff:192.0.2.1]:7"]);
        let may = |address: &str, reason| net.permits(address.parse().unwrap(), reason);
        for reason in [SocketAddrUse::TcpConnect, SocketAddrUse::UdpSend, SocketAddrUse::UdpReceive] {
            for yes in ["127.0.0.1:80", "[::1]:443", "192.0.2.1:7"] {
                assert!(may(yes, reason), "{yes} {reason:?}");
            }
            for no in ["127.0.0.1:81", "127.0.0.2:80", "[::1]:80", "[::2]:443", "127.0.0.1:443"] {
                assert!(!may(no, reason), "{no} {reason:?}");
            }
        }
        for reason in [SocketAddrUse::TcpListen, SocketAddrUse::TcpAccept] {
            assert!(!may("127.0.0.1:80", reason) && !may("127.0.0.1:0", reason));
        }
        for reason in [SocketAddrUse::TcpBind, SocketAddrUse::UdpBind] {
            assert!(may("0.0.0.0:0", reason) && !may("127.0.0.1:80", reason));
        }
    }

    #[test]
    fn names_are_those_that_were_granted() {
        let net = net(&["localhost:80", "localhost:81"]);
        let found = net.look_up("LocalHost.").unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
        assert_eq!(net.look_up("localhost").unwrap(), found);
        assert_eq!(net.look_up("example.org"), None);
        assert_eq!(net.look_up("localhost.example.org"), None);
        assert_eq!(net.look_up("192.0.2.1"), Some(vec!["192.0.2.1".parse().unwrap()]));
        assert_eq!(Net::default().look_up("192.0.2.1"), None);
        assert!(net.permits("127.0.0.1:81".parse().unwrap(), SocketAddrUse::TcpConnect));
        assert!(!net.permits("127.0.0.1:82".parse().unwrap(), SocketAddrUse::TcpConnect));
    }

    #[test]
    fn requests_go_where_sockets_may() {
        let net = net(&["localhost:80", "192.0.2.1:443"]);
        let found = net.destinations("LOCALHOST", 80).unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
        assert_eq!(net.destinations("192.0.2.1", 443), Ok(vec!["192.0.2.1:443".parse().unwrap()]));
        assert_eq!(net.destinations("::ffff:192.0.2.1", 443), net.destinations("192.0.2.1", 443));
        assert_eq!(net.destinations("localhost", 81), Err(Denied::Name));
        assert_eq!(net.destinations("example.org", 80), Err(Denied::Name));
        assert_eq!(net.destinations("192.0.2.1", 80), Err(Denied::Address));
        assert_eq!(Net::default().destinations("localhost", 80), Err(Denied::Name));
    }

    #[test]
    fn what_is_no_host_and_port_is_refused() {
        for wrong in [
            "",
            "localhost",
            ":80",
            "localhost:",
            "localhost:0",
            "127.0.0.1:0",
            "[::1]:0",
            "localhost:80-90",
            "localhost:65536",
            "localhost:-1",
            "localhost:+80",
            "localhost:http",
            "::1:80",
            "[::1]",
            "[::1]80",
            "[localhost]:80",
            "[127.0.0.1]:80",
            "[::1:80",
            "0.0.0.0:80",
            "[::]:80",
            "no such host:80",
        ] {
            let error = Net::default().allow(wrong).unwrap_err();
            assert_eq!((error.code(), error.exit()), (Code::Syntax, Some(2)), "{wrong}");
        }
    }
}
