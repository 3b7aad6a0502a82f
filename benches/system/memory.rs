//! Memory of processes: idle programs, and live instances.
//!
//! In: a process, or a number of instances. Out: resident memory. Must not know: what uses it.

use std::path::Path;

use gvm_host::{Args, Call, Limits, ModuleRef, Stdio, Target, Value, wait};

use super::place::{MODULE, name, node_here};
use super::worker::serve;

/// Returns the resident memory of a process in bytes.
pub fn resident(process: u32) -> Result<f64, String> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0).ok_or_else(|| format!("{path} has no Rss"))
}

/// Answers `instances N`: KiB per live instance after two calls of each.
pub fn work(home: &Path) {
    let node = node_here(home, "holder", &[]);
    let spawn = || wait(node.spawn(None, Target::main(ModuleRef::stored(name(MODULE))), Limits::default()));
    let add = |instance: &ModuleRef, n: i32| {
        let args = Args::Values(vec![Value::S32(n), Value::S32(1)]);
        let call = Call::new(Target::function(instance.clone(), "add"), args);
        let sum = wait(node.run(None, call, Stdio::new(&Limits::default()))).unwrap();
        assert_eq!(sum.result.unwrap(), Some(Value::S32(n + 1)));
    };
    serve("", |_, numbers| {
        let own = std::process::id();
        let mut before = 0.0;
        for n in 0..numbers[0] {
            let made = spawn().and_then(|made| made);
            let instance = ModuleRef::Instance(made.map_err(|error| format!("instance {n}: {error}"))?);
            (0..2).for_each(|call| add(&instance, call));
            if n == 0 {
                // The first one starts the engine.
                before = resident(own)?;
            }
        }
        Ok(vec![(resident(own)? - before) / (numbers[0] - 1) as f64 / 1024.0])
    });
}
