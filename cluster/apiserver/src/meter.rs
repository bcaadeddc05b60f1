//! A budget for what requests hold in memory: the bodies of all requests together are bounded, from the first byte until the
//! answer is made.
//!
//! Leaves out answers: what they hold is bounded by what is stored.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::reply::{Body, BoxError};

/// Bytes of the bodies of all requests that are being answered. What is made of a body takes some ten times as much.
const BODIES_BYTES_MAX: usize = 64 << 20;
/// The budget is counted in such parts.
const PART_BYTES: usize = 1024;

/// The budget of a server.
#[derive(Debug)]
pub(crate) struct Meter(Arc<Semaphore>);

impl Default for Meter {
    fn default() -> Meter {
        Meter(Arc::new(Semaphore::new(BODIES_BYTES_MAX / PART_BYTES)))
    }
}

/// What one request holds; given back when it is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    budget: Arc<Semaphore>,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    permits: Vec<OwnedSemaphorePermit>,
    bytes: usize,
}

/// There is no room for this body now.
#[derive(Debug, thiserror::Error)]
#[error("too many requests, please try again later")]
pub(crate) struct Overloaded;

impl Meter {
    pub(crate) fn share(&self) -> Share {
        Share { budget: self.0.clone(), held: Arc::default() }
    }
}

impl Share {
    /// A body whose bytes count.
    pub(crate) fn count(&self, body: Body) -> Body {
        Counted { body, share: self.clone() }.boxed_unsync()
    }

    fn take(&self, bytes: usize) -> Result<(), Overloaded> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = |bytes: usize| bytes.div_ceil(PART_BYTES);
        let more = parts(held.bytes + bytes) - parts(held.bytes);
        held.bytes += bytes;
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| Overloaded)?;
        let permit = self.budget.clone().try_acquire_many_owned(more).map_err(|_| Overloaded)?;
        match held.permits.first_mut() {
            Some(first) => first.merge(permit),
            None => held.permits.push(permit),
        }
        Ok(())
    }
}

struct Counted {
    body: Body,
    share: Share,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(overloaded) = self.share.take(data.len())
        {
            return Poll::Ready(Some(Err(Box::new(overloaded))));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let meter = Meter::default();
        let (one, two) = (meter.share(), meter.share());
        one.take(BODIES_BYTES_MAX - 10).unwrap();
        one.take(10).unwrap();
        two.take(1).unwrap_err();
        drop(one);
        two.take(BODIES_BYTES_MAX / 2).unwrap();
    }
}
