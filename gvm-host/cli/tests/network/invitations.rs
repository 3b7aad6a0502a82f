//! Inviting and joining.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use gvm_host::Code;

use crate::bed::{Device, wait};

/// Whether gpmd listens on all interfaces: the whole block 127.0.0.0/8 belongs to this host.
fn listens_everywhere(device: &Device) -> bool {
    let at = SocketAddr::from(([127, 0, 0, 2], device.port()));
    TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok()
}

#[test]
fn one_line_joins_a_device() {
    let laptop = Device::new("laptop");
    assert!(!listens_everywhere(&laptop), "a device alone listens for itself");
    let port = laptop.port();
    let text = laptop.ok(&["invite"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        format!("Devices on this network can now reach this one on port {port} (all interfaces).")
    );
    assert_eq!(lines[1], "On the other device, within 10 minutes, run:");
    let line = lines[2].strip_prefix("  gpmd join ").unwrap();
    assert!(line.starts_with("gvm-join:") && lines.len() == 3, "{text}");
    assert!(listens_everywhere(&laptop));

    // gpmd does not run on the other device yet.
    let pi = Device::off();
    let joined = pi.json(&["join", line]);
    assert_eq!((joined["inviter"].as_str(), joined["devices"].as_u64()), (Some("laptop"), Some(2)));
    let name = joined["name"].as_str().unwrap();
    assert!(laptop.is_up(name) && pi.is_up("laptop"), "both are connected when the command ends");
    assert!(listens_everywhere(&pi));
    let seen = laptop.sees(name).unwrap();
    assert_eq!(seen.admitted_by, "laptop");
    assert_eq!(seen.transport.as_deref(), Some("tcp"));
    assert!(seen.address.unwrap().starts_with("tcp:"));
    let table = laptop.ok(&["devices"]);
    let id = seen.id.to_string();
    assert!(table.lines().any(|line| line.contains(name) && line.contains(&id[..14])), "{table}");
}

#[test]
fn the_name_and_the_role_stay_with_the_inviter() {
    let laptop = Device::new("laptop");
    let invited = laptop.json(&["invite", "--role", "guest", "--name", "annas-tablet"]);
    assert_eq!((invited["role"].as_str(), invited["name"].as_str()), (Some("guest"), Some("annas-tablet")));
    assert!(invited["expires"].as_i64().unwrap() > 0);
    let tablet = Device::new("tablet");
    let text = tablet.ok(&["join", invited["line"].as_str().unwrap()]);
    assert_eq!(text, "Joined the network of laptop as annas-tablet (2 devices).\n");
    assert_eq!(laptop.sees("annas-tablet").unwrap().role, gvm_host::roster::Role::Guest);
    laptop.fails(&["invite", "--name", "annas-tablet"], Code::BadArguments);
    // A name that is taken gets a number.
    let other = Device::new("laptop");
    let text = other.ok(&["join", &laptop.invite()]);
    assert_eq!(text, "Joined the network of laptop as laptop-2 (3 devices).\n");
}

#[test]
fn an_invitation_is_good_once() {
    let laptop = Device::new("laptop");
    let line = laptop.invite();
    let (pi, tv) = (Device::new("pi"), Device::new("tv"));
    pi.join(&line);
    tv.fails(&["join", &line], Code::InvitationInvalid);
    assert_eq!(laptop.names(), ["laptop", "pi"]);
    assert_eq!(tv.names(), ["tv"]);
    // With another one open, the port accepts strangers, and the answer is the same.
    laptop.invite();
    tv.fails(&["join", &line], Code::InvitationInvalid);
    assert_eq!(laptop.names(), ["laptop", "pi"]);
}

#[test]
fn an_invitation_expires() {
    let laptop = Device::new("laptop");
    let line = laptop.json(&["invite", "--expires", "1s"])["line"].as_str().unwrap().to_owned();
    assert!(listens_everywhere(&laptop));
    wait(Duration::from_secs(6), || !listens_everywhere(&laptop));
    assert_eq!(laptop.ok(&["invitations"]), "No invitation is open.\n");
    let pi = Device::new("pi");
    let open = laptop.invite();
    pi.fails(&["join", &line], Code::InvitationInvalid);
    pi.join(&open);
    laptop.fails(&["invite", "--expires", "0s"], Code::BadArguments);
    laptop.fails(&["invite", "--expires", "soon"], Code::Syntax);
}

#[test]
fn an_invitation_can_be_revoked() {
    let laptop = Device::new("laptop");
    let (first, second) = (laptop.invite(), laptop.invite());
    let open = laptop.json(&["invitations"]);
    assert_eq!(open.as_array().unwrap().len(), 2);
    let first_id = first.parse::<gvm_host::internals::trust::invitation::Line>().unwrap().id().to_string();
    let said = laptop.ok(&["invitations", "revoke", &first_id[..6]]);
    assert_eq!(said, format!("Revoked the invitation {first_id}.\n"));
    laptop.fails(&["invitations", "revoke", &first_id], Code::InvitationInvalid);
    let pi = Device::new("pi");
    pi.fails(&["join", &first], Code::InvitationInvalid);
    pi.join(&second);
}

#[test]
fn an_invitation_survives_gpmd() {
    let laptop = Device::new("laptop");
    let port = laptop.port();
    let line = laptop.invite();
    laptop.kill_hard();
    laptop.start();
    assert_eq!(laptop.port(), port, "other devices know the port");
    let pi = Device::new("pi");
    pi.join(&line);
    assert!(laptop.is_up("pi"));
}

#[test]
fn a_line_that_is_not_whole_is_refused_here() {
    let laptop = Device::new("laptop");
    let line = laptop.invite();
    let pi = Device::new("pi");
    for bad in [&line[..line.len() - 3], "gvm-join:", "hello", &line.replace("gvm-join", "gvm-joim")] {
        let said = pi.fails(&["join", bad], Code::InvitationInvalid);
        assert!(said.contains("not the whole line"), "{said}");
    }
    laptop.fails(&["join", &line], Code::BadArguments);
    pi.join(&line);
}

#[test]
fn a_device_in_a_network_is_told_to_leave_first() {
    let laptop = Device::new("laptop");
    let pi = Device::joined("pi", &laptop);
    let other = Device::new("other");
    let line = other.invite();
    let said = pi.fails(&["join", &line], Code::NetworkJoined);
    assert!(said.contains("gpmd leave"), "{said}");
    // The invitation is still good.
    let tv = Device::new("tv");
    tv.join(&line);
    pi.stop();
    let said = pi.fails(&["start", "--device", "pie"], Code::BadArguments);
    assert!(said.contains("`pi`"), "{said}");
}

#[test]
fn a_code_is_drawn_on_request() {
    let laptop = Device::new("laptop");
    let text = laptop.ok(&["invite", "--qr"]);
    assert!(text.lines().count() > 20 && text.contains('█'), "{text}");
}

#[test]
fn a_person_may_choose_where_it_listens() {
    let laptop = Device::off();
    laptop.ok(&["start", "--device", "laptop", "--listen", "127.0.0.1", "--listen", "127.0.0.3"]);
    let port = laptop.port();
    let text = laptop.ok(&["invite"]);
    let listens =
        format!("Devices on this network can now reach this one on port {port} (127.0.0.1, 127.0.0.3).\n");
    assert!(text.starts_with(&listens), "{text}");
    assert!(!listens_everywhere(&laptop));
    let line = text.split("gpmd join ").nth(1).unwrap().trim();
    let addresses = line.parse::<gvm_host::internals::trust::invitation::Line>().unwrap().addresses;
    assert_eq!(addresses, ["127.0.0.1", "127.0.0.3"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port)));
    let pi = Device::new("pi");
    pi.join(line);
    assert_eq!(pi.sees("laptop").unwrap().address, Some(format!("tcp:127.0.0.1:{port}")));
}
