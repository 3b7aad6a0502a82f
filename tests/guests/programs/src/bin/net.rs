//! In: a command with addresses or a name. Out: the result of the command. On an error, it prints the kind of
//! error and exits with status 1.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Err(error) = run(&words) {
        println!("error: {:?}", error.kind());
        std::process::exit(1);
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["tcp", address] => {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"ping")?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            println!("tcp {answer}");
        }
        ["udp", own, address] => {
            let socket = UdpSocket::bind(own)?;
            socket.send_to(b"ping", address)?;
            let mut answer = [0; 64];
            let (count, from) = socket.recv_from(&mut answer)?;
            println!("udp {} from {from}", String::from_utf8_lossy(&answer[..count]));
        }
        // The stranger sends before the granted address does. Only the packet of the latter arrives.
        ["udp-stranger", own, address, stranger] => {
            let socket = UdpSocket::bind(own)?;
            println!("to stranger {:?}", socket.send_to(b"ping", stranger).map_err(|error| error.kind()));
            println!("to granted {:?}", socket.send_to(b"relay", address).map_err(|error| error.kind()));
            let mut answer = [0; 64];
            let (count, _) = socket.recv_from(&mut answer)?;
            println!("first {}", String::from_utf8_lossy(&answer[..count]));
        }
        ["udp-connected", own, address] => {
            let socket = UdpSocket::bind(own)?;
            socket.connect(address)?;
            socket.send(b"ping")?;
            let mut answer = [0; 64];
            let count = socket.recv(&mut answer)?;
            println!("udp {}", String::from_utf8_lossy(&answer[..count]));
        }
        ["listen", address] => {
            let listener = TcpListener::bind(address)?;
            println!("listens at {}", listener.local_addr()?);
        }
        ["bind-udp", address] => {
            UdpSocket::bind(address)?;
            println!("bound");
        }
        ["lookup", name] => {
            let mut found: Vec<_> = (*name, 1).to_socket_addrs()?.map(|found| found.ip()).collect();
            found.sort();
            found.dedup();
            println!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        }
        other => panic!("no such command: {other:?}"),
    }
    Ok(())
}
