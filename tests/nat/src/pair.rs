//! Two devices behind two routers, from nothing to calls.
//!
//! In: the kinds of the routers, the way that is expected. Out: a row of figures. Must not know: other pairs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use patchbay::{Lab, RouterPreset};

use crate::device::Device;

/// How the packets travel in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Tcp,
    /// By iroh, through the NATs.
    Direct,
    Relayed,
    /// By iroh, either of the two.
    Any,
}

/// How long a direct way may take to be found.
const PUNCH: Duration = Duration::from_secs(10);

/// How long to look whether the way changes, where it should not.
const SETTLE: Duration = Duration::from_secs(3);

/// From nothing to the first result: what the product promises.
const RESULT: Duration = Duration::from_secs(10);

/// The calls of one measurement.
const CALLS: usize = 200;

/// Two devices.
pub struct Pair {
    pub programs: PathBuf,
    pub left: RouterPreset,
    pub right: RouterPreset,
}

/// What was measured.
pub struct Row {
    join: Duration,
    result: Duration,
    direct: Option<Duration>,
    call: Duration,
    bulk: f64,
    way: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let direct = self.direct.map_or_else(|| "–".into(), seconds);
        write!(
            f,
            "{:>8}  {:>8}  {:>8}  {:>7.0} µs  {:>4.0} MB/s  {}",
            seconds(self.join),
            seconds(self.result),
            direct,
            self.call.as_secs_f64() * 1e6,
            self.bulk,
            self.way
        )
    }
}

/// A module that adds, and one that returns the bytes that it gets.
pub const MODULE: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;

/// Starts a relay on a host of the internet. Returns its line.
pub async fn relay(lab: &Lab, programs: &Path) -> Result<(Device, String)> {
    let internet = lab.add_router("internet").preset(RouterPreset::Public).build().await?;
    let host = lab.add_device("relay").iface("eth0", internet.id()).build().await?;
    let at = host.ip().context("the relay has no address")?.to_string();
    let mut relay = Device::new(host, programs)?;
    // The port that every firewall lets pass.
    let line = relay.start("gpmd", &["relay", "--port", "443", "--host", &at], "gvm-relay:").await?;
    let line = line.split_whitespace().last().context("no line")?.to_owned();
    Ok((relay, line))
}

impl Pair {
    /// Makes the network and measures it.
    ///
    /// # Errors
    /// If something does not work, or works by another way than expected.
    pub async fn measure(self, expected: Way) -> Result<Row> {
        let lab = Lab::new().await?;
        let (mut relay, line) = relay(&lab, &self.programs).await?;
        let left = lab.add_router("left").preset(self.left).build().await?;
        let right = lab.add_router("right").preset(self.right).build().await?;
        let laptop = lab.add_device("laptop").iface("eth0", left.id()).build().await?;
        let pi = lab.add_device("pi").iface("eth0", right.id()).build().await?;
        let mut laptop = Device::new(laptop, &self.programs)?;
        let mut pi = Device::new(pi, &self.programs)?;
        let row = measured(&mut laptop, &mut pi, &line, expected).await;
        laptop.end().await;
        pi.end().await;
        relay.end().await;
        row
    }
}

async fn measured(laptop: &mut Device, pi: &mut Device, relay: &str, expected: Way) -> Result<Row> {
    laptop.run("gpmd", &["start", "--device", "laptop", "--relay", relay]).await?;
    let begun = Instant::now();
    let invited = laptop.run("gpmd", &["invite"]).await?;
    let line =
        invited.split_whitespace().find(|word| word.starts_with("gvm-join:")).context("no line")?.to_owned();
    pi.run("gpmd", &["start", "--device", "pi"]).await?;
    let joining = Instant::now();
    pi.run("gpmd", &["join", &line]).await?;
    let join = joining.elapsed();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("math.wat");
    std::fs::write(&file, MODULE)?;
    let file = format!("--file={}", file.display());
    laptop.run("gpmd", &["wasm", "upload", "--name=math", "--version=1.0.0", &file]).await?;
    pi.node("study")?;
    laptop.until(Duration::from_secs(10), |pi| pi["nodes"] == 1).await?.context("the node is not seen")?;
    let said =
        laptop.run("gvm", &["eval", "Node.connect(study@pi)", "Node.run(study@pi, math.add(1,2))"]).await?;
    ensure!(said.trim().ends_with('3'), "a call: {said}");
    let result = begun.elapsed();
    ensure!(result < RESULT, "the first result took {result:?}");
    let way = |device: &serde_json::Value| device["transport"].as_str().unwrap_or("-").to_owned();
    let direct = match expected {
        Way::Direct | Way::Any => laptop.until(PUNCH, |pi| way(pi) == "iroh").await?,
        Way::Tcp | Way::Relayed => {
            tokio::time::sleep(SETTLE).await;
            None
        }
    };
    let way = way(&laptop.other().await?);
    let is_expected = match expected {
        Way::Tcp => way == "tcp",
        Way::Direct => way == "iroh",
        Way::Relayed => way == "relayed",
        Way::Any => way != "tcp",
    };
    ensure!(is_expected, "the way is {way}");
    let call = calls(laptop).await?;
    let bulk = bulk(laptop).await?;
    Ok(Row { join, result, direct, call, bulk, way })
}

/// Returns the time of one call, from many in one session.
async fn calls(laptop: &Device) -> Result<Duration> {
    let one = "Node.run(study@pi, math.add(1,2))";
    let time = async |count: usize| {
        let mut words = vec!["eval", "Node.connect(study@pi)"];
        words.extend(std::iter::repeat_n(one, count));
        let begun = Instant::now();
        let said = laptop.run("gvm", &words).await?;
        ensure!(
            said.lines().filter(|line| *line == "3").count() == count,
            "some calls have no result: {said}"
        );
        anyhow::Ok(begun.elapsed())
    };
    let (few, many) = (time(1).await?, time(CALLS + 1).await?);
    Ok(many.saturating_sub(few) / CALLS as u32)
}

/// Returns how many megabytes of a module per second come from the other device.
async fn bulk(laptop: &Device) -> Result<f64> {
    const SIZE: usize = 16 << 20;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("large.wat");
    // A custom data segment that nothing can compress.
    let mut state = 1_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let bytes: String = (0..SIZE / 2).map(|_| char::from(b'a' + (next() % 26) as u8)).collect();
    std::fs::write(&file, format!("(module (memory 160) (data \"{bytes}\") (data \"{bytes}\"))"))?;
    let file = format!("--file={}", file.display());
    laptop.run("gpmd", &["--on", "pi", "wasm", "upload", "--name=large", "--version=1.0.0", &file]).await?;
    let out = folder.path().join("large.wasm").display().to_string();
    let begun = Instant::now();
    laptop.run("gpmd", &["--on", "pi", "wasm", "get", "large", "--out", &out]).await?;
    Ok(SIZE as f64 / 1e6 / begun.elapsed().as_secs_f64())
}
