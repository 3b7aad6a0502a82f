//! Functions that run as async tasks.
//!
//! In: values of many shapes. Out: values, and what the functions do with WASI 0.3: output, files, addresses.

use std::cell::Cell;
use std::fmt::Debug;

use futures::join;
use wasip3::cli::stdout;
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket};

wit_bindgen::generate!({ path: ["../../../wit", "wit"], world: "tests:tasks/tasks", generate_all });

use exports::tests::tasks::shapes::{Access, Guest as Shapes, Person, Shape, Twelve, Wide};

struct Tasks;

export!(Tasks);

/// Lets other tasks run, so that the result is not there when the call begins.
async fn rest() {
    wait_for(1000).await;
}

impl Shapes for Tasks {
    async fn nothing() {
        rest().await;
    }

    async fn add(a: i32, b: i32) -> i32 {
        a + b
    }

    async fn greet(name: String) -> String {
        rest().await;
        format!("hello {name}")
    }

    async fn same_bytes(v: Vec<u8>) -> Vec<u8> {
        v
    }

    async fn same_person(v: Person) -> Person {
        rest().await;
        v
    }

    async fn same_shape(v: Shape) -> Shape {
        v
    }

    async fn same_access(v: Access) -> Access {
        v
    }

    async fn same_wide(v: Wide) -> Wide {
        rest().await;
        v
    }

    async fn maybe(v: Option<String>) -> Option<String> {
        v
    }

    async fn checked(v: String) -> Result<(u8, f64), String> {
        v.parse().map(|number: u8| (number, f64::from(number) / 2.0)).map_err(|_| format!("no number: {v}"))
    }

    async fn same_twelve(v: Twelve) -> Twelve {
        v
    }

    fn twice(v: String) -> String {
        v.repeat(2)
    }
}

thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

impl Guest for Tasks {
    async fn count() -> u32 {
        rest().await;
        COUNT.set(COUNT.get() + 1);
        COUNT.get()
    }

    async fn sum(most: u32) -> u64 {
        let (mut to, mut from) = wasip3::wit_stream::new::<u8>();
        let write = async {
            for number in 0..most {
                to.write_all(number.to_le_bytes().to_vec()).await;
            }
            drop(to);
        };
        let read = async {
            let (mut sum, mut bytes) = (0, Vec::new());
            while let Some(byte) = from.next().await {
                bytes.push(byte);
                if let Ok(number) = <[u8; 4]>::try_from(bytes.as_slice()) {
                    sum += u64::from(u32::from_le_bytes(number));
                    bytes.clear();
                }
            }
            sum
        };
        join!(write, read).1
    }

    async fn say(text: String) {
        let (mut to, from) = wasip3::wit_stream::new();
        let written = stdout::write_via_stream(from);
        to.write_all(text.into_bytes()).await;
        drop(to);
        let _ = written.await;
    }

    async fn nap(milliseconds: u32) -> String {
        wait_for(u64::from(milliseconds) * 1_000_000).await;
        format!("slept {milliseconds} ms")
    }

    async fn forever() {
        Tasks::say("begun\n".to_owned()).await;
        wait_for(3_600_000_000_000).await;
    }

    async fn stuck() {
        let (to, mut from) = wasip3::wit_stream::new::<u8>();
        from.next().await;
        drop(to);
    }

    async fn spin() {
        Tasks::say("begun\n".to_owned()).await;
        loop {
            std::hint::spin_loop();
        }
    }

    async fn trap() {
        rest().await;
        panic!("as asked");
    }

    async fn grow(bytes: u32) -> u32 {
        rest().await;
        let block = vec![1u8; bytes as usize];
        block.iter().map(|byte| u32::from(*byte)).sum()
    }

    async fn read_file(path: String) -> Result<String, String> {
        let file = open(&path, OpenFlags::empty(), DescriptorFlags::READ).await?;
        let (from, read) = file.read_via_stream(0);
        let bytes = from.collect().await;
        read.await.map_err(text)?;
        String::from_utf8(bytes).map_err(text)
    }

    async fn write_file(path: String, content: String) -> Result<(), String> {
        let file = open(&path, OpenFlags::CREATE | OpenFlags::TRUNCATE, DescriptorFlags::WRITE).await?;
        let (mut to, from) = wasip3::wit_stream::new();
        let written = file.write_via_stream(from, 0);
        let write = async {
            to.write_all(content.into_bytes()).await;
            drop(to);
        };
        join!(write, written.into_future()).1.map_err(text)
    }

    async fn look_up(name: String) -> Result<u32, String> {
        Ok(resolve_addresses(name).await.map_err(text)?.len() as u32)
    }

    async fn dial(port: u16) -> Result<String, String> {
        let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(text)?;
        let address = Ipv4SocketAddress { port, address: (127, 0, 0, 1) };
        socket.connect(IpSocketAddress::Ipv4(address)).await.map_err(text)?;
        let (from, ended) = socket.receive();
        let bytes = from.collect().await;
        ended.await.map_err(text)?;
        String::from_utf8(bytes).map_err(text)
    }

    async fn listen() -> Result<(), String> {
        let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(text)?;
        socket.listen().map(drop).map_err(text)
    }

    async fn random(count: u32) -> u32 {
        wasip3::random::random::get_random_bytes(u64::from(count)).len() as u32
    }

    async fn relay(node: String, call: String) -> Result<Option<String>, String> {
        rest().await;
        gvm::node::nodes::run(&node, &call).map_err(|error| error.code)
    }

    async fn swallow(data: wit_bindgen::StreamReader<u8>) -> u64 {
        data.collect().await.len() as u64
    }

    async fn later() -> wit_bindgen::FutureReader<String> {
        let (to, from) = wit_future::new(|| "never".to_owned());
        drop(to);
        from
    }
}

async fn open(path: &str, how: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, String> {
    let folders = get_directories();
    let (folder, _) = folders.first().ok_or("no folder is granted")?;
    folder.open_at(PathFlags::empty(), path.to_owned(), how, flags).await.map_err(text)
}

fn text(error: impl Debug) -> String {
    format!("{error:?}")
}
