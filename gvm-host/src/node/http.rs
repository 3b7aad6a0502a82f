//! A server of HTTP whose requests a module answers.
//!
//! In: a listener, a module that exports `wasi:http/incoming-handler`, a runner with grants and limits. Out: responses; what the
//! guests write to their standard streams; a log of the requests. hyper speaks HTTP. Must not know: flags, the terminal.
//!
//! Each connection is a task, and so is each request, because a guest may run on after its response. A request has an instance of
//! its own; with [`Server::reuse`], an instance serves several, one after another. A client that goes away drops its request, and
//! that stops the guest.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::runner::{Caller, Runner};
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::inert;
use crate::base::limits::{self, Limits};
use crate::call::deadline::in_time;
use crate::call::stdio::Stdio;
use crate::call::{Args, Call, Chunk, Target};
use crate::engine::http::{Answered, Answering, ResponseBody, answer};
use crate::engine::{Instance, Module, Setup};

/// The target of the log lines of requests.
const LOG: &str = "gvm_host::http";

/// How long a server waits after the system refused it another connection.
const REFUSED: Duration = Duration::from_millis(100);

/// What a guest wrote to its standard streams while it served a request.
#[derive(Debug)]
pub struct Said {
    /// The number of the request, from 0.
    pub request: u64,
    pub chunk: Chunk,
}

/// An HTTP server. Cheap to clone; clones are the same server. `Send + Sync`.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    runner: Runner,
    module: Arc<Module>,
    target: Target,
    /// The name of the module, which is the first argument of its guests.
    name: String,
    limits: Limits,
    reuse: usize,
    idle: Mutex<VecDeque<Used>>,
    turns: Arc<Semaphore>,
    said: mpsc::Sender<Said>,
    requests: AtomicU64,
    guests: TaskTracker,
    /// Set when no guest may run any more.
    over: CancellationToken,
}

/// An instance that has served requests and may serve more.
struct Used {
    instance: Instance,
    served: usize,
    since: Instant,
}

impl Server {
    /// Loads a module to serve. Each request may use what `limits` and the runner's own limits allow; without a time limit, that is
    /// [`limits::PEER_TIMEOUT`]. A time limit of zero sets none. An instance serves `reuse` requests. What guests write goes
    /// to `said`, whose reader holds them up if it is slow.
    ///
    /// # Errors
    /// Those of loading a module; `FUNCTION_NOT_FOUND` if it does not serve HTTP.
    pub async fn load(
        runner: Runner,
        target: Target,
        name: String,
        limits: Limits,
        reuse: usize,
        said: mpsc::Sender<Said>,
    ) -> Result<Server> {
        let mut limits = runner.limits().narrow(limits);
        limits.timeout = match limits.timeout {
            None => Some(limits::PEER_TIMEOUT),
            Some(Duration::ZERO) => None,
            most => most,
        };
        let module = runner.load(&Caller::default(), &target, &limits).await?;
        if !module.serves_http() {
            let message =
                format!("`{name}` does not serve HTTP: it does not export `wasi:http/incoming-handler`");
            return Err(Error::new(Code::FunctionNotFound, message)
                .with_help("run `gvm inspect` on the module to see its exports"));
        }
        let (idle, requests, guests, over) = Default::default();
        let turns = Arc::new(Semaphore::new(limits::HTTP_REQUESTS));
        Ok(Server(Arc::new(Inner {
            runner,
            module,
            target,
            name,
            limits,
            reuse: reuse.max(1),
            idle,
            turns,
            said,
            requests,
            guests,
            over,
        })))
    }

