//! The open connections of this device: which are due for a heartbeat, and which have been silent for too long.
//!
//! In: what was sent and heard, and when; which devices turned out to be up. Out: durations, devices. Must not know: messages, records.
//!
//! Messages come late on a bad connection. So this side learns how long it has to wait, and forgets that slowly.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Config;
use crate::device::Device;

/// If messages of a neighbour came late lately, it may be silent for this many times the longest delay in addition.
const FACTOR: f64 = 3.5;
/// But it is never waited for longer than this.
const MOST_PATIENCE: Duration = Duration::from_secs(9);
/// With each heartbeat, delays count a little less: half after some 27 heartbeats.
const FORGET: f64 = 0.975;
/// A connection that is no neighbour's and carries nothing for this time is closed.
const IDLE: Duration = Duration::from_secs(10);
/// A device that fell silent and is still up after this time, because others hear it, was given up too soon.
const DOUBT: Duration = Duration::from_secs(6);

struct Link {
    heard: Duration,
    sent: Duration,
    /// The longest time between two messages lately.
    pause: Duration,
}

/// A device that fell silent.
struct Suspect {
    device: Device,
    at: Duration,
    pause: Duration,
}

#[derive(Default)]
pub(crate) struct Links {
    open: BTreeMap<Device, Link>,
    suspects: Vec<Suspect>,
    /// The longest pause of devices that were given up too soon. It holds for all connections.
    weather: Duration,
}

impl Links {
    pub fn opened(&mut self, device: Device, now: Duration) {
        self.open.insert(device, Link { heard: now, sent: now, pause: Duration::ZERO });
    }

    pub fn closed(&mut self, device: &Device) {
        self.open.remove(device);
    }

    pub fn contains(&self, device: &Device) -> bool {
        self.open.contains_key(device)
    }

    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.open.keys()
    }

    pub fn heard(&mut self, device: &Device, now: Duration) {
        if let Some(link) = self.open.get_mut(device) {
            let pause = now.saturating_sub(link.heard);
            link.pause = pause.max(link.pause.mul_f64(FORGET));
            link.heard = now;
        }
    }

    pub fn sent(&mut self, device: &Device, now: Duration) {
        if let Some(link) = self.open.get_mut(device) {
            link.sent = now;
        }
    }

    /// This device was not running for a while, so the silence was its own.
    pub fn forgive(&mut self, now: Duration) {
        self.open.values_mut().for_each(|link| link.heard = now);
    }

    /// Returns the neighbours that are due for a heartbeat, and the devices that have been silent for too long.
    pub fn due(
        &mut self,
        now: Duration,
        config: &Config,
        neighbour: impl Fn(&Device) -> bool,
    ) -> (Vec<Device>, Vec<Device>) {
        let (mut due, mut silent) = (Vec::new(), Vec::new());
        for (device, link) in &self.open {
            let neighbour = neighbour(device);
            if link.heard + self.patience(link, config, neighbour) <= now {
                silent.push(*device);
                if neighbour {
                    let pause = now.saturating_sub(link.heard);
                    self.suspects.push(Suspect { device: *device, at: now, pause });
                }
            } else if neighbour && link.sent + config.heartbeat <= now {
                due.push(*device);
            }
        }
        (due, silent)
    }

    /// Learns from the devices that were given up and are up. Call it about once per heartbeat.
    pub fn learn(&mut self, now: Duration, up: impl Fn(&Device) -> bool) {
        self.weather = self.weather.mul_f64(FORGET);
        for suspect in self.suspects.extract_if(.., |suspect| suspect.at + DOUBT <= now) {
            if up(&suspect.device) {
                self.weather = self.weather.max(suspect.pause);
            }
        }
    }

    /// Returns when `due` has something to return.
    pub fn next(&self, config: &Config, neighbour: impl Fn(&Device) -> bool) -> Option<Duration> {
        let times = self.open.iter().map(|(device, link)| {
            let neighbour = neighbour(device);
            let silent = link.heard + self.patience(link, config, neighbour);
            if neighbour { silent.min(link.sent + config.heartbeat) } else { silent }
        });
        times.min()
    }

    /// Returns how long the other side may be silent.
    fn patience(&self, link: &Link, config: &Config, neighbour: bool) -> Duration {
        if !neighbour {
            return IDLE;
        }
        let late = link.pause.max(self.weather).saturating_sub(config.heartbeat);
        (config.silence + late.mul_f64(FACTOR)).min(MOST_PATIENCE)
    }
}
