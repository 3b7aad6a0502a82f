//! A host of the simulated network that runs the programs of this repository.
//!
//! In: a host of `patchbay`, the programs. Out: commands that run there, with their output; a daemon and a relay that end with
//! the value. Must not know: the routers.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// A host with a home.
pub struct Device {
    pub host: patchbay::Device,
    home: TempDir,
    programs: PathBuf,
    running: Vec<Child>,
}

impl Device {
    /// Makes a home for a host.
    pub fn new(host: patchbay::Device, programs: &Path) -> Result<Device> {
        Ok(Device { host, home: tempfile::tempdir()?, programs: programs.into(), running: Vec::new() })
    }

    /// Returns a command of this repository that will run on the host.
    pub fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(words)
            .env("GHOST_HOME", self.home.path().join("home"))
            .env("GPMD_MDNS", "off")
            .kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end and returns what it prints.
    ///
    /// # Errors
    /// If it fails or takes too long.
    pub async fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        let child = self.host.spawn_command(self.command(program, words))?;
        let ended = timeout(PATIENCE, child.wait_with_output()).await;
        let ended = ended.with_context(|| format!("{program} {words:?} takes too long"))??;
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        ensure!(
            ended.status.success(),
            "{program} {words:?}: {}",
            String::from_utf8_lossy(&ended.stderr).trim()
        );
        Ok(said)
    }

    /// Starts a program that goes on, and returns its first line that contains a text.
    ///
    /// # Errors
    /// If it ends before, or takes too long.
    pub async fn start(&mut self, program: &str, words: &[&str], until: &str) -> Result<String> {
        let mut command = self.command(program, words);
        command.stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = self.host.spawn_command(command)?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let reading = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(until) {
                    return Ok(line);
                }
            }
            bail!("{program} {words:?} has ended")
        };
        let line = timeout(PATIENCE, reading).await.context("it does not start")??;
        // Its output is read to the end, so that it can go on.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        self.running.push(child);
        Ok(line)
    }

    /// Starts a node that goes on.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn node(&mut self, name: &str) -> Result<()> {
        let mut command = self.command("gvm", &["--name", name]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.running.push(self.host.spawn_command(command)?);
        Ok(())
    }

    /// Returns what this device knows about the only other one.
    pub async fn other(&self) -> Result<Json> {
        let status: Json = serde_json::from_str(&self.run("gpmd", &["devices", "--json"]).await?)?;
        let devices = status["devices"].as_array().context("no devices")?;
        devices.iter().find(|device| device["own"] == false).cloned().context("there is no other device")
    }

    /// Waits until a condition holds for what is known about the other device. Returns how long that took.
    pub async fn until(&self, within: Duration, is_so: impl Fn(&Json) -> bool) -> Result<Option<Duration>> {
        let begun = Instant::now();
        loop {
            if is_so(&self.other().await?) {
                return Ok(Some(begun.elapsed()));
            }
            if begun.elapsed() > within {
                return Ok(None);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops the daemon.
    pub async fn end(&mut self) {
        let _ = self.run("gpmd", &["kill"]).await;
        for mut child in self.running.drain(..) {
            let _ = child.kill().await;
        }
    }
}
