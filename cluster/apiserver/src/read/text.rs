//! The text of a list, put together from the stored texts: as a whole, or in pieces while it is sent, so that a list of any
//! length takes the memory of one piece.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::Page;
use crate::codec;
use crate::kinds::Kind;
use crate::reply::Reply;
use crate::request::{Encoding, Media};
use crate::store::Object;

/// Bytes of a piece, about; a list that fits into one is sent with its length.
const PIECE_BYTES: usize = 64 << 10;

/// The text of a list, piece by piece.
struct Pieces {
    kind: Arc<Kind>,
    objects: std::vec::IntoIter<Arc<Object>>,
    /// What comes before the next object; `None` when the list has ended.
    before: Option<Bytes>,
}

impl Pieces {
    fn new(kind: &Arc<Kind>, page: Page) -> Pieces {
        let mut metadata = page.metadata;
        if kind.is_custom() && metadata["continue"].is_null() {
            // Plain lists of custom resources always show it.
            metadata["continue"] = "".into();
        }
        let head = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
            kind.list_kind,
            kind.api_version(),
            metadata
        );
        Pieces { kind: kind.clone(), objects: page.objects.into_iter(), before: Some(head.into()) }
    }

    /// Bytes of all that is to come, about.
    fn size(&self) -> usize {
        self.objects.as_slice().iter().map(|object| object.json.len() + 64).sum::<usize>() + 256
    }

    /// The next objects, until they take `bytes` bytes; with room for so many.
    fn piece(&mut self, bytes: usize, room: usize) -> Option<Bytes> {
        let mut before = self.before.take()?;
        let mut text = BytesMut::with_capacity(room);
        while text.len() < bytes {
            let Some(object) = self.objects.next() else {
                // An empty list still has its head.
                if before.first() == Some(&b'{') {
                    text.put_slice(&before);
                }
                text.put_slice(b"]}");
                return Some(text.freeze());
            };
            text.put_slice(&before);
            text.put_slice(&codec::render_item(&self.kind, &object));
            before = Bytes::from_static(b",");
        }
        self.before = Some(before);
        Some(text.freeze())
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.piece(PIECE_BYTES, PIECE_BYTES + PIECE_BYTES / 8)
    }
}

/// The answer to a list.
pub(super) fn answer(kind: &Arc<Kind>, page: Page, media: Media) -> Reply {
    let mut pieces = Pieces::new(kind, page);
    let size = pieces.size();
    let as_it_is = media.encoding == Encoding::Json && !media.pretty;
    if as_it_is && size > PIECE_BYTES {
        return Reply::stream(200, media.content_type(), futures::stream::iter(pieces));
    }
    Reply::json(200, pieces.piece(usize::MAX, size).unwrap_or_default(), media)
}

/// The text as a whole.
pub(crate) fn list_json(kind: &Arc<Kind>, page: Page) -> Bytes {
    let mut pieces = Pieces::new(kind, page);
    let size = pieces.size();
    pieces.piece(usize::MAX, size).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::Registry;
    use crate::store::Key;

    #[test]
    fn the_pieces_of_a_list_are_the_list() {
        let kind = Registry::builtin().get("", "v1", "configmaps").unwrap().clone();
        let filling = "x".repeat(700);
        for n in [0, 1, 2, 90, 1000] {
            let object = |at: usize| {
                let name = format!("m{at}");
                let key = Key::new(&"core/configmaps".into(), "default", &name);
                Arc::new(Object::unstored(
                    &json!({ "metadata": { "name": name }, "data": { "f": filling } }),
                    &key,
                ))
            };
            let page = || Page {
                objects: (0..n).map(object).collect(),
                metadata: json!({ "resourceVersion": "7" }),
            };
            let whole = list_json(&kind, page());
            let pieces: Vec<Bytes> = Pieces::new(&kind, page()).collect();
            assert_eq!(pieces.concat(), whole);
            assert_eq!(pieces.len() > 5, n == 1000, "{n} objects in {} pieces", pieces.len());
            let list: Value = serde_json::from_slice(&whole).unwrap();
            assert_eq!(
                (&list["kind"], &list["metadata"]["resourceVersion"]),
                (&json!("ConfigMapList"), &json!("7"))
            );
            let names = list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone());
            assert_eq!(
                names.collect::<Vec<_>>(),
                (0..n).map(|at| json!(format!("m{at}"))).collect::<Vec<_>>()
            );
        }
    }
}
