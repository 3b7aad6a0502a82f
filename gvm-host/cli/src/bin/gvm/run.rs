//! `gvm run`: makes one call with the streams of this process, and exits with the status of the guest.
//!
//! In: options, the words of the command line. Out: the guest's output and result, an exit status. Must not
//! know: how a call runs.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use gvm_cli::repl::eval::{connect, outcome_json};
use gvm_cli::repl::render;
use gvm_cli::repl::render::Screen;
use gvm_cli::repl::stdio;
use gvm_host::parse::{Arg, Expr};
use gvm_host::{
    Args, Broken, Call, Caller, Code, Error, Handle, Home, Input, Limits, ModuleBytes, ModuleFile, ModuleRef,
    Modules, NodeName, Outcome, Result, Runner, Stdio, Target, limits, parse, wave, workers,
};

use tokio::runtime::{Builder, Runtime};

use super::options::{Options, SessionRights, usage};
use super::signals::{Requests, interrupt};
use super::{cancelled, descriptors, status_of_run};

/// How long a call runs before it gets huge pages: longer than the first call of a Python component.
const HUGE_PAGES_AFTER: Duration = Duration::from_millis(20);

/// Runs the target and returns the exit status.
pub fn run(
    options: &Options,
    screen: &mut Screen,
    invoke: Option<String>,
    words: Vec<OsString>,
) -> Result<i32> {
    options.no_grants_with_node()?;
    let mut words = words.into_iter();
    let target = words.next().unwrap_or_default();
    let rest = words
        .map(|word| word.into_string().map_err(|word| usage(format!("{} is not UTF-8", word.display()))))
        .collect::<Result<Vec<_>>>()?;
    // Errors of the command line are reported before any file is read.
    let (limits, place) = (options.limits()?, options.place()?);
    let (mut call, file) = read_target(&target, invoke, rest)?;
    call.limits = limits;
    let is_function = call.target.function.is_some();
    let home = options.home()?;
    let started = Instant::now();
    // A guest that may use other nodes needs a node here, which has threads of its own.
    let alone = place.is_none() && !options.grants.contains(&SessionRights::Nodes);
    let home = match alone {
        true => {
            options.confine_call(&home)?;
            home
        }
        false => options.confine_node(&home, &[])?,
    };
    let runner = match alone {
        true => Some(runner(options, &home, limits)?),
        false => None,
    };
    if let Some(file) = file {
        call.target.module = module_of(file, &home, runner.as_ref(), &limits)?;
    }
    let runtime = if alone { one_thread()? } else { workers()? };
    if !alone {
        descriptors::huge_pages();
    }
    let requests = Requests::catch_on(runtime.handle())?;
    let ran = runtime.block_on(async {
        tokio::select! {
            biased;
            () = interrupt() => Err(cancelled()),
            () = requests.asked() => Err(cancelled()),
            ran = go(options, screen, home, runner, place.clone(), call.clone()) => ran,
            never = pages() => match never {},
        }
    });
    let (outcome, output) = match (ran, requests.status()) {
        (Ok(ran), _) => ran,
        (Err(error), Some(asked)) => {
            screen.error(&error);
            return Ok(asked);
        }
        (Err(error), None) => return Err(error),
    };
    let seconds = started.elapsed().as_secs_f64();
    if options.json {
        let node = place.as_ref().map_or("", NodeName::as_str);
        screen.json(&outcome_json(call.id, node, &outcome, &output, seconds));
        return Ok(outcome.result.as_ref().map_or_else(status_of_run, |_| 0));
    }
    screen.end_guest(outcome.result.as_ref().is_ok_and(Option::is_some));
    match outcome.result {
        Ok(value) => {
            if let (Some(value), Some(ty)) = (value, outcome.ty) {
                screen.line(&wave::print(&value, &ty));
            }
            Ok(0)
        }
        Err(error) => {
            // A program that exits with a status has reported its error itself. A function that exits has not
            // returned, which is an error.
            if error.code() != Code::GuestExit || is_function {
                screen.error(&error);
            }
            Ok(status_of_run(&error))
        }
    }
}

