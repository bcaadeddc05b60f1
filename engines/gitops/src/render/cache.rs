//! Parsed files, shared between builds by their content.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::parse::{ParseError, Parsed, parse_documents};

/// Texts that are kept, in bytes; beyond it all are forgotten.
const CACHE_BYTES_MAX: usize = 256 * 1024 * 1024;

pub(crate) type Documents = Arc<Result<Vec<Parsed>, ParseError>>;

/// Shared by builds on any number of threads; builds that share one give the same results as builds that do not.
#[derive(Default)]
pub struct Cache {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    documents: HashMap<Arc<[u8]>, Documents>,
    bytes: usize,
}

impl Cache {
    pub(crate) fn parse(&self, content: &Arc<[u8]>) -> Documents {
        if let Some(found) = self.lock().documents.get(content) {
            return Arc::clone(found);
        }
        let documents = Arc::new(parse_documents(content));
        let mut kept = self.lock();
        if kept.bytes + content.len() > CACHE_BYTES_MAX {
            *kept = Kept::default();
        }
        if kept.documents.insert(Arc::clone(content), Arc::clone(&documents)).is_none() {
            kept.bytes += content.len();
        }
        documents
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // A panic elsewhere cannot leave a half-written entry.
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
