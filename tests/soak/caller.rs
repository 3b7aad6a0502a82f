//! A caller: a node that calls all others, in a process of its own on its device.
//!
//! In: names of nodes, and `rest`, `go` and `end` on standard input. Out: what happened, as lines on standard output. Each
//! result, output and effect of a call is checked. Must not know: what is done to the other nodes.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gvm_host::{
    Args, Call, Code, Compiler, Config, Dir, Effect, Engine, EngineConfig, Error, Grants, Handle, Home,
    Limits, List, ModuleRef, Name, NodeName, Outcome, Stdio, Target, Value, compiler, workers,
};
use tokio::sync::watch;

use crate::dice::Dice;
use crate::tally::Tally;

pub const NAME: &str = "GVM_SOAK_CALLER";
pub const NODES: &str = "GVM_SOAK_NODES";
pub const MARKS: &str = "GVM_SOAK_MARKS";
pub const NUMBER: &str = "GVM_SOAK_NUMBER";
pub const DEVICE: &str = "GVM_SOAK_DEVICE";

/// What comes before a line for the parent, because the test harness prints other lines.
pub const MARKER: char = '@';

/// Tasks that call at the same time.
const TASKS: usize = 5;

/// A call that takes longer hangs. A lost connection is known after 10 seconds, and connecting again may take as long.
const BOUND: Duration = Duration::from_secs(30);

/// The most time between two calls of a task, so that the programs compete less for the processor.
const PAUSE: Duration = Duration::from_millis(25);

/// How long a call without end may take.
const SPIN: Duration = Duration::from_millis(40);

/// What the guest prints.
const LINE: &[u8] = b"a line of sixty-four bytes, which is what the guest prints here\n";

/// Codes that calls may have while other programs die. None of them lets a guest start.
const MISSING: [Code; 8] = [
    Code::GpmdNotRunning,
    Code::NodeNotFound,
    Code::NodeNotConnected,
    Code::NodeNameAmbiguous,
    Code::DeviceDown,
    Code::DeviceNotFound,
    Code::ModuleNotFound,
    Code::Overloaded,
];

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Work,
    Rest,
    End,
}

struct Caller {
    node: Handle,
    nodes: Vec<NodeName>,
    /// A folder for each device, which its nodes grant.
    marks: PathBuf,
    tally: Mutex<Tally>,
    resting: AtomicUsize,
    /// The number of the next file.
    next: AtomicU64,
    /// Files that must not exist, ever, because their calls did not start.
    never: Mutex<Vec<u64>>,
}

/// A live instance, and between which numbers its counter is.
struct Live {
    name: Name,
    least: i32,
    most: i32,
    calls: u32,
}

pub fn main() {
    let var = |name| std::env::var(name).unwrap();
    let number: u64 = var(NUMBER).parse().unwrap();
    let marks = PathBuf::from(var(MARKS));
    let runtime = workers().unwrap();
    let (phase, phases) = watch::channel(Phase::Work);
    runtime.block_on(async {
        let home = Home::open(PathBuf::from(var("GHOST_HOME"))).unwrap();
        let compiler = Compiler::program(env!("CARGO_BIN_EXE_gvm")).args([compiler::WORD]);
        let engine = Engine::new(EngineConfig::new(home.compiled(), compiler));
        let here = marks.join(var(DEVICE));
        let dir = Dir { host: here, guest: "/marks".into(), read_only: false };
        let grants = Grants { dirs: vec![dir], nodes: true, ..Grants::default() };
        let config = Config::new(home, engine).name(var(NAME).parse().unwrap()).grants(grants);
        let caller = Arc::new(Caller {
            node: Handle::start(config).await.unwrap(),
            nodes: var(NODES).split(',').map(|name| name.parse().unwrap()).collect(),
            marks,
            tally: Mutex::default(),
            resting: AtomicUsize::new(0),
            next: AtomicU64::new(number * 1_000_000_000_000 + 1),
            never: Mutex::default(),
        });
        let tasks: Vec<_> =
            (0..TASKS).map(|_| tokio::spawn(caller.clone().work(Dice::new(), phases.clone()))).collect();
        let mut reporting = phases.clone();
        let told = std::thread::spawn(move || obey(&phase));
        loop {
            let _ = tokio::time::timeout(Duration::from_millis(500), reporting.changed()).await;
            caller.report();
            let now = *reporting.borrow();
            if now != Phase::Work && caller.resting.load(Ordering::Relaxed) == TASKS {
                caller.forget();
                say("rested");
                match now {
                    Phase::End => break,
                    _ => drop(reporting.wait_for(|phase| *phase != Phase::Rest).await),
                }
            }
        }
        for task in tasks {
            if let Err(error) = task.await {
                caller.fault(format!("a call has no outcome: {error}"));
            }
        }
        for number in caller.never.lock().unwrap().iter() {
            if caller.places(*number).next().is_some() {
                caller.fault(format!("call {number} did not start, it said, but it ran"));
            }
        }
        caller.report();
        caller.node.shut_down().await;
        say("ended");
        let _ = told.join();
    });
}

