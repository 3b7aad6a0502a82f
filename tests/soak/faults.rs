//! Kills, stops and cuts.
//!
//! In: the running programs and cables, the time until which to go on. Out: programs that were killed each second and start
//! again, some that were stopped for a while, cables that were pulled out for a while. In the end everything runs. Must not know:
//! what the programs do meanwhile.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::device::{NAMES, STAYING, World};
use crate::dice::Dice;
use crate::growth;

/// One kill per period.
const KILL: Duration = Duration::from_secs(1);

/// The mean time between two cuts, and between two stops.
const RARE: Duration = Duration::from_secs(12);

/// Short ones pass unnoticed; after the longest ones, connections are declared lost on both sides.
const LONGEST: Duration = Duration::from_secs(11);

/// A program that was killed starts again within this time.
const AWAY: Duration = Duration::from_millis(600);

const STEP: Duration = Duration::from_millis(20);

pub fn run(world: &World, until: Instant) {
    let mut dice = Dice::new();
    let rarely = |dice: &mut Dice| dice.below(RARE.as_millis() as u64) < STEP.as_millis() as u64;
    // Sometimes short, sometimes long.
    let while_long = |dice: &mut Dice| {
        let most = if dice.below(2) == 0 { LONGEST / 8 } else { LONGEST };
        Instant::now() + Duration::from_millis(dice.below(most.as_millis() as u64))
    };
    let count = world.programs.lock().unwrap().len();
    let mut due: Vec<Option<Instant>> = vec![None; count];
    let mut stopped: Vec<Option<Instant>> = vec![None; count];
    let mut cut: Vec<Option<Instant>> = vec![None; STAYING];
    let mut kill = Instant::now() + KILL;
    while Instant::now() < until && !world.end.load(Ordering::Relaxed) {
        std::thread::sleep(STEP);
        let now = Instant::now();
        let mut programs = world.programs.lock().unwrap();
        for (place, program) in programs.iter_mut().enumerate() {
            let Some(child) = &mut program.child else {
                if due[place].is_none_or(|due| due <= now) {
                    world.start_program(program);
                    due[place] = None;
                }
                continue;
            };
            if let Some(status) = child.try_wait().unwrap() {
                // It cannot start while gpmd is away, before its last life is forgotten, or if a command has started gpmd.
                let title = program.title();
                match program.started.elapsed() < Duration::from_secs(20) && !program.spared {
                    true => world.event("could not start"),
                    false => world.fault(format!("{title} ended by itself: {status}")),
                }
                program.kill();
                world.kill_started(program);
                due[place] = Some(now + AWAY);
            }
            if stopped[place].is_some_and(|until| until <= now) {
                program.signal(Signal::CONT);
                stopped[place] = None;
            }
        }
        if kill <= now {
            kill += KILL;
            let alive: Vec<usize> = (0..count)
                .filter(|place| !programs[*place].spared && programs[*place].child.is_some())
                .collect();
            if !alive.is_empty() {
                let victim = *dice.one_of(&alive);
                growth::note(world, &programs[victim]);
                programs[victim].kill();
                stopped[victim] = None;
                due[victim] = Some(now + Duration::from_millis(dice.below(AWAY.as_millis() as u64)));
                world.event(if programs[victim].node.is_some() {
                    "kill -9 of a node"
                } else {
                    "kill -9 of gpmd"
                });
            }
        }
        if rarely(&mut dice) {
            let victim = dice.below(count as u64) as usize;
            if stopped[victim].is_none() && programs[victim].child.is_some() {
                programs[victim].signal(Signal::STOP);
                stopped[victim] = Some(while_long(&mut dice));
                world.event("stop of a process for a while");
            }
        }
        drop(programs);
        let Some(switch) = &world.switch else { continue };
        if rarely(&mut dice) {
            let device = dice.below(STAYING as u64) as usize;
            if cut[device].is_none() {
                switch.plug(device, false);
                cut[device] = Some(while_long(&mut dice));
                world.event(&format!("cut of the cable of {}", NAMES[device]));
            }
        }
        for (device, cut) in cut.iter_mut().enumerate() {
            if cut.is_some_and(|until| until <= now) {
                switch.plug(device, true);
                *cut = None;
            }
        }
    }
    if let Some(switch) = &world.switch {
        (0..STAYING).for_each(|device| switch.plug(device, true));
    }
    start_all(world);
}

/// Starts everything that does not run, until it runs.
fn start_all(world: &World) {
    let end = Instant::now() + Duration::from_secs(30);
    let mut steady = Instant::now();
    while steady.elapsed() < Duration::from_secs(2) {
        for program in world.programs.lock().unwrap().iter_mut() {
            program.signal(Signal::CONT);
            let ended = program.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            if ended {
                program.kill();
                world.kill_started(program);
                world.start_program(program);
                steady = Instant::now();
            }
        }
        if Instant::now() > end {
            return world.fault("some programs do not start".to_owned());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}