    /// Serves connections until `stop` ends. Then it accepts no more, waits for the requests that run, at most
    /// [`limits::HTTP_GRACE`] or until `hurry` ends, and stops the rest.
    ///
    /// # Errors
    /// `INTERNAL` if the listener cannot be used.
    pub async fn serve(
        &self,
        listener: std::net::TcpListener,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<()> {
        let unusable = |error| Error::io("cannot listen for HTTP", error);
        listener.set_nonblocking(true).map_err(unusable)?;
        let listener = TcpListener::from_std(listener).map_err(unusable)?;
        let room = Arc::new(Semaphore::new(connections()));
        let ending = CancellationToken::new();
        let mut open = JoinSet::new();
        let mut look = tokio::time::interval(limits::HTTP_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        {
            let mut stop = pin!(stop);
            loop {
                tokio::select! {
                    biased;
                    () = &mut stop => break,
                    Some(_) = open.join_next(), if !open.is_empty() => {}
                    _ = look.tick() => self.0.forget_idle(),
                    (stream, place) = accept(&listener, &room) => {
                        open.spawn(connection(self.clone(), stream, place, ending.clone()));
                    }
                }
            }
        }
        drop(listener);
        ending.cancel();
        self.0.guests.close();
        let rest = async {
            while open.join_next().await.is_some() {}
            self.0.guests.wait().await;
        };
        tokio::select! {
            () = rest => {}
            () = hurry => {}
            () = tokio::time::sleep(limits::HTTP_GRACE) => {}
        }
        self.0.over.cancel();
        open.shutdown().await;
        self.0.guests.wait().await;
        lock(&self.0.idle).clear();
        Ok(())
    }
}

/// Returns how many connections a server may have open: descriptors are left for the guests.
fn connections() -> usize {
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let allowed = allowed.and_then(|allowed| usize::try_from(allowed).ok()).unwrap_or(usize::MAX);
    limits::HTTP_CONNECTIONS.min(allowed / 2).max(1)
}

/// Returns the next connection, and its place among those that may be open.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        // The semaphore is never closed.
        let Ok(place) = room.clone().acquire_owned().await else { return std::future::pending().await };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(target: LOG, "cannot accept a connection: {error}");
                tokio::time::sleep(REFUSED).await;
            }
        }
    }
}

/// When the request began that a connection serves now.
#[derive(Default)]
struct Serving(Mutex<Option<Instant>>);

impl Serving {
    fn set(&self, began: Option<Instant>) {
        *lock(&self.0) = began;
    }

    /// Whether the request has taken longer than this.
    fn is_longer(&self, most: Duration) -> bool {
        lock(&self.0).is_some_and(|began| began.elapsed() > most)
    }
}

/// Serves the requests of a connection, one after another.
async fn connection(
    server: Server,
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    ending: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let serving = Arc::<Serving>::default();
    let service = service_fn(|request| {
        let (server, serving) = (server.clone(), serving.clone());
        async move { Ok::<_, Infallible>(server.0.respond(request, serving).await) }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HTTP_HEADER_TIME)
            .max_headers(limits::HTTP_HEADERS)
            .max_buf_size(limits::HTTP_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut look = tokio::time::interval(limits::HTTP_LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(target: LOG, "a connection ended: {error}");
                }
                return;
            }
            () = ending.cancelled(), if !told => {
                served.as_mut().graceful_shutdown();
                told = true;
            }
            // The guest has ended by then, but a client that does not read keeps its response waiting.
            _ = look.tick() => match server.0.limits.timeout {
                Some(most) if serving.is_longer(most + limits::HTTP_LOOK) => return,
                _ => {}
            },
        }
    }
}

impl Inner {
    /// Answers one request.
    async fn respond(self: Arc<Inner>, request: Request<Incoming>, serving: Arc<Serving>) -> Response<Sent> {
        let began = Instant::now();
        serving.set(Some(began));
        let log = Line {
            request: self.requests.fetch_add(1, Ordering::Relaxed),
            method: request.method().clone(),
            uri: request.uri().clone(),
            began,
            status: None,
            bytes: 0,
            whole: false,
            cut: Arc::default(),
        };
        let refused = match has_authority(&request) {
            true => match self.run(request, &log).await {
                Ok((response, guest)) => return Sent::of_guest(response, guest, log, serving),
                Err(status) => status,
            },
            false => StatusCode::BAD_REQUEST,
        };
        Sent::of_server(refused, log, serving)
    }

