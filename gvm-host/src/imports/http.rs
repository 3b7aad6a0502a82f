//! Requests that guests send: `wasi:http/outgoing-handler`.
//!
//! In: a request of a guest, what its node lets it reach, the authorities that it trusts. Out: the response of the server,
//! or the error code of `wasi:http` that says why there is none. wasmtime implements the interfaces, hyper speaks HTTP.
//! Must not know: the call that the guest runs, and the requests that it serves.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::authorities::Authorities;
use super::net::Net;
use super::state::State;
use crate::base::limits;

/// The part of a store that belongs to `wasi:http`.
pub(crate) struct Http {
    context: WasiHttpCtx,
    sender: Sender,
}

/// Sends the requests of one guest.
struct Sender {
    net: Net,
    authorities: Authorities,
}

impl Http {
    pub fn new(net: Net, authorities: Authorities) -> Http {
        Http { context: WasiHttpCtx::new(), sender: Sender { net, authorities } }
    }

    pub fn view<'a>(&'a mut self, table: &'a mut wasmtime::component::ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { hooks: &mut self.sender, table, ctx: &mut self.context }
    }
}

/// Defines `types` and `outgoing-handler` of `wasi:http`.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        State::http(self)
    }
}

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Sender {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(send(self.net.clone(), self.authorities.clone(), request, options.unwrap_or_default()))
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        match error.is_parse_too_large() {
            true => ErrorCode::HttpResponseHeaderSectionSize(None),
            false if error.is_timeout() => ErrorCode::HttpResponseTimeout,
            false if error.is_incomplete_message() => ErrorCode::HttpResponseIncomplete,
            false => ErrorCode::HttpProtocolError,
        }
    }

    fn p2_error_from_connect(&mut self, error: &io::Error) -> ErrorCode {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
            io::ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                ErrorCode::DestinationIpUnroutable
            }
            _ => ErrorCode::DestinationUnavailable,
        }
    }

    fn p2_error_from_tls(&mut self, error: &io::Error) -> ErrorCode {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(_)) => ErrorCode::TlsCertificateError,
            _ => ErrorCode::TlsProtocolError,
        }
    }
}

/// Sends a request to its host, if that is granted. The second part of the result is to be polled while the bodies
/// are on their way.
async fn send(
    net: Net,
    authorities: Authorities,
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Sent {
    // A tunnel is not a request.
    if request.method() == Method::CONNECT {
        return Err(Error::HttpRequestMethodInvalid);
    }
    let secure = request.uri().scheme() == Some(&Scheme::HTTPS);
    let (host, port) = destination(request.uri(), secure)?;
    let addresses = net.destinations(&host, port).map_err(|denied| match denied {
        Denied::Name => Error::HttpRequestDenied,
        Denied::Address => Error::DestinationIpProhibited,
    })?;
    let opening = open(&addresses, secure.then_some((&authorities, &*host)));
    let stream = within(options.connect_timeout, Error::ConnectionTimeout, opening).await?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(limits::HTTP_HEADER_BYTES).max_headers(limits::HTTP_HEADERS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // The destination is in the header `host`.
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let mut connection = Some(Box::pin(connection));
    let head = async {
        let mut sent = pin!(sender.send_request(request));
        if let Some(running) = &mut connection {
            tokio::select! {
                biased;
                response = &mut sent => return Ok(response?),
                ended = running => ended?,
            }
        }
        connection = None;
        Ok(sent.await?)
    };
    let response = within(options.first_byte_timeout, Error::ConnectionReadTimeout, head).await?;
    let most = options.between_bytes_timeout;
    let response = response.map(|body| Arriving::new(body, most).boxed_unsync());
    Ok((
        response,
        Box::new(async move {
            match connection {
                Some(connection) => Ok(connection.await?),
                None => Ok(()),
            }
        }),
    ))
}

/// Why a guest may not send a request to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The name is not granted with this port.
    Name,
    /// The address is not granted with this port.
    Address,
}

/// Returns the host and the port of an address of the web.
fn destination(uri: &Uri, secure: bool) -> Result<(String, u16), Error> {
    let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
    let host = authority.host();
    // Nothing but a port may be left; a name and a password in front are not.
    let port = match authority.as_str().strip_prefix(host) {
        Some("") => Some(if secure { 443 } else { 80 }),
        Some(rest) => rest.strip_prefix(':').and_then(|port| port.parse().ok()),
        None => None,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match port {
        Some(port) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(Error::HttpRequestUriInvalid),
    }
}

async fn within<T>(
    most: Option<Duration>,
    late: Error,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match most {
        None => work.await,
        Some(most) => tokio::time::timeout(most, work).await.unwrap_or(Err(late)),
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to the first of the addresses that answers, with TLS if there is a name to check.
async fn open(
    addresses: &[std::net::SocketAddr],
    tls: Option<(&Authorities, &str)>,
) -> Result<Box<dyn Stream>, Error> {
    let stream = TcpStream::connect(addresses).await.map_err(Error::Connect)?;
    let _ = stream.set_nodelay(true);
    let Some((authorities, host)) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let connector = authorities.connector().map_err(|_| Error::ConfigurationError)?;
    let stream = connector.connect(name, stream).await.map_err(Error::Tls)?;
    Ok(Box::new(stream))
}

/// The body of a response, of which each part must arrive in the time that the guest has set.
struct Arriving {
    body: Incoming,
    most: Option<Duration>,
    late: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    fn new(body: Incoming, most: Option<Duration>) -> Arriving {
        Arriving { body, most, late: most.map(|most| Box::pin(tokio::time::sleep(most))) }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let (Some(late), Some(most)) = (&mut this.late, this.most) {
                    late.as_mut().reset(Instant::now() + most);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
            Poll::Pending => match &mut this.late {
                Some(late) => late.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout))),
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_host_and_a_port() {
        let read = |uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            let secure = uri.scheme() == Some(&Scheme::HTTPS);
            destination(&uri, secure).ok()
        };
        let found = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(read("http://example.org/x"), found("example.org", 80));
        assert_eq!(read("https://example.org"), found("example.org", 443));
        assert_eq!(read("https://example.org:8443/"), found("example.org", 8443));
        assert_eq!(read("http://[::1]:8080/"), found("::1", 8080));
        assert_eq!(read("http://192.0.2.1/"), found("192.0.2.1", 80));
        for wrong in
            ["http://user@example.org/", "http://a:b@example.org:80/", "/x", "http://example.org:99999/"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