/// Follows the words on standard input. The end of it means the end.
fn obey(phase: &watch::Sender<Phase>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "rest" => drop(phase.send(Phase::Rest)),
            "go" => drop(phase.send(Phase::Work)),
            _ => break,
        }
    }
    let _ = phase.send(Phase::End);
}

fn say(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\n{MARKER}{text}").and_then(|()| out.flush());
}

impl Caller {
    fn report(&self) {
        say(self.tally.lock().unwrap().take());
    }

    fn fault(&self, what: String) {
        self.tally.lock().unwrap().fault(what);
    }

    /// Forgets the instances, also those that could not be dropped because their node did not answer.
    fn forget(&self) {
        let left = self.node.instances();
        if left.len() > TASKS * self.nodes.len() {
            self.fault(format!("{} instances are left", left.len()));
        }
    }

    async fn work(self: Arc<Self>, mut dice: Dice, mut phases: watch::Receiver<Phase>) {
        let mut live = HashMap::new();
        loop {
            let now = *phases.borrow();
            if now != Phase::Work {
                for (_, held) in live.drain() {
                    self.drop_live(held).await;
                }
                self.resting.fetch_add(1, Ordering::Relaxed);
                if now == Phase::End || phases.wait_for(|phase| *phase != Phase::Rest).await.is_err() {
                    return;
                }
                self.resting.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            tokio::time::sleep(Duration::from_micros(dice.below(PAUSE.as_micros() as u64))).await;
            let place = dice.below(self.nodes.len() as u64) as usize;
            let node = self.nodes[place].clone();
            match dice.below(100) {
                0..25 => self.add(&node, &mut dice).await,
                25..45 => self.mark(&node).await,
                45..65 => self.count(&node, &mut live).await,
                65..75 => self.bulk(&node, &mut dice).await,
                75..83 => self.print(&node, &mut dice).await,
                83..90 => self.relay(&node, &mut dice).await,
                90..94 => self.spin(&node, &mut dice).await,
                94..96 => self.discover().await,
                96..98 => self.list().await,
                _ => self.disconnect(&node).await,
            }
        }
    }

    /// Waits for what has an end. Records how long it took and how it ended.
    async fn timed<T>(
        &self,
        kind: &str,
        node: &NodeName,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Option<Result<T, Error>> {
        let began = Instant::now();
        let Ok(result) = tokio::time::timeout(BOUND, work).await else {
            self.tally.lock().unwrap().call(kind, BOUND, "hung");
            self.fault(format!("{kind} on {node} hung for {BOUND:?}"));
            return None;
        };
        let outcome = match &result {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{} ({})", error.code(), error.effect().as_str()),
        };
        self.tally.lock().unwrap().call(kind, began.elapsed(), &outcome);
        if let Err(error) = &result {
            self.judge(kind, node, error);
        }
        Some(result)
    }

    /// Checks that a failure may happen and has the right class.
    fn judge(&self, kind: &str, node: &NodeName, error: &Error) {
        let wrong = match error.code() {
            code if MISSING.contains(&code) => error.effect() != Effect::NotStarted,
            Code::NodeDown | Code::Timeout | Code::Cancelled | Code::ConnectionDenied => false,
            Code::InstanceNotFound => kind != "live" && kind != "drop",
            Code::Trap => true,
            _ => true,
        };
        if wrong {
            let context = error.context().unwrap_or_default();
            let class = error.effect().as_str();
            self.fault(format!(
                "{kind} on {node}: {} ({class}): {} {context}",
                error.code(),
                error.message()
            ));
        }
    }

    /// Makes a call, and connects to the node for the next one if that is what it lacks.
    async fn call(
        &self,
        kind: &str,
        node: &NodeName,
        call: Call,
        stdio: Stdio,
    ) -> Option<Result<Outcome, Error>> {
        let running = async {
            let outcome = self.node.run(Some(node.clone()), call, stdio).await;
            match outcome.result {
                Ok(value) => Ok(Outcome { result: Ok(value), ..outcome }),
                Err(error) => Err(error),
            }
        };
        let ended = self.timed(kind, node, running).await;
        if let Some(Err(error)) = &ended
            && error.code() == Code::NodeNotConnected
        {
            self.timed("connect", node, self.node.connect(node.clone())).await;
        }
        ended
    }

    /// Calls a function without output, and returns its result.
    async fn simple(
        &self,
        kind: &str,
        node: &NodeName,
        module: ModuleRef,
        function: &str,
        args: Vec<Value>,
    ) -> Option<Result<Option<Value>, Error>> {
        let call = Call::new(Target::function(module, function), Args::Values(args));
        let ended = self.call(kind, node, call, Stdio::new(&Limits::default())).await?;
        Some(ended.and_then(|outcome| outcome.result))
    }

    async fn add(&self, node: &NodeName, dice: &mut Dice) {
        let (a, b) = (dice.below(u64::MAX) as i64, dice.below(u64::MAX) as i64);
        let args = vec![Value::S64(a), Value::S64(b)];
        let ended = self.simple("fresh", node, stored("soak"), "add", args).await;
        let expected = Some(Value::S64(a.wrapping_add(b)));
        if let Some(Ok(value)) = ended
            && value != expected
        {
            self.fault(format!("{a} + {b} is {value:?} on {node}"));
        }
    }

    /// Makes a call with an effect that can be seen.
    async fn mark(&self, node: &NodeName) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let args = vec![Value::S64(number as i64)];
        let Some(ended) = self.simple("effect", node, stored("soak"), "mark", args).await else { return };
        let failed = match ended {
            Ok(value) => {
                if value != Some(Value::S64(number as i64)) {
                    self.fault(format!("call {number} on {node} returned {value:?}"));
                }
                None
            }
            Err(error) => Some(error.effect()),
        };
        self.seen(number, failed, node);
    }

    /// Returns the files of a call, on any device.
    fn places(&self, number: u64) -> impl Iterator<Item = PathBuf> {
        let folders = std::fs::read_dir(&self.marks).unwrap().flatten();
        folders.map(move |folder| folder.path().join(number.to_string())).filter(|file| file.exists())
    }

    /// Compares the effect of a call with what its outcome says about it.
    fn seen(&self, number: u64, failed: Option<Effect>, node: &NodeName) {
        let there: Vec<PathBuf> = self.places(number).collect();
        let ran = !there.is_empty();
        let folder = self.marks.join(node.device().unwrap_or_default());
        if there.iter().any(|file| !file.starts_with(&folder)) {
            self.fault(format!("call {number} on {node} ran elsewhere: {there:?}"));
        }
        match failed {
            None if !ran => self.fault(format!("call {number} on {node} has a result, but did not run")),
            Some(Effect::NotStarted) if ran => {
                self.fault(format!("call {number} on {node} did not start, it says, but it ran"));
            }
            Some(Effect::RanAndFailed) if !ran => {
                self.fault(format!("call {number} on {node} ran and failed, it says, but it did not run"));
            }
            Some(Effect::NotStarted) => self.never.lock().unwrap().push(number),
            // A call of unknown outcome may still run: its file stays.
            Some(_) => {}
            None => there.iter().for_each(|file| drop(std::fs::remove_file(file))),
        }
    }

    /// Makes a live instance, or calls the one that there is.
    async fn count(&self, node: &NodeName, live: &mut HashMap<NodeName, Live>) {
        let Some(mut held) = live.remove(node) else {
            let spawning =
                self.node.spawn(Some(node.clone()), Target::main(stored("counter")), Limits::default());
            match self.timed("spawn", node, spawning).await {
                Some(Ok(name)) => {
                    live.insert(node.clone(), Live { name, least: 0, most: 0, calls: 0 });
                }
                Some(Err(error)) if error.code() == Code::NodeNotConnected => {
                    self.timed("connect", node, self.node.connect(node.clone())).await;
                }
                _ => {}
            }
            return;
        };
        held.calls += 1;
        let instance = ModuleRef::Instance(held.name.clone());
        let call = Call::new(Target::function(instance, "increment"), Args::default());
        let stdio = Stdio::new(&Limits::default());
        let output = stdio.output.clone();
        let Some(ended) = self.call("live", node, call, stdio).await else { return };
        match ended.and_then(|outcome| outcome.result) {
            Ok(Some(Value::S32(count))) => {
                if !(held.least + 1..=held.most + 1).contains(&count) {
                    let Live { least, most, .. } = held;
                    self.fault(format!("the counter on {node} was {least} to {most}, and is {count}"));
                }
                let said: Vec<u8> = output.take().into_iter().flat_map(|chunk| chunk.data).collect();
                if said != b"counting\n" {
                    self.fault(format!("the counter on {node} printed {:?}", String::from_utf8_lossy(&said)));
                }
                (held.least, held.most) = (count, count);
            }
            Ok(other) => self.fault(format!("the counter on {node} returned {other:?}")),
            Err(error) if error.code() == Code::InstanceNotFound => return,
            Err(error) if error.effect() == Effect::NotStarted => {}
            Err(_) => held.most += 1,
        }
        match held.calls < 12 {
            true => drop(live.insert(node.clone(), held)),
            false => self.drop_live(held).await,
        }
    }

    async fn drop_live(&self, held: Live) {
        let here = self.node.name().clone();
        self.timed("drop", &here, self.node.drop_instance(held.name)).await;
    }

    /// Sends and receives a large value.
    async fn bulk(&self, node: &NodeName, dice: &mut Dice) {
        let (length, seed) = (200_000 + dice.below(1_500_000) as usize, dice.below(1 << 40));
        let bytes: Vec<u8> =
            (0..length as u64).map(|at| (at.wrapping_mul(31) ^ (seed >> (at % 32))) as u8).collect();
        let args = vec![Value::List(List::U8(bytes.clone().into()))];
        let ended = self.simple("bulk", node, stored("values"), "echo-bytes", args).await;
        if let Some(Ok(value)) = ended {
            let whole = matches!(&value, Some(Value::List(List::U8(got))) if got.as_ref() == bytes);
            if !whole {
                self.fault(format!("{length} bytes came back from {node} changed"));
            }
        }
    }

    /// Reads output while it is written.
    async fn print(&self, node: &NodeName, dice: &mut Dice) {
        let lines = 1 + dice.below(8_000) as i32;
        let args = Args::Values(vec![Value::S32(lines)]);
        let call = Call::new(Target::function(stored("soak"), "print"), args);
        let stdio = Stdio::new(&Limits::default());
        let output = stdio.output.clone();
        let (mut got, mut wrong) = (0_usize, false);
        let mut take = |chunks: Vec<gvm_host::Chunk>| {
            for byte in chunks.into_iter().flat_map(|chunk| chunk.data) {
                wrong |= byte != LINE[got % LINE.len()];
                got += 1;
            }
        };
        let calling = self.call("output", node, call, stdio);
        tokio::pin!(calling);
        let ended = loop {
            tokio::select! {
                ended = &mut calling => break ended,
                chunks = output.next() => take(chunks),
            }
        };
        take(output.take());
        let most = lines as usize * LINE.len();
        let whole = match ended.map(|ended| ended.and_then(|outcome| outcome.result)) {
            Some(Ok(value)) => value == Some(Value::S32(lines)) && got == most,
            _ => got <= most,
        };
        if wrong || !whole {
            self.fault(format!("{lines} lines from {node}: {got} bytes of {most}, changed: {wrong}"));
        }
    }

    /// Calls a guest there that calls a guest elsewhere.
    async fn relay(&self, node: &NodeName, dice: &mut Dice) {
        let last = dice.one_of(&self.nodes).clone();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let text = |text: &str| Value::String(text.to_owned());
        let inner = [text(last.as_str()), text(&format!("soak.mark({number})"))];
        let ended = self.simple("nested", node, stored("messenger"), "run", inner.into()).await;
        let said = match ended {
            None => return,
            // The effect of the inner call is not known to a caller that lost the outer one.
            Some(Err(error)) => {
                if error.effect() == Effect::NotStarted {
                    self.seen(number, Some(Effect::NotStarted), node);
                }
                return;
            }
            Some(Ok(Some(Value::Result(said)))) => said,
            Some(Ok(other)) => return self.fault(format!("the guest on {node} returned {other:?}")),
        };
        match said {
            Ok(Some(value)) => {
                let right = Value::Option(Some(Box::new(Value::String(number.to_string()))));
                if *value != right {
                    self.fault(format!("{last} returned {value:?} to the guest on {node}, not {number}"));
                }
                self.seen(number, None, &last);
            }
            Err(Some(value)) => {
                let Value::String(said) = *value else { return self.fault("not a text".to_owned()) };
                // `CODE (Class): message`.
                let (head, message) = said.split_once("): ").unwrap_or((&said, ""));
                let head = &format!("{})", head.replace("Effect::", ""));
                let effect = match head.as_str() {
                    head if head.ends_with("NotStarted)") => Effect::NotStarted,
                    head if head.ends_with("RanAndFailed)") => Effect::RanAndFailed,
                    _ => Effect::Unknown,
                };
                *self.tally.lock().unwrap().outcomes.entry(format!("guest: {head}")).or_default() += 1;
                let known = MISSING.iter().any(|code| head.starts_with(code.as_str()));
                let other = ["NODE_DOWN", "TIMEOUT", "CANCELLED", "CONNECTION_DENIED"];
                if !known && !other.iter().any(|code| head.starts_with(code)) {
                    self.fault(format!("the guest on {node} got {head} from {last}: {message}"));
                }
                self.seen(number, Some(effect), &last);
                if head.starts_with(Code::NodeNotConnected.as_str()) {
                    let args = vec![text(last.as_str())];
                    self.simple("nested connect", node, stored("messenger"), "connect", args).await;
                }
            }
            other => self.fault(format!("the guest on {node} returned {other:?}")),
        }
    }

    /// Makes a call without end, and either gives it a limit or drops it.
    async fn spin(&self, node: &NodeName, dice: &mut Dice) {
        let call = Call::new(Target::function(stored("soak"), "spin"), Args::default());
        let stdio = Stdio::new(&Limits::default());
        if dice.below(2) == 0 {
            // Dropping the future cancels the call.
            let began = Instant::now();
            let running = self.node.run(Some(node.clone()), call, stdio);
            let ended = tokio::time::timeout(SPIN, running).await;
            self.tally.lock().unwrap().call("cancelled", began.elapsed(), "dropped");
            if let Ok(Outcome { result: Ok(value), .. }) = ended {
                self.fault(format!("a call without end on {node} returned {value:?}"));
            }
            return;
        }
        let call = call.limits(Limits { timeout: Some(SPIN), ..Limits::default() });
        if let Some(Ok(outcome)) = self.call("limited", node, call, stdio).await {
            self.fault(format!("a call without end on {node} returned {:?}", outcome.result));
        }
    }

    async fn discover(&self) {
        let here = self.node.name().clone();
        if let Some(Ok(found)) = self.timed("discover", &here, self.node.discover()).await
            && !found.is_sorted_by(|a, b| a.name < b.name)
        {
            let names: Vec<_> = found.iter().map(|node| node.name.as_str()).collect();
            self.fault(format!("discover found {names:?}"));
        }
    }

    async fn list(&self) {
        let here = self.node.name().clone();
        self.timed("list", &here, self.node.list()).await;
    }

    async fn disconnect(&self, node: &NodeName) {
        self.timed("disconnect", node, self.node.disconnect(node.clone())).await;
    }
}

fn stored(name: &str) -> ModuleRef {
    ModuleRef::stored(name.parse::<Name>().unwrap())
}
