//! Comments of `.proto` files as descriptions.

use ahash::AHashMap;
use prost_reflect::{DescriptorPool, FileDescriptor};

/// Every comment of a pool, by file and path.
pub(super) struct Comments {
    by_path: AHashMap<String, AHashMap<Vec<i32>, String>>,
}

impl Comments {
    pub(super) fn new(pool: &DescriptorPool) -> Self {
        let file = |file: FileDescriptor| {
            let info = file.file_descriptor_proto().source_code_info.as_ref();
            let locations = info.map(|info| info.location.as_slice()).unwrap_or_default();
            let comments = locations.iter().filter_map(|location| {
                let parts = [
                    location.leading_comments.as_deref(),
                    location.trailing_comments.as_deref(),
                ];
                let parts: Vec<String> = parts
                    .into_iter()
                    .flatten()
                    .map(clean)
                    .filter(|text| !text.is_empty())
                    .collect();
                (!parts.is_empty()).then(|| (location.path.clone(), parts.join("\n\n")))
            });
            (file.name().to_owned(), comments.collect())
        };
        Self {
            by_path: pool.files().map(file).collect(),
        }
    }

    /// The comment of what is at this path of this file.
    pub(super) fn of(&self, file: &FileDescriptor, path: &[i32]) -> Option<&str> {
        self.by_path.get(file.name())?.get(path).map(String::as_str)
    }
}

/// A comment without the space after `//`, without notes to maintainers `(-- … --)` and without directives to tools.
pub(super) fn clean(text: &str) -> String {
    let mut public = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("(--") {
        public.push_str(before);
        rest = after.split_once("--)").map_or("", |(_, after)| after);
    }
    public.push_str(rest);
    let directive = |line: &&str| {
        !["buf:lint:", "protolint:", "aip.dev/not-precedent"]
            .iter()
            .any(|start| line.trim_start().starts_with(start))
    };
    let lines = public
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .filter(directive);
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The first sentence, for where there is room for one line only.
pub(super) fn summary(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let sentence = paragraph
        .split_once(". ")
        .map_or(paragraph.as_str(), |(first, _)| first);
    sentence.trim_end_matches('.').to_owned()
}
