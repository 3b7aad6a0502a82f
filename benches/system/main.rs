//! Whole-system measures: GVM and its floors and rivals in turn, in one run.
//!
//! In: options, and rivals that are installed. Out: a table of medians, spreads and ratios, with the goal of each row.
//! Every side is a process of its own that answers requests (`worker.rs`). A round measures everything once, and the
//! first round only warms up. `benches/system/run` builds what this program needs and starts it. Must not know: the
//! internals of a node, except for the transport that `bare.rs` uses too.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark prints, and stops at the first error"
)]

#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::unimplemented,
    clippy::unwrap_used,
    dead_code,
    unused_qualifications,
    missing_docs,
    reason = "generated"
)]
#[rustfmt::skip]
mod add_capnp;
mod bare;
mod erlang;
mod memory;
mod ours;
mod place;
mod programs;
mod python;
mod raw;
mod rows;
mod scale;
mod table;
mod worker;

use std::collections::HashMap;
use std::path::Path;

use clap::{Parser, Subcommand};

use self::erlang::Erlang;
use self::place::Place;
use self::programs::Programs;
use self::rows::{Measure, Row};
use self::table::Samples;
use self::worker::{Process, Worker};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures GVM beside its floors and rivals
#[derive(Parser)]
#[command(name = "benches/system/run", args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    what: Option<What>,
    /// Rounds; each measures everything in turn
    #[arg(default_value_t = 10)]
    rounds: usize,
    /// Only rows whose measures contain one of these words, for example `unix,erpc`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
    /// Print the main rows as Markdown
    #[arg(long)]
    markdown: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Measures how GVM grows: registrations, live instances, sessions, calls in flight
    Scale {
        /// Only these parts: registrations, instances, sessions, flight
        only: Vec<String>,
        /// Passed by cargo
        #[arg(long, hide = true)]
        bench: bool,
    },
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["worker", "ours", home] => ours::work(Path::new(home)),
        ["worker", "instances", home] => memory::work(Path::new(home)),
        ["worker", "scale-instances", home] => scale::instances_worker(Path::new(home)),
        ["worker", "raw"] => raw::work(&place::component()),
        ["worker", "bare", address, home] => bare::work(address, Path::new(home)),
        ["worker", "bare-server", socket] => bare::server(Path::new(socket), None),
        ["worker", "bare-server", socket, home] => bare::server(Path::new(socket), Some(Path::new(home))),
        _ => {
            let options = Options::parse();
            match &options.what {
                Some(What::Scale { only, .. }) => scale::scale(only),
                None => measure(&options),
            }
        }
    }
}

/// Everything that runs while it is measured.
struct Sides {
    workers: HashMap<&'static str, Result<Worker, String>>,
    erlang: Option<Erlang>,
    programs: Programs,
    /// A node that is never called, and its place.
    idle: Option<(Process, Place)>,
    _others: Vec<Box<dyn std::any::Any>>,
    place: Place,
}

