//! What a device does with bytes that no honest member sends.
//!
//! In: two devices, whose messages are altered on the way. Out: failures. Must not know: the form of the messages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use gvm_gossip::{Config, Device, Event, Keys, Malformed, Output, Presence, Setup};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

struct Key(Ed25519KeyPair);

impl Key {
    fn new() -> Key {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Key(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn device(&self) -> Device {
        Device(self.0.public_key().as_ref().try_into().unwrap())
    }
}

impl Keys for Key {
    fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.0.sign(text).as_ref().try_into().unwrap()
    }

    fn verifies(&self, device: &Device, text: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, device.0).verify(text, signature).is_ok()
    }
}

const NOW: Duration = Duration::from_secs(100);

/// Two devices with these keys, both members, neighbours of each other.
fn pair() -> [Presence<Key>; 2] {
    let keys = [Key::new(), Key::new()];
    let names = [keys[0].device(), keys[1].device()];
    let mut devices = keys.map(|key| {
        let setup = Setup {
            network: [1; 32],
            device: key.device(),
            incarnation: 5,
            contacts: Vec::new(),
            seed: 1,
            config: Config::default(),
        };
        Presence::new(setup, key, BTreeSet::from(names), NOW)
    });
    devices[0].connected(names[1], NOW);
    devices[1].connected(names[0], NOW);
    devices[0].tick(NOW);
    for step in 0..20 {
        let now = NOW + Duration::from_millis(100) * step;
        deliver(&mut devices, names, now);
        devices.iter_mut().for_each(|device| device.tick(now));
    }
    deliver(&mut devices, names, NOW + Duration::from_secs(2));
    assert!(devices[1].neighbours().eq([names[0]]));
    devices
}

/// Delivers all messages until both are silent. Returns the events of the second device.
fn deliver(devices: &mut [Presence<Key>; 2], names: [Device; 2], now: Duration) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let mut silent = true;
        for from in 0..2 {
            while let Some(output) = devices[from].output() {
                silent = false;
                match output {
                    Output::Send { bytes, .. } => {
                        devices[1 - from].received(names[from], &bytes, now).unwrap()
                    }
                    Output::Event(event) if from == 1 => events.push(event),
                    Output::Event(_) | Output::Close(_) => {}
                }
            }
        }
        if silent {
            return events;
        }
    }
}

/// The message in which the first device says its payload to the second one, and when.
fn message(devices: &mut [Presence<Key>; 2]) -> (Vec<u8>, Duration) {
    let now = NOW + Duration::from_secs(3);
    devices[0].set_payload(b"node-8399".to_vec(), now).unwrap();
    let now = now + Duration::from_millis(600);
    devices[0].tick(now);
    while let Some(output) = devices[0].output() {
        if let Output::Send { bytes, .. } = output
            && bytes.windows(9).any(|window| window == b"node-8399")
        {
            return (bytes, now);
        }
    }
    panic!("the payload was not sent");
}

fn names(devices: &[Presence<Key>; 2]) -> [Device; 2] {
    [devices[1].devices().next().unwrap().device, devices[0].devices().next().unwrap().device]
}

#[test]
fn an_honest_message_is_taken() {
    let mut devices = pair();
    let names = names(&devices);
    let (bytes, now) = message(&mut devices);
    devices[1].received(names[0], &bytes, now).unwrap();
    assert_eq!(devices[1].device(&names[0]).unwrap().payload, Some(b"node-8399".as_slice()));
}

#[test]
fn no_altered_byte_gets_through() {
    let mut devices = pair();
    let names = names(&devices);
    let (bytes, now) = message(&mut devices);
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        // It may still be a message, for example about how the tree grows. But nobody learns anything false from it.
        let _ = devices[1].received(names[0], &altered, now);
        let payload = devices[1].device(&names[0]).unwrap().payload;
        assert!(payload.is_none() || payload == Some(b"node-8399"), "byte {at} is altered: {payload:?}");
    }
}

#[test]
fn an_altered_record_ends_the_connection() {
    let mut devices = pair();
    let names = names(&devices);
    let (bytes, now) = message(&mut devices);
    let at = bytes.windows(9).position(|window| window == b"node-8399").unwrap();
    let mut altered = bytes;
    altered[at] = b'N';
    assert_eq!(devices[1].received(names[0], &altered, now), Err(Malformed));
}

#[test]
fn no_bytes_panic_and_strangers_are_refused() {
    let mut devices = pair();
    let names = names(&devices);
    let (bytes, now) = message(&mut devices);
    assert_eq!(devices[1].received(Device([9; 32]), &bytes, now), Err(Malformed));
    for length in 0..bytes.len() {
        assert!(devices[1].received(names[0], &bytes[..length], now).is_err(), "{length} bytes");
    }
    let mut random = 1_u64;
    for length in (0..2000).map(|length| length % 300) {
        let noise = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8 % 8
        });
        let _ = devices[1].received(names[0], &noise.take(length).collect::<Vec<_>>(), now);
    }
    assert_eq!(devices[1].device(&names[0]).unwrap().payload, None);
}

#[test]
fn a_large_payload_is_refused() {
    let mut devices = pair();
    assert!(devices[0].set_payload(vec![0; 1024], NOW).is_ok());
    assert_eq!(devices[0].set_payload(vec![0; 1025], NOW).unwrap_err().0, 1025);
}
