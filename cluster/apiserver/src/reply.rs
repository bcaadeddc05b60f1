//! Answers on their way out.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;

use crate::request::{Encoding, Media};
use crate::status::ApiError;

/// An error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of requests and answers between the parts of dodai.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// An answer with its warnings.
pub(crate) struct Reply {
    pub response: Response<Body>,
}

/// A body of one piece.
pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

impl Reply {
    fn new(code: u16, content_type: &'static str, body: Body) -> Reply {
        let mut response = Response::new(body);
        *response.status_mut() =
            http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        Reply { response }
    }

    /// JSON text, written as YAML if that is what is wanted.
    pub(crate) fn json(code: u16, text: Bytes, media: Media) -> Reply {
        if media.encoding == Encoding::Json && !media.pretty {
            return Reply::new(code, media.content_type(), full(text));
        }
        match serde_json::from_slice(&text) {
            Ok(value) => Reply::value(code, &value, media),
            Err(error) => Reply::error(&ApiError::internal(error)),
        }
    }

    pub(crate) fn value(code: u16, value: &Value, media: Media) -> Reply {
        let text = match (media.encoding, media.pretty) {
            (Encoding::Json, false) => value.to_string(),
            (Encoding::Json, true) => {
                let mut text = serde_json::to_string_pretty(value).expect("a JSON value can be written");
                text.push('\n');
                text
            }
            (Encoding::Yaml, _) => dodai_yaml::to_string(value),
        };
        Reply::new(code, media.content_type(), full(text.into()))
    }

    pub(crate) fn text(code: u16, text: impl Into<Bytes>) -> Reply {
        Reply::new(code, "text/plain; charset=utf-8", full(text.into()))
    }

    /// 204.
    pub(crate) fn nothing() -> Reply {
        let mut reply = Reply::text(204, "");
        reply.response.headers_mut().remove(header::CONTENT_TYPE);
        reply
    }

    pub(crate) fn stream(
        code: u16,
        content_type: &'static str,
        pieces: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Reply {
        let frames = pieces.map(|piece| Ok(Frame::data(piece)));
        Reply::new(code, content_type, StreamBody::new(frames).boxed_unsync())
    }

    pub(crate) fn error(error: &ApiError) -> Reply {
        let mut reply = Reply::value(error.code, &error.to_value(), Media::JSON);
        let retry = error.details.as_ref().map(|details| details.retry_after_seconds).unwrap_or_default();
        if retry > 0 {
            reply.response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
        }
        reply
    }

    /// The answer with these warnings, too.
    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Reply {
        for warning in &warnings {
            self.warn(warning);
        }
        self
    }

    /// Adds a `Warning` header.
    pub(crate) fn warn(&mut self, text: &str) {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            self.response.headers_mut().append(header::WARNING, value);
        }
    }
}