impl Sides {
    /// Starts the workers that the measures name.
    fn start(names: &[&'static str]) -> Sides {
        let place = Place::start();
        let mut sides = Sides {
            workers: HashMap::new(),
            erlang: None,
            programs: Programs::new(place.home.path()),
            idle: None,
            _others: Vec::new(),
            place,
        };
        if names.iter().any(|name| ["ours", "python gvm"].contains(name)) {
            let nodes = (sides.place.node("far"), sides.place.node_behind_tls("farther"));
            sides._others.push(Box::new(nodes));
        }
        for name in names {
            eprintln!("starting {name}");
            if let Some(worker) = sides.worker(name) {
                sides.workers.insert(name, worker);
            }
        }
        sides
    }

    /// Starts a worker. None if this process measures itself.
    fn worker(&mut self, name: &str) -> Option<Result<Worker, String>> {
        let home = self.place.home.path().to_owned();
        let home = home.to_str().unwrap();
        Some(match name {
            "ours" => Worker::role(&["ours", home]),
            "raw" => Worker::role(&["raw"]).inspect(|raw| {
                if !raw.greeting.is_empty() {
                    eprintln!("wasmtime alone runs {}", raw.greeting);
                }
            }),
            "bare unix" | "bare tls" => {
                let socket = self.place.home.path().join("bare.sock");
                let mut words = vec!["bare-server", socket.to_str().unwrap()];
                words.extend((name == "bare tls").then_some(home));
                Worker::role(&words).and_then(|server| {
                    let worker = Worker::role(&["bare", &server.greeting, home]);
                    self._others.push(Box::new(server));
                    worker
                })
            }
            "erlang" => match Erlang::start(&place::repository().join("benches/system/rival.erl")) {
                Ok(erlang) => {
                    self.erlang = Some(erlang);
                    return None;
                }
                Err(error) => Err(error),
            },
            "python gvm" => python::start("gvm", self.place.home.path()),
            "python extism" => {
                python::plugin(self.place.home.path()).and_then(|plugin| python::start("extism", &plugin))
            }
            "python wasmtime" => python::start("wasmtime", &place::component()),
            "idle" => {
                let place = Place::empty();
                self.idle = Some((place.node("idle"), place));
                return None;
            }
            "programs" | "instances" => return None,
            name => panic!("there is no worker {name}"),
        })
    }

    fn ask(&mut self, measure: &Measure) -> Result<Vec<f64>, String> {
        let worker = match (measure.worker, &mut self.erlang) {
            ("erlang", Some(erlang)) => &mut erlang.worker,
            ("programs", _) => return self.programs.ask(&measure.request),
            ("instances", _) => {
                return Worker::role(&["instances", self.place.home.path().to_str().unwrap()])?
                    .ask(&measure.request);
            }
            ("idle", _) => {
                let (node, place) = self.idle.as_ref().unwrap();
                let process = match measure.request.as_str() {
                    "gvm" => node.id(),
                    "gpmd" => place.gpmd.id(),
                    _ => self.place.gpmd.id(),
                };
                return memory::resident(process).map(|bytes| vec![bytes / (1 << 20) as f64]);
            }
            (name, _) => self.workers.get_mut(name).unwrap().as_mut().map_err(|error| error.clone())?,
        };
        worker.ask(&measure.request)
    }
}

fn measure(options: &Options) {
    scale::raise_descriptors();
    assert!(
        place::component().exists(),
        "{} is missing; benches/system/run builds it",
        place::component().display()
    );
    let rows: Vec<Row> = rows::rows()
        .into_iter()
        .filter(|row| {
            let names = [Some(row.ours), row.other.map(|(name, _)| name)];
            let has = |word: &String| names.iter().flatten().any(|name| name.contains(word.as_str()));
            options.only.is_empty() || options.only.iter().any(has)
        })
        .collect();
    let used =
        |name| rows.iter().any(|row| row.ours == name || row.other.is_some_and(|(other, _)| other == name));
    let mut measures: Vec<Measure> =
        rows::measures().into_iter().filter(|measure| used(measure.name)).collect();
    let mut names: Vec<&str> = measures.iter().map(|measure| measure.worker).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    let mut sides = Sides::start(&names);
    let mut samples = Samples::new();
    let mut skipped = Vec::new();
    // The first round warms up.
    for round in 0..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        measures.retain(|measure| {
            if measure.once && round != 1 {
                return true;
            }
            match sides.ask(measure) {
                Ok(numbers) if round > 0 => samples.entry(measure.name).or_default().push(numbers),
                Ok(_) => {}
                Err(error) => {
                    eprintln!("skipped: {}: {error}", measure.name);
                    skipped.push(format!("{}: {error}", measure.name));
                    samples.remove(measure.name);
                    return false;
                }
            }
            true
        });
    }
    drop(sides);
    let lines: Vec<table::Line> = rows.into_iter().filter_map(|row| table::line(row, &samples)).collect();
    let machine = machine();
    if options.json {
        println!("{:#}", table::json(&lines, &machine, options.rounds, &skipped));
    } else if options.markdown {
        let today = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        println!("Measured on {} on {machine}; medians of {} rounds.\n", &today[..10], options.rounds);
        print!("{}", table::markdown(&lines));
    } else {
        println!("{machine}; {} rounds\n\n{}", options.rounds, table::text(&lines));
        skipped.iter().for_each(|skipped| println!("skipped: {skipped}"));
    }
}

/// Describes this machine.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |it| it.1);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{count} cores of {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}
