//! Bodies on their way through: streamed, never collected, and cut when the drain deadline passes.
//! A body holds the pass of its backend until its last byte.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{backend::Pass, connection::Http1};

/// What goes to a backend.
pub(super) type RequestBody = BoxBody<Bytes, BodyError>;
/// What goes to a client.
pub(super) type ResponseBody = BoxBody<Bytes, BodyError>;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the other side broke off")]
    Broken(#[source] hyper::Error),
    #[error("cut at the drain deadline")]
    Cut,
}

/// A body that ends with an error when its backend is cut off.
pub(super) struct Guarded {
    inner: Incoming,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    hold: Option<Hold>,
}

/// What is kept until the body is done.
pub(super) struct Hold {
    pub(super) pass: Pass,
    /// Given back when the body was read to its end.
    pub(super) connection: Option<Http1>,
}

impl Guarded {
    /// The answer of a backend.
    pub(super) fn response(inner: Incoming, hold: Hold) -> Self {
        let cut = Box::pin(hold.pass.cut().clone().cancelled_owned());
        let mut guarded = Self {
            inner,
            cut,
            hold: Some(hold),
        };
        guarded.finish_if_ended();
        guarded
    }

    fn finish_if_ended(&mut self) {
        if self.inner.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(hold) = self.hold.take()
            && let Some(connection) = hold.connection
        {
            hold.pass.backend().pool.give_back(connection);
        }
    }
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.cut.as_mut().poll(context).is_ready() {
            if let Some(hold) = this.hold.take() {
                hold.pass.count(super::counters::Counters::cut);
            }
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(source))) => {
                if let Some(hold) = this.hold.take() {
                    hold.pass.count(super::counters::Counters::transport_error);
                }
                Poll::Ready(Some(Err(BodyError::Broken(source))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.finish_if_ended();
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// When the client sent the last piece of its upload.
#[derive(Debug, Clone, Default)]
pub(super) struct LastUpload(Arc<Mutex<Option<Instant>>>);

impl LastUpload {
    pub(super) fn at(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// The upload of a client, which notes each piece as it goes by.
pub(super) fn upload(body: Incoming, uploaded: LastUpload) -> RequestBody {
    body.map_frame(move |frame| {
        uploaded.touch();
        frame
    })
    .map_err(BodyError::Broken)
    .boxed()
}

pub(super) fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(super) fn text(text: String) -> ResponseBody {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed()
}
