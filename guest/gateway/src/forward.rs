//! A plain request: read once more by hyper, which knows where its body ends, and sent on in the form that servers expect.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri, client, server};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::heard::{Heard, Watched};
use crate::refusal::Refusal;

type Body = BoxBody<Bytes, hyper::Error>;

/// Forwards the one request that begins with `bytes`, a judged head and what came behind it, until its answer is over or
/// nothing goes either way for `idle`. What follows the request is never read: a connection carries one.
pub(crate) async fn one(
    stream: &mut TcpStream,
    bytes: Vec<u8>,
    upstream: TcpStream,
    idle: Duration,
) -> Result<(), Refusal> {
    let heard = Heard::now();
    let upstream = Watched { stream: upstream, heard: &heard };
    let handshake = client::conn::http1::handshake::<_, Incoming>(TokioIo::new(upstream)).await;
    let (sender, connection) = handshake.map_err(|_| Refusal::NoServer)?;
    let sender = RefCell::new(Some(sender));
    let service = service_fn(|request| answer(&sender, request));
    let (read, write) = stream.split();
    let stream = tokio::io::join(std::io::Cursor::new(bytes).chain(read), write);
    let stream = Watched { stream, heard: &heard };
    let mut builder = server::conn::http1::Builder::new();
    let serving = builder.keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let both = async {
        tokio::pin!(connection);
        tokio::pin!(serving);
        tokio::select! {
            _ = &mut serving => {}
            // The server has closed; what it sent may still be on its way to the client.
            _ = &mut connection => { let _ = serving.await; }
        }
    };
    tokio::select! { () = both => {}, () = heard.silence(idle) => {} }
    Ok(())
}

async fn answer(
    sender: &RefCell<Option<client::conn::http1::SendRequest<Incoming>>>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let Some(mut sender) = sender.borrow_mut().take() else { return Ok(bad_gateway()) };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(path) = path.parse::<Uri>() else { return Ok(bad_gateway()) };
    *request.uri_mut() = path;
    keep_end_to_end(request.headers_mut());
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let Ok(mut response) = sender.send_request(request).await else { return Ok(bad_gateway()) };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(bad_gateway());
    }
    keep_end_to_end(response.headers_mut());
    Ok(response.map(BodyExt::boxed))
}

/// Takes away what is meant for the next hop alone (RFC 9110 §7.6.1), an upgrade included; framing is hyper's.
fn keep_end_to_end(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != hyper::header::HOST && *name != hyper::header::CONTENT_LENGTH)
        .filter(|name| *name != hyper::header::TRANSFER_ENCODING)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, UPGRADE, TE, TRAILER, EXPECT] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate"] {
        headers.remove(name);
    }
}

fn bad_gateway() -> Response<Body> {
    let body =
        Full::new(Bytes::from_static(b"claude-bottle gateway: the server does not answer\n"));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
