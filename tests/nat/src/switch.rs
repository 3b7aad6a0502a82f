//! A device that goes from its Wi-Fi to a mobile network in the middle of calls.
//!
//! In: a device with two interfaces. Out: how long no call had a result. Must not know: pairs of routers.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use patchbay::{Lab, RouterPreset};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::{sleep, timeout};

use crate::device::Device;
use crate::pair::{MODULE, relay};

/// The longest time without a result.
const GAP: Duration = Duration::from_secs(2);

/// The pause between two calls, and their number.
const PAUSE: Duration = Duration::from_millis(50);
const CALLS: usize = 200;

/// Makes the network and measures it.
///
/// # Errors
/// If a call has no outcome, or there is no result for too long.
pub async fn measure(programs: &Path) -> Result<String> {
    let lab = Lab::new().await?;
    let (mut relay, line) = relay(&lab, programs).await?;
    let home = lab.add_router("home").preset(RouterPreset::Home).build().await?;
    let far = lab.add_router("far").preset(RouterPreset::Home).build().await?;
    let mobile = lab.add_router("mobile").preset(RouterPreset::IspCgnat).build().await?;
    let phone = lab
        .add_device("phone")
        .iface("wifi", home.id())
        .iface("mobile", mobile.id())
        .default_via("wifi")
        .build()
        .await?;
    let pi = lab.add_device("pi").iface("eth0", far.id()).build().await?;
    let (mut phone, mut pi) = (Device::new(phone, programs)?, Device::new(pi, programs)?);
    let row = measured(&mut phone, &mut pi, &line).await;
    phone.end().await;
    pi.end().await;
    relay.end().await;
    row
}

async fn measured(phone: &mut Device, pi: &mut Device, relay: &str) -> Result<String> {
    pi.run("gpmd", &["start", "--device", "pi", "--relay", relay]).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("math.wat");
    std::fs::write(&file, MODULE)?;
    let file = format!("--file={}", file.display());
    pi.run("gpmd", &["wasm", "upload", "--name=math", "--version=1.0.0", &file]).await?;
    pi.node("study")?;
    let invited = pi.run("gpmd", &["invite"]).await?;
    let line =
        invited.split_whitespace().find(|word| word.starts_with("gvm-join:")).context("no line")?.to_owned();
    phone.run("gpmd", &["start", "--device", "phone"]).await?;
    phone.run("gpmd", &["join", &line]).await?;
    phone.until(Duration::from_secs(10), |pi| pi["nodes"] == 1).await?.context("the node is not seen")?;
    phone.until(Duration::from_secs(10), |pi| pi["transport"] == "iroh").await?.context("no direct way")?;

    let mut command = phone.command("gvm", &[]);
    command.stdin(Stdio::piped());
    let mut child = phone.host.spawn_command(command)?;
    let mut input = child.stdin.take().context("no input")?;
    let mut output = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mut errors = BufReader::new(child.stderr.take().context("no errors")?).lines();
    let reading = tokio::spawn(async move {
        let mut results = Vec::new();
        while let Ok(Some(line)) = output.next_line().await {
            if line == "3" {
                results.push(Instant::now());
            }
        }
        results
    });
    let failing = tokio::spawn(async move {
        let mut failed = Vec::new();
        while let Ok(Some(line)) = errors.next_line().await {
            if line
                .split(':')
                .next()
                .is_some_and(|code| code.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
            {
                failed.push(line);
            }
        }
        failed
    });
    input.write_all(b"Node.connect(study@pi)\n").await?;
    let mut switched = None;
    for call in 0..CALLS {
        if call == CALLS / 3 {
            let wifi = phone.host.iface("wifi").context("no Wi-Fi")?;
            switched = Some(Instant::now());
            wifi.link_down().await?;
            phone.host.set_default_route("mobile").await?;
        }
        input.write_all(b"Node.run(study@pi, math.add(1,2))\n").await?;
        sleep(PAUSE).await;
    }
    drop(input);
    timeout(Duration::from_secs(60), child.wait()).await.context("the calls do not end")??;
    let (results, failed) = (reading.await?, failing.await?);
    ensure!(
        results.len() + failed.len() >= CALLS,
        "{} calls have a result and {} fail, of {CALLS}",
        results.len(),
        failed.len()
    );
    let switched = switched.context("it did not switch")?;
    let before = results.iter().rfind(|at| **at <= switched).context("no result before the switch")?;
    let after = results.iter().find(|at| **at > switched).context("no result after the switch")?;
    let gap = results.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let why = failed.first().map(|first| format!(" (first: {first})")).unwrap_or_default();
    let row = format!(
        "from Wi-Fi to mobile: {:.2} s from the last result to the next, {:.2} s at most; {} of {CALLS} calls failed{why}",
        (*after - *before).as_secs_f64(),
        gap.as_secs_f64(),
        failed.len()
    );
    ensure!(gap < GAP + PAUSE, "{row}");
    Ok(row)
}
