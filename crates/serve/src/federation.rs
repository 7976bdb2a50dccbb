//! A coordinator behind HTTP. Every request bears a token; every message is signed besides.
//!
//! | request | answer |
//! |---|---|
//! | `GET /phase` | what is being waited for, as JSON |
//! | `GET /roster`, `/deals`, `/opening`, `/proposal`, `/total`, `/outcome` | bytes, or 404 before there are any |
//! | `POST /messages` | 204 once the message survives a crash, 409 with the reason if it has no place |

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arras_rns::Backend;
use arras_rounds::message::Signed;
use arras_rounds::{Coordinator, Error, Journal, Roster};
use arras_wire::Writer;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};

/// Seconds for a whole request; slower ones are given up.
const REQUEST_SECONDS: u64 = 120;
/// Seconds without a byte of a body.
const SILENCE_SECONDS: u64 = 20;
/// Seconds between looks at the deadlines.
const TICK_SECONDS: u64 = 1;

/// What the routes share.
struct Shared<B: Backend, J> {
    coordinator: Mutex<Coordinator<B, J>>,
    /// Hashes of the tokens: comparing them tells nothing about the tokens.
    tokens: Vec<blake3::Hash>,
}

impl<B: Backend, J> Shared<B, J> {
    /// A panic in another request cannot leave half a step behind: steps are stored before they take effect.
    fn lock(&self) -> MutexGuard<'_, Coordinator<B, J>> {
        self.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a coordinator until the listener fails or `stop` is ready. Bodies beyond `max_body` bytes are refused before they
/// are read.
///
/// # Errors
/// A listener that fails.
pub async fn serve<B, J>(
    coordinator: Coordinator<B, J>,
    listener: tokio::net::TcpListener,
    tokens: &[String],
    max_body: usize,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()>
where
    B: Backend + Send + Sync + 'static,
    J: Journal + Send + 'static,
    Coordinator<B, J>: Send,
{
    let tokens = tokens.iter().map(|token| blake3::hash(token.as_bytes())).collect();
    let shared = Arc::new(Shared { coordinator: Mutex::new(coordinator), tokens });
    let deadlines = tokio::spawn(watch_deadlines(Arc::clone(&shared)));
    let served = axum::serve(listener, router(shared, max_body)).with_graceful_shutdown(stop).await;
    deadlines.abort();
    served
}

fn router<B, J>(shared: Arc<Shared<B, J>>, max_body: usize) -> Router
where
    B: Backend + Send + Sync + 'static,
    J: Journal + Send + 'static,
    Coordinator<B, J>: Send,
{
    Router::new()
        .route("/phase", get(phase))
        .route("/roster", get(roster))
        .route("/deals", get(deals))
        .route("/opening", get(opening))
        .route("/proposal", get(proposal))
        .route("/total", get(total))
        .route("/outcome", get(outcome))
        .route("/messages", post(message))
        .layer(DefaultBodyLimit::disable())
        // Judges the stated length before a byte of the body is read.
        .layer(RequestBodyLimitLayer::new(max_body))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), check_token))
        .layer(RequestBodyTimeoutLayer::new(Duration::from_secs(SILENCE_SECONDS)))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            Duration::from_secs(REQUEST_SECONDS),
        ))
        .with_state(shared)
}

async fn watch_deadlines<B, J>(shared: Arc<Shared<B, J>>)
where
    B: Backend + Send + Sync + 'static,
    J: Journal + Send + 'static,
    Coordinator<B, J>: Send,
{
    let mut interval = tokio::time::interval(Duration::from_secs(TICK_SECONDS));
    loop {
        interval.tick().await;
        let shared = Arc::clone(&shared);
        let ticked = tokio::task::spawn_blocking(move || shared.lock().tick(now())).await;
        if let Ok(Err(error)) = ticked {
            tracing::error!("{error}");
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

async fn check_token<B: Backend, J>(
    State(shared): State<Arc<Shared<B, J>>>,
    request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given =
        given.and_then(|value| value.strip_prefix("Bearer ")).map(|token| blake3::hash(token.as_bytes()));
    // Hashes compare in constant time.
    if given.is_some_and(|given| shared.tokens.contains(&given)) {
        next.run(request).await
    } else {
        (StatusCode::UNAUTHORIZED, "the token is missing or wrong\n").into_response()
    }
}

async fn phase<B: Backend, J: Journal>(State(shared): State<Arc<Shared<B, J>>>) -> Response {
    Json(shared.lock().phase()).into_response()
}

/// Bytes that are there, are not yet, or cannot be had.
fn answer(bytes: Result<Option<Vec<u8>>, Error>) -> Response {
    match bytes {
        Ok(Some(bytes)) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "not yet\n").into_response(),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &Error) -> Response {
    let status = match error {
        Error::Journal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Error::OutOfPlace { .. } => StatusCode::CONFLICT,
        Error::Refused(_) => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    (status, format!("{error}\n")).into_response()
}

async fn roster<B: Backend, J: Journal>(State(shared): State<Arc<Shared<B, J>>>) -> Response {
    answer(shared.lock().roster().map(Roster::encode).transpose())
}

async fn deals<B: Backend, J: Journal>(State(shared): State<Arc<Shared<B, J>>>) -> Response {
    let encode = |deals: Vec<&Signed>| {
        let mut w = Writer::new();
        for deal in deals {
            w.blob(&deal.encode()?);
        }
        Ok(w.into_bytes())
    };
    answer(shared.lock().deals().map(encode).transpose())
}

async fn opening<B: Backend, J: Journal>(State(shared): State<Arc<Shared<B, J>>>) -> Response {
    answer(shared.lock().opening().map(Signed::encode).transpose())
}

async fn proposal<B: Backend, J: Journal>(State(shared): State<Arc<Shared<B, J>>>) -> Response {
    let coordinator = shared.lock();
    let encode = |proposal: &arras_rounds::message::Proposal| {
        let mut w = Writer::new();
        proposal.encode(&mut w)?;
        Ok(w.into_bytes())
    };
    answer(coordinator.proposal().map(encode).transpose())
}

async fn total<B: Backend, J: Journal>(State(shared): State<Arc<Shared<B, J>>>) -> Response {
    answer(Ok(shared.lock().total().map(<[u8]>::to_vec)))
}

async fn outcome<B: Backend, J: Journal>(State(shared): State<Arc<Shared<B, J>>>) -> Response {
    answer(shared.lock().outcome().map(Signed::encode).transpose())
}

async fn message<B, J>(State(shared): State<Arc<Shared<B, J>>>, body: Bytes) -> Response
where
    B: Backend + Send + Sync + 'static,
    J: Journal + Send + 'static,
    Coordinator<B, J>: Send,
{
    let posted = tokio::task::spawn_blocking(move || shared.lock().post(now(), &body)).await;
    match posted {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(error)) => {
            tracing::warn!("refused a message: {error}");
            refuse(&error)
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the message could not be judged\n").into_response(),
    }
}
