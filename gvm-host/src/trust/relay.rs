//! Relays: servers at which devices meet that cannot reach each other directly.
//!
//! In: what a person types, what `gpmd relay` prints. Out: where the relay is, and how it and the device prove themselves to
//! each other. Must not know: connections. A relay passes on encrypted packets, so it need not be trusted.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;

use crate::base::error::{Code, Error, Result};

/// What the line of a relay begins with that `gpmd relay` prints.
pub const PREFIX: &str = "gvm-relay:";

/// The longest text that is read.
pub const LONGEST: usize = 400;

/// A relay.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Relay {
    /// The public relays of the company that develops iroh: `n0`.
    Public,
    /// A server with a certificate that browsers accept: `https://HOST`.
    Url(String),
    /// A server that was started by `gpmd relay`: `gvm-relay:HOST:PORT/KEY`.
    Own(Own),
}

/// A server that was started by `gpmd relay`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Own {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    pub port: u16,
    /// The beginning of the SHA-256 of its certificate.
    pub pin: [u8; 16],
    /// What devices show to it.
    pub token: [u8; 16],
}

impl Own {
    /// Returns the text that devices show to the relay.
    pub fn token(&self) -> String {
        BASE32_NOPAD.encode(&self.token).to_lowercase()
    }
}

/// Without the token.
impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Relay {
    /// Returns where the relay is, for people: without the token.
    pub fn place(&self) -> String {
        match self {
            Relay::Public => "n0".into(),
            Relay::Url(url) => url.clone(),
            Relay::Own(own) => format!("{}:{}", own.host, own.port),
        }
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Relay::Public => f.write_str("n0"),
            Relay::Url(url) => f.write_str(url),
            Relay::Own(own) => {
                let key = [own.pin, own.token].concat();
                let key = BASE32_NOPAD.encode(&key).to_lowercase();
                write!(f, "{PREFIX}{}:{}/{key}", own.host, own.port)
            }
        }
    }
}

impl FromStr for Relay {
    type Err = Error;

    fn from_str(text: &str) -> Result<Relay> {
        let relay = match text {
            _ if text.len() > LONGEST => None,
            "n0" => Some(Relay::Public),
            _ => match text.strip_prefix(PREFIX) {
                Some(line) => own(line).map(Relay::Own),
                None => is_url(text).then(|| Relay::Url(text.into())),
            },
        };
        relay.ok_or_else(|| {
            Error::new(Code::Syntax, "this is not a relay").with_help(format!(
                "give the line that `gpmd relay` prints, which begins with `{PREFIX}`; or the URL of a relay, \
                 `https://HOST`; or `n0` for public relays"
            ))
        })
    }
}

fn own(line: &str) -> Option<Own> {
    let (at, key) = line.split_once('/')?;
    let (host, port) = at.rsplit_once(':')?;
    let key = BASE32_NOPAD.decode(key.to_ascii_uppercase().as_bytes()).ok()?;
    let (pin, token) = key.split_at_checked(16)?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let own = Own { host: host.into(), port, pin: pin.try_into().ok()?, token: token.try_into().ok()? };
    is_host(host).then_some(own)
}

/// Returns whether a text can be the host of a URL: a name or an address, without anything that could change its meaning.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-'),
    }
}

fn is_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let at = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match at.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().is_ok_and(|port| port != 0)),
        _ => (at, true),
    };
    is_host(host) && port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_read_what_they_write() {
        let own =
            |host: &str| Relay::Own(Own { host: host.into(), port: 5990, pin: [7; 16], token: [9; 16] });
        let urls = ["https://relay.example.net", "https://relay.example.net:8443/", "http://[::1]:3340"];
        let urls = urls.map(|url| Relay::Url(url.into()));
        let all = [Relay::Public, own("203.0.113.5"), own("[2001:db8::5]"), own("vm.example.net")];
        for relay in all.into_iter().chain(urls) {
            assert_eq!(relay.to_string().parse::<Relay>().unwrap(), relay);
        }
        let line = own("203.0.113.5").to_string();
        for bad in [
            "",
            "n1",
            "https://",
            "https://a b",
            "https://user@host",
            "https://host/path",
            "https://host:0",
            "ftp://host",
            &line[..line.len() - 1],
            &line.replace("203", "evil@203"),
            &line.replace("5990", "0"),
            &line.replace(":5990", ""),
            &format!("https://{}", "a".repeat(LONGEST)),
        ] {
            assert_eq!(bad.parse::<Relay>().unwrap_err().code(), Code::Syntax, "{bad}");
        }
        assert!(!format!("{:?}", own("vm")).contains("9, 9"));
    }
}
