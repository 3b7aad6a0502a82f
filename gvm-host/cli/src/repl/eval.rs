//! Runs statements.
//!
//! In: a [`Statement`], the handle of a node. Out: results on the screen, as text or JSON; the error of the
//! statement. Must not know: where the line came from.

use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use crate::repl::describe::Description;
use crate::repl::point;
use crate::repl::progress::patiently;
use crate::repl::render::{Screen, watch};
use crate::repl::{events, help, listing, shorten};
use gvm_host::gpmd::link::OtherModule;
use gvm_host::index::Resolved;
use gvm_host::parse::{Expr, Statement};
use gvm_host::{
    Call, Chunk, Code, Error, Event, Handle, Limits, ModuleRef, Name, Nested, NodeName, Outcome, Ready,
    Result, Stdio, Stream, Target, json, wave,
};

/// How long a peer may take to send a signature, which is needed to point at a wrong argument.
const DESCRIBING: Duration = Duration::from_secs(2);

/// Whether the shell continues after a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    On,
    Exit,
}

/// Runs statements on one node and shows their results.
pub struct Evaluator {
    pub node: Handle,
    pub screen: Screen,
    /// The limits of every call.
    pub limits: Limits,
    /// Whether to show each result as a line of JSON.
    pub json: bool,
    /// The typed line, to point at wrong arguments.
    pub line: String,
}

/// A finished call.
struct Done {
    outcome: Outcome,
    id: uuid::Uuid,
    seconds: f64,
    output: Vec<Chunk>,
}

impl Evaluator {
    /// Runs one statement.
    ///
    /// # Errors
    /// The error of the statement, which is not shown yet.
    pub async fn execute(&mut self, statement: Statement) -> Result<Flow> {
        match statement {
            Statement::Empty => {}
            Statement::Exit => return Ok(Flow::Exit),
            Statement::Help(topic) => self.screen.quoted(&help::text(&self.node, topic.as_deref()).await?),
            Statement::Discover => {
                let nodes = self.node.discover().await?;
                self.names(nodes.iter().map(|node| &node.name));
            }
            Statement::List => {
                let nodes = self.node.list().await?;
                self.names(nodes.iter().map(|node| &node.name));
            }
            Statement::Connect(name) => {
                let told = (!self.json).then_some(&mut self.screen);
                let name = connect(&self.node, name, told).await?;
                self.say(name.as_str(), json!(name.as_str()));
            }
            Statement::Disconnect(name) => {
                self.node.disconnect(name).await?;
                self.say("Client disconnected.", Json::Null);
            }
            Statement::Revoke(name) => {
                self.node.revoke(name).await?;
                self.say("Session revoked.", Json::Null);
            }
            Statement::Rights(name) => self.rights(name).await?,
            Statement::Spawn(node, target) => {
                let what = format!("Creating an instance of {}", target.module);
                let spawning = self.node.spawn(node, target, self.limits);
                let name = patiently(self.screen.stderr_terminal, &what, spawning).await?;
                self.say(name.as_str(), json!(name.as_str()));
            }
            Statement::Instances => self.instances(),
            Statement::Drop(name) => {
                self.node.drop_instance(name).await?;
                self.say("Instance dropped.", Json::Null);
            }
            Statement::Modules => self.modules().await?,
            Statement::Inspect(target) => self.inspect(&target).await?,
            Statement::Run(node, expr) => self.call(Some(node), expr).await?,
            Statement::Expr(expr) => self.call(None, expr).await?,
        }
        Ok(Flow::On)
    }