/// Returns a runtime of this thread, for a call that no other node takes part in. It lasts until the process exits,
/// which does not wait for threads that read or write.
fn one_thread() -> Result<&'static Runtime> {
    let made = Builder::new_current_thread().enable_all().build();
    let made = made.map_err(|error| Error::io("cannot start the runtime of the call", error))?;
    Ok(Box::leak(Box::new(made)))
}

/// Allows huge pages to a call that runs longer than most: one that ends within milliseconds is faster without them.
async fn pages() -> std::convert::Infallible {
    tokio::time::sleep(HUGE_PAGES_AFTER).await;
    descriptors::huge_pages();
    std::future::pending().await
}

/// Returns a runner for a call that no other node takes part in.
fn runner(options: &Options, home: &Home, limits: Limits) -> Result<Runner> {
    // A file is run without a look at the stored modules.
    let modules = Modules::unread(home.clone());
    let own = Limits { timeout: None, ..limits };
    Ok(Runner::new(options.engine(home, false)?, modules, options.grants()?, own))
}

/// Returns the module in a file. Its bytes are read only if the home does not remember what the file contains, or has no
/// compiled code of it.
fn module_of(
    mut file: ModuleFile,
    home: &Home,
    runner: Option<&Runner>,
    limits: &Limits,
) -> Result<ModuleRef> {
    if let Some(runner) = runner
        && let Some(known) = file.known(home)
        && runner.engine().recall(known.hash, known.component, limits)
    {
        return Ok(ModuleRef::Loaded(known.hash));
    }
    let module = ModuleBytes::from(file.read()?);
    if runner.is_some() {
        file.remember(home, module.hash());
    }
    Ok(ModuleRef::Bytes(module))
}

/// Reads the words of the command line: a path or a stored module, and the call to make. The module of a path is in the
/// file, and empty in the call.
fn read_target(
    target: &std::ffi::OsStr,
    invoke: Option<String>,
    rest: Vec<String>,
) -> Result<(Call, Option<ModuleFile>)> {
    let path = Path::new(target);
    let (module, file, expr) = if is_path(path) {
        (ModuleRef::Bytes([].into()), Some(ModuleFile::open(path)?), None)
    } else {
        let text = target.to_str().ok_or_else(|| usage(format!("{} is not UTF-8", target.display())))?;
        let expr = stored(text)?;
        (expr.target.module.clone(), None, Some(expr))
    };
    let expr = match (invoke, expr) {
        (Some(call), None | Some(Expr { args: None, .. })) => Some(read_invoke(&call)?),
        (Some(_), Some(_)) => {
            return Err(usage("both `--invoke` and TARGET have a call").with_help("remove one of them"));
        }
        (None, expr) => expr,
    };
    let argv0 = match &module {
        ModuleRef::Bytes(_) | ModuleRef::Loaded(_) => {
            path.file_name().unwrap_or(target).to_string_lossy().into_owned()
        }
        other => other.to_string(),
    };
    let (interface, function, args) = match expr {
        Some(Expr { target, args: Some(args), .. }) if rest.is_empty() => {
            (target.interface, target.function, Args::Text(plain_args(args)?))
        }
        Some(Expr { args: Some(_), .. }) => {
            return Err(usage("unexpected words after the call of a function")
                .with_help("write the arguments inside its parentheses"));
        }
        _ => (None, None, Args::Argv([vec![argv0], rest].concat())),
    };
    Ok((Call::new(Target { module, interface, function }, args), file))
}

/// Parses a word that is not a path: a stored module, or a call of one.
pub fn stored(text: &str) -> Result<Expr> {
    parse::target(text).map_err(|error| match Path::new(text).extension().is_some_and(is_wasm) {
        true => Error::new(Code::ModuleNotFound, format!("file `{text}` does not exist")),
        false => error.with_exit(2),
    })
}

