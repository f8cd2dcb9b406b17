//! Named things in file order, found by name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// A list with a hashed index; names are unique.
#[derive(Debug)]
pub(super) struct Table<T> {
    items: Vec<T>,
    index: HashMap<Arc<str>, usize>,
}

impl<T> Table<T> {
    pub(super) fn new() -> Table<T> {
        Table {
            items: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// Adds an item; gives it back if the name is taken.
    pub(super) fn insert(&mut self, name: Arc<str>, item: T) -> Result<(), T> {
        match self.index.entry(name) {
            Entry::Occupied(_) => Err(item),
            Entry::Vacant(entry) => {
                entry.insert(self.items.len());
                self.items.push(item);
                Ok(())
            }
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&T> {
        self.items.get(*self.index.get(name)?)
    }

    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    pub(super) fn into_items(self) -> Vec<T> {
        self.items
    }
}
