//! Streams between devices in one process, over real sockets: directly, and through a relay.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gvm_tunnel::{PURPOSE, Relay, Setup, Tunnels};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn key(seed: u8) -> [u8; 32] {
    *iroh::SecretKey::from_bytes(&[seed; 32]).public().as_bytes()
}

/// A device that accepts the devices with these seeds.
async fn device(seed: u8, relay: Option<Relay>, accepts: &[u8]) -> Tunnels {
    let accepts: Vec<[u8; 32]> = accepts.iter().map(|seed| key(*seed)).collect();
    let accepts = Arc::new(move |other: &[u8; 32]| accepts.contains(other));
    let bind = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let tunnels = Tunnels::bind(Setup { seed: [seed; 32], relay, bind, accepts }).await.unwrap();
    let serving = tunnels.clone();
    tokio::spawn(async move {
        while let Some(opened) = serving.next().await {
            // Echoes what it reads, after what it knows about the other side.
            tokio::spawn(async move {
                let head = [&opened.key[..], &opened.purpose[..]].concat();
                let mut stream = opened.take().await?;
                stream.write_all(&head).await?;
                let mut bytes = vec![0; 1 << 16];
                loop {
                    let read = stream.read(&mut bytes).await?;
                    if read == 0 {
                        return stream.shutdown().await;
                    }
                    stream.write_all(&bytes[..read]).await?;
                }
            });
        }
    });
    tunnels
}

async fn echoes(
    from: &Tunnels,
    to: u8,
    relay: Option<&Relay>,
    direct: &[SocketAddr],
    own: u8,
) -> io::Result<()> {
    let purpose = [own ^ to; PURPOSE];
    let stream = from.open(&key(to), relay, direct, &purpose).await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let expected = [&key(own)[..], &purpose, &sent].concat();
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await?;
        writer.shutdown().await
    });
    let mut read = Vec::new();
    timeout(PATIENCE, reader.read_to_end(&mut read)).await??;
    writing.await.unwrap()?;
    assert!(read == expected);
    Ok(())
}

#[tokio::test]
async fn streams_cross_directly_in_both_directions() {
    let (one, two) = (device(1, None, &[2]).await, device(2, None, &[1]).await);
    let (at_one, at_two) = (one.bound(), two.bound());
    echoes(&one, 2, None, &at_two, 1).await.unwrap();
    // Over the connection that the other one has opened.
    echoes(&two, 1, None, &at_one, 2).await.unwrap();
    let many = (0..20).map(|_| echoes(&one, 2, None, &at_two, 1));
    for echoed in futures::future::join_all(many).await {
        echoed.unwrap();
    }
    assert!(matches!(one.path(&key(2)).unwrap().by, gvm_tunnel::By::Direct(at) if at_two.contains(&at)));
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn large_streams_lose_nothing() {
    const BYTES: usize = 64_000_000;
    let (one, two) = (device(1, None, &[2]).await, device(2, None, &[1]).await);
    let stream = one.open(&key(2), None, &two.bound(), &[3; PURPOSE]).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..BYTES).map(|number| (number % 251) as u8).collect();
    let expected = sent.clone();
    let writing = async {
        writer.write_all(&sent).await?;
        writer.shutdown().await
    };
    let reading = async {
        let mut head = vec![0; 32 + PURPOSE];
        reader.read_exact(&mut head).await?;
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await?;
        Ok::<_, io::Error>(read)
    };
    let (written, read) = tokio::join!(writing, reading);
    written.unwrap();
    assert!(read.unwrap() == expected);
}

#[tokio::test]
async fn only_accepted_keys_open_streams() {
    let (one, stranger) = (device(1, None, &[2]).await, device(3, None, &[1]).await);
    assert!(echoes(&stranger, 1, None, &one.bound(), 3).await.is_err());
    // An impostor at the address of the device that is wanted.
    assert!(echoes(&one, 2, None, &stranger.bound(), 1).await.is_err());
}

#[tokio::test]
async fn a_device_that_has_begun_again_is_reached_again() {
    let one = device(1, None, &[2]).await;
    let two = device(2, None, &[1]).await;
    let at = two.bound();
    echoes(&one, 2, None, &at, 1).await.unwrap();
    // It vanishes without a word.
    std::mem::forget(two.clone());
    two.close().await;
    let again = device(2, None, &[1]).await;
    echoes(&one, 2, None, &again.bound(), 1).await.unwrap();
}

#[cfg(feature = "relay")]
mod relayed {
    use super::*;
    use gvm_tunnel::relay;

    async fn start(token: &str) -> (relay::Relay, Relay) {
        let made = rcgen::generate_simple_self_signed(["relay".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.der().to_vec(), made.signing_key.serialize_der());
        let identity = relay::Identity { certificate, key, token: token.into() };
        let running = relay::Relay::start((Ipv4Addr::LOCALHOST, 0).into(), &identity).await.unwrap();
        let at = running.address();
        let own = Relay::Own {
            authority: at.to_string(),
            port: at.port(),
            pin: identity.pin(),
            token: token.into(),
        };
        (running, own)
    }

    #[tokio::test]
    async fn devices_meet_at_a_relay() {
        let (running, own) = start("secret").await;
        let one = device(1, Some(own.clone()), &[2]).await;
        let two = device(2, Some(own.clone()), &[1]).await;
        timeout(PATIENCE, async { tokio::join!(one.online(), two.online()) }).await.unwrap();
        assert!(one.relay().is_some() && one.problem().is_none());
        echoes(&one, 2, Some(&own), &[], 1).await.unwrap();
        echoes(&two, 1, Some(&own), &[], 2).await.unwrap();
        running.stop().await;
    }

    #[tokio::test]
    async fn a_relay_and_its_devices_prove_themselves() {
        let (running, own) = start("secret").await;
        let Relay::Own { authority, port, pin, token } = own else { unreachable!() };
        let wrong =
            |pin, token: &str| Relay::Own { authority: authority.clone(), port, pin, token: token.into() };
        let without = device(1, Some(wrong(pin, "guess")), &[2]).await;
        assert!(timeout(Duration::from_secs(3), without.online()).await.is_err());
        assert!(without.problem().is_some_and(|why| why.contains("token")), "{:?}", without.problem());
        let impostor = device(2, Some(wrong([0; 16], &token)), &[1]).await;
        assert!(timeout(Duration::from_secs(3), impostor.online()).await.is_err());
        assert!(impostor.relay().is_none());
        running.stop().await;
    }
}
