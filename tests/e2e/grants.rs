//! Every grant: what it allows, and that nothing else is allowed.
//!
//! In: guests built for WASI preview 1 and 2, flags, real servers and files. Out: what the guests could
//! do. Must not know: how a grant is enforced.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::bed::Bed;
use crate::guests;
use crate::process::Ended;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The IPv4 and IPv6 loopback addresses.
const LOOPBACKS: [std::net::IpAddr; 2] =
    [std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), std::net::IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A server that answers each connection with `pong` until the test ends.
fn tcp_server(at: std::net::IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((at, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut asked = String::new();
            // A guest without the grant never connects, so these errors do not matter.
            let _ = stream.read_to_string(&mut asked);
            let _ = stream.write_all(if asked == "ping" { b"pong" } else { b"what?" });
        }
    });
    address
}

/// A server that answers each packet with `pong`. On `relay`, the stranger's socket sends a packet first.
fn udp_server(at: std::net::IpAddr, stranger: UdpSocket) -> SocketAddr {
    let socket = UdpSocket::bind((at, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut asked = [0; 64];
        while let Ok((count, from)) = socket.recv_from(&mut asked) {
            if &asked[..count] == b"relay" {
                stranger.send_to(b"stranger", from).unwrap();
            }
            socket.send_to(b"pong", from).unwrap();
        }
    });
    address
}

/// Runs the network guest with these addresses granted.
fn net(bed: &Bed, granted: &[&str], words: &[&str]) -> Ended {
    let program = guests::p2("net");
    let grants = granted.iter().flat_map(|granted| ["--allow-net", granted]);
    bed.run(grants.chain([text(&program)]).chain(words.iter().copied()).collect::<Vec<_>>())
}

#[track_caller]
fn refused(ended: &Ended) {
    assert_eq!(
        (ended.status, ended.out().as_str()),
        (Some(1), "error: PermissionDenied\n"),
        "{}",
        ended.err()
    );
}

#[test]
fn tcp_goes_where_it_was_granted() {
    let bed = Bed::bare();
    for at in LOOPBACKS {
        let (granted, other) = (tcp_server(at).to_string(), tcp_server(at).to_string());
        assert_eq!(net(&bed, &[&granted], &["tcp", &granted]).ok(), "tcp pong\n");
        assert_eq!(net(&bed, &[&other, &granted], &["tcp", &granted]).ok(), "tcp pong\n");
        refused(&net(&bed, &[&granted], &["tcp", &other]));
        refused(&net(&bed, &[], &["tcp", &granted]));
        // Another address of this device, at the same port.
        let port = granted.rsplit_once(':').unwrap().1;
        refused(&net(&bed, &[&granted], &["tcp", &format!("127.0.0.2:{port}")]));
        // A guest may not listen, on any port or on the granted address.
        let any = SocketAddr::new(at, 0).to_string();
        refused(&net(&bed, &[&granted], &["listen", &any]));
        let free = TcpListener::bind((at, 0)).unwrap().local_addr().unwrap().to_string();
        refused(&net(&bed, &[&free], &["listen", &free]));
    }
}

#[test]
fn udp_goes_where_it_was_granted() {
    let bed = Bed::bare();
    for at in LOOPBACKS {
        let stranger = UdpSocket::bind((at, 0)).unwrap();
        let strange = stranger.local_addr().unwrap().to_string();
        let granted = udp_server(at, stranger).to_string();
        let any = SocketAddr::new(at, 0).to_string();
        let answer = format!("udp pong from {granted}\n");
        assert_eq!(net(&bed, &[&granted], &["udp", &any, &granted]).ok(), answer);
        assert_eq!(net(&bed, &[&granted], &["udp-connected", &any, &granted]).ok(), "udp pong\n");
        refused(&net(&bed, &[&granted], &["udp", &any, &strange]));
        refused(&net(&bed, &[&granted], &["udp-connected", &any, &strange]));
        refused(&net(&bed, &[], &["udp", &any, &granted]));
        // Packets from an address that was not granted do not arrive, even if they come first.
        let told = net(&bed, &[&granted], &["udp-stranger", &any, &granted, &strange]).ok();
        assert_eq!(told, "to stranger Err(PermissionDenied)\nto granted Ok(5)\nfirst pong\n");
        // A client does not need a port of its own choice, so the guest may not bind one.
        let free = UdpSocket::bind((at, 0)).unwrap().local_addr().unwrap().to_string();
        refused(&net(&bed, &[&granted, &free], &["bind-udp", &free]));
    }
}

