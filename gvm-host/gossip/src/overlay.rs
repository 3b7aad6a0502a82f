//! The neighbours of this device, and messages to all: the protocol of `iroh-gossip`, with its timers.
//!
//! In: messages, connections that ended, the time. Out: effects. Must not know: records, who is a member.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iroh_gossip::proto::Scope;
use iroh_gossip::proto::topic::{Command, Config, Event, InEvent, Message, OutEvent, State, Timer};
use rand::rngs::StdRng;

use crate::device::Device;

pub(crate) enum Effect {
    Send(Device, Message<Device>),
    Close(Device),
    NeighbourUp(Device),
    NeighbourDown(Device),
    /// Some device broadcast this.
    Received(Bytes),
}

pub(crate) struct Overlay {
    state: State<Device, StdRng>,
    /// The protocol counts in instants, which only a clock can make. It sees `origin` plus the time that was passed in.
    origin: Instant,
    timers: BTreeMap<(Duration, u64), Timer<Device>>,
    scheduled: u64,
}

impl Overlay {
    pub fn new(me: Device, config: Config, rng: StdRng) -> Overlay {
        let state = State::with_rng(me, None, config, rng);
        Overlay { state, origin: Instant::now(), timers: BTreeMap::new(), scheduled: 0 }
    }

    pub fn join(&mut self, devices: Vec<Device>, now: Duration) -> Vec<Effect> {
        self.handle(InEvent::Command(Command::Join(devices)), now)
    }

    pub fn broadcast(&mut self, bytes: Vec<u8>, now: Duration) -> Vec<Effect> {
        self.handle(InEvent::Command(Command::Broadcast(bytes.into(), Scope::Swarm)), now)
    }

    /// Tells all neighbours that this device leaves.
    pub fn quit(&mut self, now: Duration) -> Vec<Effect> {
        self.handle(InEvent::Command(Command::Quit), now)
    }

    pub fn received(&mut self, from: Device, message: Message<Device>, now: Duration) -> Vec<Effect> {
        self.handle(InEvent::RecvMessage(from, message), now)
    }

    pub fn disconnected(&mut self, device: Device, now: Duration) -> Vec<Effect> {
        self.handle(InEvent::PeerDisconnected(device), now)
    }

    /// Runs the first timer that has expired.
    pub fn tick(&mut self, now: Duration) -> Option<Vec<Effect>> {
        let entry = self.timers.first_entry().filter(|entry| entry.key().0 <= now)?;
        let timer = entry.remove();
        Some(self.handle(InEvent::TimerExpired(timer), now))
    }

    pub fn next(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    fn handle(&mut self, event: InEvent<Device>, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        for event in self.state.handle(event, (self.origin + now).into()) {
            effects.push(match event {
                OutEvent::SendMessage(to, message) => Effect::Send(to, message),
                OutEvent::DisconnectPeer(device) => Effect::Close(device),
                OutEvent::EmitEvent(Event::NeighborUp(device)) => Effect::NeighbourUp(device),
                OutEvent::EmitEvent(Event::NeighborDown(device)) => Effect::NeighbourDown(device),
                OutEvent::EmitEvent(Event::Received(event)) => Effect::Received(event.content),
                OutEvent::ScheduleTimer(after, timer) => {
                    self.scheduled += 1;
                    self.timers.insert((now + after, self.scheduled), timer);
                    continue;
                }
                // Only for devices that add data to their joins, as none of ours does.
                OutEvent::PeerData(..) => continue,
            });
        }
        effects
    }
}
