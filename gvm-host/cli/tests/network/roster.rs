//! Who belongs to the network: removal, leaving, and changes that devices make while they are parted.

use std::time::{Duration, Instant};

use gvm_host::Code;

use crate::bed::{Device, discovers, run_local, wait};

const SOON: Duration = Duration::from_secs(2);

#[test]
fn a_removed_device_is_refused_everywhere_and_knows() {
    let laptop = Device::new("laptop");
    let (pi, tv) = (Device::joined("pi", &laptop), Device::joined("tv", &laptop));
    wait(Duration::from_secs(5), || tv.is_up("pi"));
    run_local(async {
        let here = tv.node("here", &[]).await.unwrap();
        let far = pi.node("far", &[]).await.unwrap();
        discovers(&here, &["here", "far@pi"]).await;
        let begun = Instant::now();
        assert_eq!(laptop.ok_beside(&["remove", "pi"]).await, "Removed pi from the network.\n");
        discovers(&here, &["here"]).await;
        discovers(&far, &["far"]).await;
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    });
    wait(SOON, || tv.names() == ["laptop", "tv"]);
    assert!(pi.network().removed);
    assert!(pi.ok(&["devices"]).contains("was removed"));
    pi.fails(&["invite"], Code::NotPermitted);
    laptop.fails(&["remove", "pi"], Code::DeviceNotFound);
    laptop.fails(&["remove", "laptop"], Code::BadArguments);
    // A restart does not bring it back.
    pi.kill_hard();
    pi.start();
    assert!(pi.network().removed);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(laptop.names(), ["laptop", "tv"]);
    // A new invitation does, with a new key.
    let id = laptop.sees("laptop").unwrap().id;
    pi.join(&laptop.invite());
    assert!(laptop.is_up("pi") && !pi.network().removed);
    assert_eq!(pi.network().network, id);
}

/// It was admitted, and died before it had stored the answer. Its key was removed since, which it does not know.
#[test]
fn a_device_that_did_not_hear_that_it_had_joined_joins_again() {
    let (laptop, pi) = (Device::new("laptop"), Device::new("pi"));
    let roster = pi.home().roster();
    let alone = std::fs::read(&roster).unwrap();
    pi.join(&laptop.invite());
    pi.kill_hard();
    std::fs::write(&roster, alone).unwrap();
    laptop.ok(&["remove", "pi"]);
    pi.start();
    assert_eq!(pi.names(), ["pi"]);
    let key = pi.sees("pi").unwrap().id;
    pi.join(&laptop.invite());
    assert!(laptop.is_up("pi") && !pi.network().removed);
    assert_ne!(pi.sees("pi").unwrap().id, key);
}

#[test]
fn a_device_that_was_off_does_not_return_after_its_removal() {
    let laptop = Device::new("laptop");
    let (pi, tv) = (Device::joined("pi", &laptop), Device::joined("tv", &laptop));
    pi.kill_hard();
    laptop.ok(&["remove", "pi"]);
    wait(SOON, || tv.names() == ["laptop", "tv"]);
    pi.start();
    wait(Duration::from_secs(5), || {
        pi.sees("laptop").is_some_and(|device| !device.up && device.problem.is_some())
    });
    assert!(!pi.is_up("tv"));
    let problem = pi.sees("laptop").unwrap().problem.unwrap();
    assert!(problem.contains("does not accept this one"), "{problem}");
    assert_eq!(laptop.names(), ["laptop", "tv"]);
}

#[test]
fn a_device_leaves_and_may_join_again() {
    let laptop = Device::new("laptop");
    laptop.fails(&["leave"], Code::BadArguments);
    let pi = Device::joined("pi", &laptop);
    let before = laptop.sees("pi").unwrap().id;
    run_local(async {
        // A node knows the new key when the command ends.
        let (_far, devices) = pi.node_with("far", &[]).await.unwrap();
        assert!(devices.now().get(&laptop.sees("laptop").unwrap().id).is_some());
        assert_eq!(pi.ok_beside(&["leave"]).await, "Left the network. This device has a new key.\n");
        let own = devices.now().own().unwrap().id();
        assert_eq!(own, pi.sees("pi").unwrap().id);
        assert_ne!(own, before);
        assert_eq!(devices.now().all().len(), 1);
    });
    wait(SOON, || laptop.names() == ["laptop"]);
    assert_eq!(pi.names(), ["pi"]);
    pi.join(&laptop.invite());
    assert!(laptop.is_up("pi") && laptop.sees("pi").unwrap().id != before);
    // The founder may leave too.
    laptop.ok(&["leave"]);
    wait(SOON, || pi.names() == ["pi"]);
    let tv = Device::joined("tv", &pi);
    assert_eq!(tv.names(), ["pi", "tv"]);
}

#[test]
fn devices_that_admit_others_while_they_are_parted_agree_later() {
    let laptop = Device::new("laptop");
    let pi = Device::joined("pi", &laptop);
    pi.kill_hard();
    let tv = Device::joined("tv", &laptop);
    laptop.kill_hard();
    tv.kill_hard();
    pi.start();
    // The same name is given twice.
    let other = Device::joined("tv", &pi);
    assert_eq!(pi.names(), ["laptop", "pi", "tv"]);
    laptop.start();
    tv.start();
    for device in [&laptop, &pi, &tv, &other] {
        wait(Duration::from_secs(10), || device.names() == ["laptop", "pi", "tv", "tv-2"]);
        for name in ["laptop", "pi", "tv", "tv-2"] {
            wait(Duration::from_secs(10), || device.is_up(name));
        }
    }
}

#[test]
fn of_two_devices_that_remove_each_other_the_one_that_is_heard_stays() {
    let laptop = Device::new("laptop");
    let (pi, tv) = (Device::joined("pi", &laptop), Device::joined("tv", &laptop));
    wait(Duration::from_secs(5), || tv.is_up("pi"));
    laptop.kill_hard();
    pi.kill_hard();
    tv.ok(&["remove", "pi"]);
    tv.kill_hard();
    pi.start();
    pi.ok(&["remove", "tv"]);
    pi.kill_hard();
    laptop.start();
    pi.start();
    wait(Duration::from_secs(10), || laptop.names() == ["laptop", "pi"]);
    tv.start();
    // Nobody listens to a device that was removed.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(laptop.names(), ["laptop", "pi"]);
}