#[test]
fn names_are_looked_up_where_granted() {
    let bed = Bed::bare();
    let server = tcp_server(LOOPBACKS[0]);
    let named = format!("localhost:{}", server.port());
    assert_eq!(net(&bed, &[&named], &["tcp", &named]).ok(), "tcp pong\n");
    assert_eq!(net(&bed, &[&named], &["tcp", &named.to_uppercase()]).ok(), "tcp pong\n");
    // The grant also covers the address of the name, with the same port only.
    assert_eq!(net(&bed, &[&named], &["tcp", &server.to_string()]).ok(), "tcp pong\n");
    let other = tcp_server(LOOPBACKS[0]);
    refused(&net(&bed, &[&named], &["tcp", &format!("localhost:{}", other.port())]));

    let found = net(&bed, &[&named], &["lookup", "localhost"]).ok();
    assert!(found.split_whitespace().any(|address| address == "127.0.0.1"), "{found}");
    // A granted address allows no lookups, and a granted name allows no lookups of other names.
    for (granted, asked) in [
        (Some(server.to_string()), "localhost"),
        (Some(named.clone()), "localhost.localdomain"),
        (Some(named.clone()), "ip6-localhost"),
        (Some(named), "example.org"),
        (None, "localhost"),
    ] {
        let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
        let ended = net(&bed, &granted, &["lookup", asked]);
        assert!(ended.status == Some(1) && ended.out().starts_with("error: "), "{asked}: {}", ended.out());
    }
}

#[test]
fn preview_1_has_no_sockets() {
    let bed = Bed::bare();
    let server = tcp_server(LOOPBACKS[0]).to_string();
    let program = guests::p1("net");
    for words in [["tcp", server.as_str()], ["lookup", "localhost"]] {
        let ended = bed.run(["--allow-net", &server, text(&program), words[0], words[1]]);
        assert_eq!((ended.status, ended.out().as_str()), (Some(1), "error: Unsupported\n"));
    }
}

#[test]
fn a_grant_names_one_host_and_one_port() {
    let bed = Bed::bare();
    for wrong in [
        "localhost",
        "localhost:0",
        "localhost:80-90",
        "::1:80",
        "[::1]",
        "*:80",
        "localhost:*",
        "0.0.0.0:80",
    ] {
        let ended = net(&bed, &[wrong], &["lookup", "localhost"]);
        assert_eq!(ended.status, Some(2), "{wrong}: {}", ended.err());
        assert!(ended.err().contains(wrong), "{}", ended.err());
    }
}

/// Commands that write. The granted folder contains the files `a` and `b` and the folder `d`.
const CHANGES: &[&[&str]] = &[
    &["write", "/data/new", "x"],
    &["write", "/data/a", "x"],
    &["append", "/data/a", "x"],
    &["create", "/data/new"],
    &["truncate", "/data/a"],
    &["resize", "/data/a"],
    &["touch", "/data/a"],
    &["rename", "/data/a", "/data/new"],
    &["unlink", "/data/a"],
    &["mkdir", "/data/new"],
    &["rmdir", "/data/d"],
    &["link", "/data/a", "/data/new"],
    &["symlink", "a", "/data/new"],
    &["copy", "/data/a", "/data/new"],
];

/// Returns a description of everything in a folder: names, kinds, contents and times.
fn seen(folder: &Path) -> Vec<String> {
    let mut all: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
            format!("{path:?} {:?} {content} {:?}", meta.file_type(), meta.modified().unwrap())
        })
        .collect();
    all.sort();
    all
}