    fn names<'a>(&mut self, names: impl Iterator<Item = &'a NodeName>) {
        let names: Vec<&str> = names.map(NodeName::as_str).collect();
        if self.json {
            self.say("", json!(names));
        } else if !names.is_empty() {
            self.screen.line(&names.join(","));
        }
    }

    async fn rights(&mut self, name: NodeName) -> Result<()> {
        let grant = self.node.rights(name).await?;
        let expires = grant.expires_ms.and_then(|at| u64::try_from(at).ok());
        let expires = expires.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_millis(at)));
        let expires = expires.map(|at| humantime::format_rfc3339_seconds(at).to_string());
        if self.json {
            self.say("", json!({ "calls": grant.calls, "expires": expires }));
            return Ok(());
        }
        match grant.calls {
            None => self.screen.line("everything"),
            Some(calls) if calls.is_empty() => self.screen.line("nothing"),
            Some(calls) => calls.iter().for_each(|pattern| self.screen.line(pattern)),
        }
        if let Some(expires) = expires {
            self.screen.line(&format!("until {expires}"));
        }
        Ok(())
    }

    fn instances(&mut self) {
        let own = self.node.name().clone();
        let held = self.node.instances().into_iter().map(|(name, place)| {
            let node = place.node.unwrap_or_else(|| own.clone());
            (name, place.module, node)
        });
        if self.json {
            let json = |(name, module, node): (Name, String, NodeName)| json!({ "name": name, "module": module, "node": node });
            let held: Vec<Json> = held.map(json).collect();
            self.say("", held.into());
        } else {
            held.for_each(|(name, module, node)| self.screen.line(&format!("{name}  {module}  on {node}")));
        }
    }

    async fn modules(&mut self) -> Result<()> {
        let index = self.node.runner().modules().current().await?;
        let chosen = index.modules.iter().filter_map(|(name, module)| {
            let (version, entry) = module.chosen()?;
            Some(Resolved { name, version, entry })
        });
        // While gpmd is away, the other devices are not known.
        let others = match self.node.other_modules().await {
            Ok(others) => others,
            Err(error) if error.code() == Code::GpmdNotRunning => Vec::new(),
            Err(error) => return Err(error),
        };
        let others = others.iter().map(|other| {
            let OtherModule { device, name, version, entry } = other;
            (Resolved { name, version, entry }, device)
        });
        if self.json {
            let mut all: Vec<Json> = chosen.map(|resolved| listing::to_json(&resolved)).collect();
            all.extend(others.map(|(resolved, device)| {
                let mut value = listing::to_json(&resolved);
                value["device"] = device.as_str().into();
                value
            }));
            self.say("", all.into());
            return Ok(());
        }
        let mut rows: Vec<_> = chosen.map(|resolved| (resolved, String::new())).collect();
        rows.extend(others.map(|(resolved, device)| (resolved, format!("on {device}"))));
        listing::table(&rows).iter().for_each(|line| self.screen.line(line));
        Ok(())
    }

    async fn inspect(&mut self, target: &Target) -> Result<()> {
        let modules = self.node.runner().modules();
        let ModuleRef::Stored { name, version } = &target.module else {
            return Err(Error::new(Code::Syntax, "expected the name of a stored module"));
        };
        let stored = modules.resolve(name, version.as_ref()).await?;
        let bytes = modules.read(stored.hash).await?;
        let looked = tokio::task::spawn_blocking(move || Description::of(&bytes));
        let found = looked.await.unwrap_or_else(|error| Err(Error::internal(error.to_string())))?;
        self.say(&found.text(), found.json());
        Ok(())
    }

    fn say(&mut self, text: &str, result: Json) {
        if self.json {
            let line = json!({ "node": self.node.name().as_str(), "result": result });
            self.screen.json(&line);
        } else {
            self.screen.quoted(text);
        }
    }

    async fn call(&mut self, place: Option<NodeName>, mut expr: Expr) -> Result<()> {
        let place = self.node.find_instance(&mut expr.target, place)?;
        let is_function = expr.args.is_some();
        let done = self.run(place.clone(), expr).await?;
        if self.json {
            let node = place.unwrap_or_else(|| self.node.name().clone());
            let line = outcome_json(done.id, node.as_str(), &done.outcome, &done.output, done.seconds);
            self.screen.json(&line);
            // The line already has the error; it is returned for the exit status.
            return done.outcome.result.map(drop);
        }
        let shown = match &done.outcome.result {
            Ok(Some(value)) => done.outcome.ty.as_ref().map(|ty| match self.screen.stdout_terminal {
                true => shorten::short(value, ty),
                false => wave::print(value, ty),
            }),
            _ => None,
        };
        let wrote = self.screen.end_guest(shown.is_some());
        if let Some(text) = shown {
            // An empty line separates the output from the result. On another node, the id is above them.
            if wrote && is_function && place.is_none() {
                self.screen.line("");
            }
            self.screen.line(&text);
        }
        done.outcome.result.map(drop)
    }

    /// Runs a call, after the calls in its arguments.
    async fn run(&mut self, place: Option<NodeName>, expr: Expr) -> Result<Done> {
        let mut nested = Nested::new(self.node.clone(), place, expr)?;
        while let Some(ready) = nested.next_call()? {
            let (title, is_outermost) = (ready.title(), ready.is_outermost);
            let done = self.finish(ready).await;
            if is_outermost {
                return Ok(done);
            }
            self.screen.end_guest(true);
            nested.answer(&title, done.outcome)?;
        }
        Err(Error::internal("the line has no call"))
    }

    /// Runs one call. The outermost one shows its id if it runs on another node.
    async fn finish(&mut self, ready: Ready) -> Done {
        let mut call = ready.call();
        call.limits = self.limits;
        if ready.place.is_some() && ready.is_function && ready.is_outermost && !self.json {
            self.screen.line(&format!("ID:  {}", call.id));
        }
        let mut done = self.watch(ready.place.clone(), call).await;
        if let Err(error) = &done.outcome.result
            && ready.is_function
            && error.code() == Code::BadArguments
            && let Some(pointed) = self.point(ready).await
        {
            done.outcome.result = Err(pointed);
        }
        done
    }

    /// Returns the error of wrong arguments, with carets under the place in the typed line. The node that
    /// runs the call knows the signature, but not the line.
    async fn point(&self, ready: Ready) -> Option<Error> {
        let Ready { place, target, places, texts, .. } = ready;
        let function = target.function.clone()?;
        let module = match &target.module {
            ModuleRef::Instance(name) => self.node.instance(name)?.module,
            module => module.to_string(),
        };
        let described = self.node.describe(place, target);
        let ty = tokio::time::timeout(DESCRIBING, described).await.ok()?.ok()??;
        let names = self.node.runner().modules().type_names(&module);
        point::misfit(&self.line, &places, &texts, &names.shown(&format!("{function}: {ty}")), &ty)
    }

    /// Runs a call and shows its output.
    async fn watch(&mut self, place: Option<NodeName>, call: Call) -> Done {
        let started = Instant::now();
        let id = call.id;
        let limits = self.node.runner().limits().narrow(call.limits);
        let stdio = Stdio {
            stdout_terminal: self.screen.stdout_terminal && !self.json,
            stderr_terminal: self.screen.stderr_terminal && !self.json,
            ..Stdio::new(&limits)
        };
        let shown = stdio.clone();
        let node = self.node.clone();
        let running = async move { node.run(place, call, stdio).await };
        let (outcome, kept) = watch(&mut self.screen, self.json, &shown, running).await;
        Done { outcome, id, seconds: started.elapsed().as_secs_f64(), output: kept }
    }
}