    /// Starts a guest that answers the request, and returns the head of its response; or the status that says why there is none.
    async fn run(
        self: &Arc<Inner>,
        request: Request<Incoming>,
        log: &Line,
    ) -> Result<(Response<ResponseBody>, AbortOnDropHandle<Result<(), StatusCode>>), StatusCode> {
        let (number, began) = (log.request, log.began);
        let turn = in_time(self.limits.timeout, Some(began), Effect::NotStarted, async {
            let turn = self.turns.clone().acquire_owned().await;
            turn.map_err(|_| Error::internal("the server has ended"))
        });
        let turn = turn.await.map_err(|error| failed(number, &error, StatusCode::SERVICE_UNAVAILABLE))?;
        let (answering, answer) = answer();
        let guest = self.clone().guest(request, number, began, answering, turn, log.cut.clone());
        let guest = AbortOnDropHandle::new(self.guests.spawn(guest));
        match answer.head().await {
            Answered::Response(response) => Ok((response, guest)),
            Answered::Failed(code) => {
                tracing::error!(target: LOG, "request {number}: the module answered with the error {code}");
                Err(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Answered::Nothing => match guest.await {
                Ok(Ok(())) => {
                    tracing::error!(target: LOG, "request {number}: the module ended without a response");
                    Err(StatusCode::INTERNAL_SERVER_ERROR)
                }
                Ok(Err(status)) => Err(status),
                Err(error) => {
                    tracing::error!(target: LOG, "request {number}: {error}");
                    Err(StatusCode::INTERNAL_SERVER_ERROR)
                }
            },
        }
    }

    /// Runs the guest of a request to its end. Logs its error, and returns the status for it.
    async fn guest(
        self: Arc<Inner>,
        request: Request<Incoming>,
        number: u64,
        began: Instant,
        answering: Answering,
        _turn: OwnedSemaphorePermit,
        cut: Arc<AtomicBool>,
    ) -> Result<(), StatusCode> {
        let mut stdio = Stdio::new(&self.limits);
        let output = stdio.output.clone();
        let serving = async {
            let mut used = self.instance(&mut stdio, began).await?;
            // Dropped before the instance, also when this future is: the end of its body is then no end of the response.
            let failing = Failing(Some(cut));
            used.instance.serve(request, answering, &self.limits).await?;
            failing.passed();
            used.served += 1;
            Ok(used)
        };
        let said = async |chunks: Vec<Chunk>| {
            for chunk in chunks {
                // The reader may have ended with the program.
                let _ = self.said.send(Said { request: number, chunk }).await;
            }
        };
        let ran = in_time(self.limits.timeout, Some(began), Effect::RanAndFailed, async {
            let mut serving = pin!(serving);
            loop {
                tokio::select! {
                    biased;
                    ran = &mut serving => return ran,
                    () = self.over.cancelled() => {
                        return Err(Error::new(Code::Cancelled, "the server ends").with_effect(Effect::RanAndFailed));
                    }
                    // The guest waits while nobody reads, and so does the end of the server if it did not stop here.
                    chunks = output.next() => tokio::select! {
                        () = said(chunks) => {}
                        () = self.over.cancelled() => {}
                    },
                }
            }
        });
        let ran = pin!(ran).await;
        let _ = tokio::time::timeout(limits::HTTP_GRACE, said(output.take())).await;
        match ran {
            Ok(used) => {
                self.keep(used);
                Ok(())
            }
            Err(error) => {
                let status = match error.code() {
                    Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
                    Code::Overloaded | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                Err(failed(number, &error, status))
            }
        }
    }

    /// Returns an instance for a request: one that is idle, or a new one.
    async fn instance(&self, stdio: &mut Stdio, began: Instant) -> Result<Used> {
        let reach = match self.runner.grants().nodes {
            true => {
                let call = Call::new(self.target.clone(), Args::default());
                self.runner.reach(&call, stdio, &self.limits, Some(began))
            }
            false => None,
        };
        // The one that waited least: the others can be forgotten.
        let idle = lock(&self.idle).pop_back();
        if let Some(mut used) = idle {
            used.instance.turn(stdio, &self.limits, reach)?;
            return Ok(used);
        }
        let (argv, grants) = ([&*self.name], self.runner.grants());
        let keyvalue = self.runner.keyvalue(&self.target.module, &self.module);
        let setup = Setup { limits: self.limits, grants, stdio: stdio.take(), argv: &argv, reach, keyvalue };
        let instance = pin!(self.runner.engine().instantiate(self.module.clone(), setup)).await?;
        Ok(Used { instance, served: 0, since: began })
    }

    /// Keeps an instance for another request, if it may serve one.
    fn keep(&self, mut used: Used) {
        if used.served < self.reuse && !self.over.is_cancelled() {
            used.since = Instant::now();
            lock(&self.idle).push_back(used);
        }
    }

    /// Drops the instances that have waited long.
    fn forget_idle(&self) {
        let mut idle = lock(&self.idle);
        let old = idle.iter().take_while(|used| used.since.elapsed() > limits::HTTP_IDLE).count();
        let old: Vec<_> = idle.drain(..old).collect();
        drop(idle);
        drop(old);
    }
}

/// Logs why a request failed.
fn failed(number: u64, error: &Error, status: StatusCode) -> StatusCode {
    match error.context() {
        Some(context) => tracing::error!(target: LOG, "request {number}: {error}\n{context}"),
        None => tracing::error!(target: LOG, "request {number}: {error}"),
    }
    status
}

/// Whether the request says for which host it is, as guests expect it.
fn has_authority(request: &Request<Incoming>) -> bool {
    let host = || request.headers().get(HOST).is_some_and(|host| !host.is_empty() && host.to_str().is_ok());
    request.uri().authority().is_some() || host()
}

/// Tells the body of a response that its guest failed, unless it passed.
struct Failing(Option<Arc<AtomicBool>>);

impl Failing {
    fn passed(mut self) {
        self.0 = None;
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        if let Some(cut) = &self.0 {
            cut.store(true, Ordering::SeqCst);
        }
    }
}

/// A line of the log of requests. It is written when the request has ended, in whatever way.
struct Line {
    request: u64,
    method: Method,
    uri: Uri,
    began: Instant,
    /// None if the client went away before there was a response.
    status: Option<StatusCode>,
    bytes: u64,
    /// Whether the client could have all of the response.
    whole: bool,
    /// Whether the guest failed before the end of the response.
    cut: Arc<AtomicBool>,
}

impl Drop for Line {
    fn drop(&mut self) {
        tracing::info!(
            target: LOG,
            request = self.request,
            method = %self.method,
            path = %inert::line(self.uri.path()),
            status = self.status.map(|status| status.as_u16()),
            bytes = self.bytes,
            whole = self.whole,
            time = ?self.began.elapsed(),
        );
    }
}

/// The body of a response on its way to the client. Dropped before its end, it stops the guest.
struct Sent {
    body: ResponseBody,
    guest: Option<AbortOnDropHandle<Result<(), StatusCode>>>,
    /// Its length, if the head tells it.
    length: Option<u64>,
    /// Whether the client gets no body, whatever the guest writes.
    unread: bool,
    log: Line,
    serving: Arc<Serving>,
}

impl Sent {
    fn of_guest(
        response: Response<ResponseBody>,
        guest: AbortOnDropHandle<Result<(), StatusCode>>,
        mut log: Line,
        serving: Arc<Serving>,
    ) -> Response<Sent> {
        let (head, body) = response.into_parts();
        log.status = Some(head.status);
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        // Such a response has no body, so hyper does not take it.
        let none = log.method == Method::HEAD
            || head.status.is_informational()
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        log.whole = none || length == Some(0);
        let sent = Sent { body, guest: Some(guest), length, unread: none, log, serving };
        Response::from_parts(head, sent)
    }

    /// A short answer of the server itself.
    fn of_server(status: StatusCode, mut log: Line, serving: Arc<Serving>) -> Response<Sent> {
        log.status = Some(status);
        let text = format!("{status}\n");
        let length = Some(text.len() as u64);
        let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed_unsync();
        let mut response = Response::new(Sent { body, guest: None, length, unread: false, log, serving });
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            // wasmtime ends a body in the same way, whether the guest finished it or not.
            None if this.log.cut.load(Ordering::SeqCst) => {
                return Poll::Ready(Some(Err("the guest failed before the end of its response".into())));
            }
            None => this.log.whole = true,
            Some(Ok(frame)) => {
                this.log.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                this.log.whole |= frame.is_trailers() || this.length == Some(this.log.bytes);
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.serving.set(None);
        // The guest of a response that is whole may run on, for as long as a request may take.
        if self.log.whole
            && let Some(guest) = self.guest.take()
        {
            drop(guest.detach());
        }
        // The guest may write it all the same. This ends with the guest.
        if self.unread
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let mut body = std::mem::take(&mut self.body);
            runtime.spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
