//! Bodies that remember what passed, and bodies that hold room until they end, or end when their
//! caller's credential does.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use contracts::MESSAGE_BYTES;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;

use super::limit::Room;

/// What passed through a body, up to the largest message that is taken.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<BytesMut>>);

impl Seen {
    fn add(&self, data: &Bytes) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() <= MESSAGE_BYTES {
            seen.extend_from_slice(data);
        }
    }

    /// The one message of a unary call. `None`: it was not read whole, or it is compressed.
    pub fn message(&self) -> Option<Bytes> {
        let mut seen = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if seen.len() < 5 || seen.get_u8() != 0 {
            return None;
        }
        let length = usize::try_from(seen.get_u32()).ok()?;
        (seen.len() == length).then(|| seen.freeze())
    }
}

/// A body that is remembered as it passes.
pub struct Tapped {
    body: Body,
    seen: Seen,
}

impl Tapped {
    /// Remembers this body.
    pub fn new(body: Body, seen: Seen) -> Self {
        Self { body, seen }
    }
}

impl HttpBody for Tapped {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.seen.add(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that holds room, and ends early when it must.
pub struct Held {
    body: Body,
    _room: Room,
    until: Option<BoxFuture<'static, Status>>,
    is_over: bool,
}

impl Held {
    /// Holds the room until the body ends. With `until`, it ends with that status at the latest.
    pub fn new(body: Body, room: Room, until: Option<BoxFuture<'static, Status>>) -> Self {
        Self {
            body,
            _room: room,
            until,
            is_over: false,
        }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(until) = &mut self.until
            && let Poll::Ready(status) = until.poll_unpin(context)
        {
            self.is_over = true;
            // Whatever makes the stream is told that nobody reads it any more.
            self.body = Body::empty();
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(match status.add_header(&mut trailers) {
                Ok(()) => Ok(Frame::trailers(trailers)),
                Err(status) => Err(axum::Error::new(status)),
            }));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