/// Parses the value of `--invoke`, a call without its module: `add(1, 2)` or `iface.add(1, 2)`.
fn read_invoke(call: &str) -> Result<Expr> {
    let call = if call.contains('(') { call.to_owned() } else { format!("{call}()") };
    parse::target(&format!("m.{call}")).map_err(|error| {
        usage(format!("`--invoke {call}`: {}", error.message()))
            .with_help("write a call such as 'add(1, 2)', or 'iface.add(1, 2)'")
    })
}

fn plain_args(args: Vec<Arg>) -> Result<String> {
    parse::plain(args).ok_or_else(|| {
        usage("`gvm run` makes one call, which cannot contain others")
            .with_help("use `gvm eval` for nested calls")
    })
}

/// Returns whether the target is a path: it has a `/` before any quote or parenthesis, or it is an existing
/// .wasm or .wat file.
pub fn is_path(target: &Path) -> bool {
    let text = target.to_string_lossy();
    let before = text.split(['"', '(']).next().unwrap_or_default();
    before.contains('/') || target.extension().is_some_and(is_wasm) && target.is_file()
}

fn is_wasm(extension: &std::ffi::OsStr) -> bool {
    extension == "wasm" || extension == "wat"
}

type Ran = (Outcome, Vec<gvm_host::Chunk>);

async fn go(
    options: &Options,
    screen: &mut Screen,
    home: Home,
    runner: Option<Runner>,
    place: Option<NodeName>,
    call: Call,
) -> Result<Ran> {
    let limits = call.limits;
    let stdio = stdio(options, screen, &limits);
    let shown = stdio.clone();
    match (runner, place) {
        (Some(runner), _) => {
            Ok(watch(options, screen, shown, runner.run(&Caller::default(), call, stdio)).await)
        }
        (None, None) => {
            let node = Handle::start(options.node_config(home, false)?).await?;
            let ran = watch(options, screen, shown, node.run(None, call, stdio)).await;
            node.shut_down().await;
            Ok(ran)
        }
        (None, Some(place)) => {
            let node = Handle::start(options.node_config(home, false)?).await?;
            connect(&node, place.clone(), Some(screen)).await?;
            let ran = watch(options, screen, shown, node.run(Some(place), call, stdio)).await;
            node.shut_down().await;
            Ok(ran)
        }
    }
}

/// Connects the guest to the streams of this process.
fn stdio(options: &Options, screen: &Screen, limits: &Limits) -> Stdio {
    Stdio {
        input: Some(Input::default()),
        stdin_terminal: std::io::stdin().is_terminal(),
        stdout_terminal: screen.stdout_terminal && !options.json,
        stderr_terminal: screen.stderr_terminal && !options.json,
        ..Stdio::new(limits)
    }
}

/// Waits for the call, shows its output and supplies its input.
async fn watch(
    options: &Options,
    screen: &mut Screen,
    stdio: Stdio,
    running: impl Future<Output = Outcome>,
) -> Ran {
    let fed = async {
        tokio::select! {
            outcome = running => outcome,
            never = feed(stdio.input.clone()) => match never {},
        }
    };
    render::watch(screen, options.json, &stdio, fed).await
}

/// Reads standard input when the guest asks for it, and not before.
async fn feed(input: Option<Input>) -> std::convert::Infallible {
    let Some(input) = input else { return std::future::pending().await };
    loop {
        input.wanted().await;
        let read = tokio::task::spawn_blocking(|| {
            let mut bytes = vec![0; limits::INPUT_CHUNK];
            let read = stdio::read(&mut bytes);
            read.map(|count| {
                bytes.truncate(count);
                bytes
            })
        });
        match read.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(bytes) => input.supply(&bytes),
            // The guest gets an error, not the end of its input.
            Err(error) => input.fail(Broken::from(&error)),
        }
    }
}