/// Connects. If the other node asks its user, notes that on the screen.
///
/// # Errors
/// Those of [`Handle::connect`].
pub async fn connect(node: &Handle, name: NodeName, mut told: Option<&mut Screen>) -> Result<NodeName> {
    let mut events = node.events();
    let mut connecting = std::pin::pin!(node.connect(name.clone()));
    loop {
        tokio::select! {
            biased;
            connected = &mut connecting => return connected,
            Ok(event) = events.recv() => {
                if let Event::Waiting { name: asked } = event
                    && asked.bare() == name.bare()
                    && let Some(screen) = &mut told
                {
                    screen.note(&events::waiting(&asked));
                }
            }
        }
    }
}

/// Returns the outcome of a call as JSON. `node` is the node that ran it, or empty if there was none.
pub fn outcome_json(id: uuid::Uuid, node: &str, outcome: &Outcome, output: &[Chunk], seconds: f64) -> Json {
    let mut line = json!({ "id": id.to_string(), "node": node });
    if node.is_empty() {
        line["node"] = Json::Null;
    }
    match (&outcome.result, &outcome.ty) {
        (Ok(Some(value)), Some(ty)) => line["result"] = json::to_json(value, ty),
        (Ok(_), _) => line["result"] = Json::Null,
        (Err(error), _) => line["error"] = error.to_json(),
    }
    let text = |stream: Stream| {
        let mine = output.iter().filter(|chunk| chunk.stream == stream);
        String::from_utf8_lossy(&mine.flat_map(|chunk| chunk.data.clone()).collect::<Vec<u8>>()).into_owned()
    };
    line["stdout"] = text(Stream::Stdout).into();
    line["stderr"] = text(Stream::Stderr).into();
    line["seconds"] = seconds.into();
    line
}
