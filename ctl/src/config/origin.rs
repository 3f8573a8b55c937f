//! Where in the file each item stands.

use std::collections::BTreeMap;

/// The file and the lines of its items.
///
/// Items are addressed by paths with indices into the model: `service[2].backend[1].weight`. Two
/// origins always compare equal: where a configuration came from is not part of what it says.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    file: String,
    lines: BTreeMap<String, u32>,
}

impl Origin {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), lines: BTreeMap::new() }
    }

    /// The name of the file as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line of an item, counted from 1; that of the nearest enclosing item when it is not written
    /// out, in the end the first; `None` when nothing is known.
    pub fn line(&self, path: &str) -> Option<u32> {
        let mut path = path;
        loop {
            if let Some(&line) = self.lines.get(path) {
                return Some(line);
            }
            let Some(parent) = path.rfind(['.', '[']) else {
                return (!self.lines.is_empty()).then_some(1);
            };
            path = &path[..parent];
        }
    }

    /// Whether the item is written out in the file.
    pub(super) fn has(&self, path: &str) -> bool {
        self.lines.contains_key(path)
    }

    pub(super) fn set(&mut self, path: &str, line: u32) {
        self.lines.insert(path.to_owned(), line);
    }

    /// Forgets an item and all below it.
    pub(super) fn forget(&mut self, path: &str) {
        let below: Vec<String> = self
            .lines
            .range(path.to_owned()..)
            .map(|(known, _)| known)
            .take_while(|known| known.starts_with(path))
            .filter(|known| matches!(known.as_bytes().get(path.len()), None | Some(b'.' | b'[')))
            .cloned()
            .collect();
        for known in below {
            self.lines.remove(&known);
        }
    }
}

impl PartialEq for Origin {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}