fn stock(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder.join("d")).unwrap();
    fs::write(folder.join("a"), "words").unwrap();
    fs::write(folder.join("b"), "more").unwrap();
}

#[test]
fn what_is_read_only_cannot_be_changed() {
    let bed = Bed::bare();
    let folder = bed.folder().join("granted");
    for program in [guests::p1("files"), guests::p2("files")] {
        for words in CHANGES {
            stock(&folder);
            let before = seen(&folder);
            let ended = bed.run([&["--dir", "granted::/data::ro", text(&program)], *words].concat());
            assert_eq!(ended.status, Some(1), "{words:?} {}: {}", program.display(), ended.out());
            assert_eq!(seen(&folder), before, "{words:?} {}", program.display());
            // With write access the same command succeeds, so the failure above comes from the grant.
            if words[0] == "symlink" || words[0] == "touch" || words[0] == "resize" {
                continue;
            }
            bed.run([&["--dir", "granted::/data", text(&program)], *words].concat()).ok();
            assert_ne!(seen(&folder), before, "{words:?} {}", program.display());
        }
        stock(&folder);
        let read = bed.run(["--dir", "granted::/data::ro", text(&program), "read", "/data/a"]);
        assert_eq!(read.ok(), "words");
    }
}

#[test]
fn folders_end_where_they_were_granted() {
    let bed = Bed::bare();
    let outside = bed.write("outside", "secret");
    fs::File::open(&outside)
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1000))
        .unwrap();
    let other = bed.folder().join("other");
    let folder = bed.folder().join("granted");
    for program in [guests::p1("files"), guests::p2("files")] {
        stock(&folder);
        stock(&other);
        symlink(&outside, folder.join("absolute")).unwrap();
        symlink("../outside", folder.join("relative")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        let run = |words: &[&str]| bed.run([&["--dir", "granted::/data", text(&program)], words].concat());
        let before = (fs::read_to_string(&outside).unwrap(), outside.metadata().unwrap().modified().unwrap());
        for way in ["absolute", "relative", "up/outside", "../outside", "d/../../outside", "up/up/outside"] {
            let way = format!("/data/{way}");
            let escape = format!("{way}-new");
            for words in [
                &["read", way.as_str()][..],
                &["size", &way],
                &["append", &way, "x"],
                &["truncate", &way],
                &["resize", &way],
                &["touch", &way],
                &["copy", "/data/a", &way],
                &["copy", &way, "/data/stolen"],
            ] {
                let ended = run(words);
                assert!(
                    ended.status == Some(1) && !ended.out().contains("secret"),
                    "{words:?}: {}",
                    ended.out()
                );
            }
            if way.contains("outside") {
                for words in [
                    &["write", escape.as_str(), "x"][..],
                    &["create", &escape],
                    &["mkdir", &escape],
                    &["rename", "/data/a", &escape],
                    &["rename", &way, "/data/stolen"],
                    &["unlink", &way],
                    &["link", "/data/a", &escape],
                    &["link", &way, "/data/stolen"],
                ] {
                    assert_eq!(run(words).status, Some(1), "{words:?}");
                }
            }
            let after =
                (fs::read_to_string(&outside).unwrap(), outside.metadata().unwrap().modified().unwrap());
            assert_eq!(after, before, "{way}");
            assert!(!folder.join("stolen").exists() && !bed.folder().join("outside-new").exists());
        }
        // A link that the guest creates does not lead out either; an absolute link cannot be created.
        assert_eq!(run(&["symlink", text(&outside), "/data/own"]).status, Some(1));
        let _ = run(&["symlink", "../outside", "/data/own"]);
        assert_eq!(run(&["read", "/data/own"]).status, Some(1));
        // The guest cannot name paths outside the granted folders, and each folder keeps its own rights.
        assert_eq!(run(&["read", text(&outside)]).status, Some(1));
        assert_eq!(run(&["read", "/etc/passwd"]).status, Some(1));
        let two = |words: &[&str]| {
            let dirs = ["--dir", "granted::/data", "--dir", "other::/other::ro", text(&program)];
            bed.run([&dirs, words].concat())
        };
        two(&["rename", "/data/a", "/data/moved"]).ok();
        for words in [
            &["rename", "/data/b", "/other/new"][..],
            &["rename", "/other/b", "/data/new"],
            &["link", "/other/b", "/data/new"],
            &["link", "/data/b", "/other/new"],
            &["unlink", "/other/b"],
        ] {
            assert_eq!(two(words).status, Some(1), "{words:?}");
        }
        assert_eq!(two(&["list", "/other"]).ok(), "a\nb\nd\n");
    }
}

