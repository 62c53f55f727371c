//! Classification behind HTTP, in an axum server: sessions on blocking threads, as many as may run at once, and a deadline for each.
//!
//!     cargo run --release --manifest-path examples/server/Cargo.toml -- 127.0.0.1:8080 [MODEL]
//!     curl --data-binary @assets/samples/cat.png http://127.0.0.1:8080/classify

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stridewise::{Error, Model, Session, SessionOptions};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

/// What a request may take from its picture to its answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Sessions that wait for work. Taking one waits for the next that is given back.
struct Sessions {
    idle: Mutex<mpsc::Receiver<Session>>,
    back: mpsc::Sender<Session>,
}

impl Sessions {
    /// `count` sessions of one model: they share its packed weights.
    fn new(model: &Model, count: usize) -> stridewise::Result<Sessions> {
        let (back, idle) = mpsc::channel(count.max(1));
        for _ in 0..count.max(1) {
            let mut session = model.session(&SessionOptions::default())?;
            session.set_time_limit(Some(DEADLINE));
            // The channel holds as many as there are.
            let _ = back.try_send(session);
        }
        Ok(Sessions { idle: Mutex::new(idle), back })
    }
}

#[derive(Clone)]
struct App {
    model: Model,
    sessions: Arc<Sessions>,
}

type Refusal = (StatusCode, Json<Value>);

fn refuse(status: StatusCode, reason: impl std::fmt::Display) -> Refusal {
    (status, Json(json!({ "error": reason.to_string() })))
}

async fn classify(State(app): State<App>, picture: Bytes) -> Result<Json<Value>, Refusal> {
    let waiting = async { app.sessions.idle.lock().await.recv().await };
    let session =
        tokio::time::timeout(DEADLINE, waiting).await.map_err(|_| refuse(StatusCode::SERVICE_UNAVAILABLE, "all sessions are busy"))?;
    let mut session = session.ok_or_else(|| refuse(StatusCode::INTERNAL_SERVER_ERROR, "no sessions"))?;
    let (model, back) = (app.model.clone(), app.sessions.back.clone());
    // The session comes back even when the client has gone, for this task goes on.
    let answer = tokio::task::spawn_blocking(move || {
        let logits = model.preprocessing().decode_image(&picture, "the request's picture").and_then(|image| session.run(&image));
        let _ = back.try_send(session);
        logits.map(|logits| {
            let best = logits.as_slice().iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            let class = best.map_or(0, |(class, _)| class);
            json!({ "class": class, "label": model.labels().and_then(|labels| labels.get(class)), "logits": logits.as_slice() })
        })
    });
    match answer.await {
        Ok(Ok(answer)) => Ok(Json(answer)),
        Ok(Err(late @ Error::TimedOut { .. })) => Err(refuse(StatusCode::GATEWAY_TIMEOUT, late)),
        Ok(Err(error)) => Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, error)),
        Err(error) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, error)),
    }
}

fn router(model: Model, sessions: usize) -> stridewise::Result<Router> {
    let sessions = Arc::new(Sessions::new(&model, sessions)?);
    Ok(Router::new()
        .route("/classify", post(classify))
        .route("/health", get(async || "ok"))
        .layer(DefaultBodyLimit::max(32 << 20))
        .with_state(App { model, sessions }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let model = match arguments.next() {
        Some(path) => Model::load(None, path)?,
        None => Model::builtin()?,
    };
    // One thread each: many small requests want sessions, not threads.
    let sessions = std::thread::available_parallelism().map_or(1, usize::from);
    let router = router(model, sessions)?;
    let listener = TcpListener::bind(&address).await?;
    println!("{sessions} sessions behind http://{}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Sends a body, and returns the status and the answer.
    async fn send(address: std::net::SocketAddr, body: Vec<u8>) -> (u16, Value) {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!("POST /classify HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_requests_at_once_are_answered_and_broken_ones_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(Model::builtin().unwrap(), 2).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/samples");
        let requests: Vec<_> = ["cat", "ship", "frog"]
            .into_iter()
            .cycle()
            .take(24)
            .map(|label| (label, tokio::spawn(send(address, std::fs::read(format!("{samples}/{label}.png")).unwrap()))))
            .collect();
        for (label, request) in requests {
            let (status, answer) = request.await.unwrap();
            assert_eq!((status, answer["label"].as_str()), (200, Some(label)), "{answer}");
        }
        let (status, answer) = send(address, b"no picture".to_vec()).await;
        assert_eq!(status, 422);
        assert!(answer["error"].as_str().unwrap().contains("the request's picture"), "{answer}");
    }
}
