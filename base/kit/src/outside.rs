//! What controllers hold besides the Kubernetes API, by type: a keyring, a client of a cloud.
//!
//! The process puts it into the [`crate::Context`]; `observe` takes it from the [`crate::View`]. Plan cases put theirs in,
//! so that the same code runs in both. What is here answers from what it knows, without waiting.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Things by type. Cheap to clone.
#[derive(Clone, Default)]
pub struct Outside(Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Outside {
    /// With one thing more; a thing of the same type is replaced.
    #[must_use]
    pub fn with<T: Send + Sync + 'static>(self, thing: Arc<T>) -> Outside {
        let mut things = HashMap::clone(&self.0);
        things.insert(TypeId::of::<T>(), thing);
        Outside(Arc::new(things))
    }

    /// The thing of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Things may be secret.
        write!(f, "Outside({} things)", self.0.len())
    }
}