#[test]
fn variables_are_those_that_were_granted() {
    let bed = Bed::bare();
    for args in [guests::p1("args"), guests::p2("args")] {
        let told = bed.run(["--env", "LANG=xx", "--env", "PATH", text(&args)]).ok();
        let path = format!("PATH={}\n", std::env::var("PATH").unwrap());
        assert!(told.contains("LANG=xx\n") && told.contains(&path), "{told}");
        assert!(!told.contains("GHOST_HOME"), "{told}");
        let bare = bed.run([text(&args)]).ok();
        assert!(!bare.contains('='), "{bare}");
    }
}

#[test]
fn the_network_of_nodes_is_granted_or_not() {
    let bed = Bed::stocked();
    bed.upload("messenger", &guests::p2("messenger"));
    let _b = bed.node("b");
    assert_eq!(bed.run(["--name=a", "--grant=nodes", "messenger.here()"]).ok(), "\"a\"\n");
    assert_eq!(bed.run(["--grant=nodes", r#"messenger.connect("b")"#]).ok(), "ok\n");
    for call in ["messenger.here()", "messenger.connected()"] {
        bed.run(["--name=a", call]).fails("NOT_PERMITTED");
    }
    // Imports that return a `result` give the guest the error as a value.
    for call in
        ["messenger.discover()", r#"messenger.connect("b")"#, r#"messenger.run("b", "math.add(1, 2)")"#]
    {
        let told = bed.run(["--name=a", call]).ok();
        assert!(told.starts_with("err(\"NOT_PERMITTED"), "{call}: {told}");
    }
    // Other grants do not include this one.
    for grant in [["--env", "A=1"], ["--allow-net", "127.0.0.1:1"]] {
        bed.run([grant[0], grant[1], "messenger.here()"]).fails("NOT_PERMITTED");
    }
}

/// A directory listing contains what existed when it started, even if entries are removed meanwhile.
#[test]
fn what_is_listed_may_be_removed() {
    let bed = Bed::bare();
    let folder = bed.folder().join("granted");
    fs::create_dir(&folder).unwrap();
    for program in [guests::p1("files"), guests::p2("files")] {
        for count in [0, 1, 500, 20_000] {
            for number in 0..count {
                fs::write(folder.join(format!("some-file-{number}")), "").unwrap();
            }
            let run =
                |words: &[&str]| bed.run([&["--dir", "granted::/data", text(&program)], words].concat());
            assert_eq!(run(&["count", "/data"]).ok(), format!("{count}\n"), "{}", program.display());
            assert_eq!(run(&["clear", "/data"]).ok(), "0 left\n", "{count} files, {}", program.display());
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        }
    }
}

/// A folder that is too large to list fails with a limit; the listing is not cut short.
#[test]
fn a_listing_is_bounded() {
    let bed = Bed::bare();
    let folder = bed.folder().join("granted");
    fs::create_dir(&folder).unwrap();
    // The names are long, so that 62,000 of them exceed 16 MiB.
    for number in 0..62_000 {
        fs::File::create(folder.join(format!("{number:0>250}"))).unwrap();
    }
    let ended = bed.run(["--dir", "granted::/data", text(&guests::p1("files")), "count", "/data"]);
    assert!(ended.fails("LIMIT_EXCEEDED").contains("16 MiB"));
}
