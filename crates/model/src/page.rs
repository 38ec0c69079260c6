//! Paging (AIP-158): page sizes and opaque tokens.
//!
//! A token carries a cursor (whatever the list can continue from) and a digest of the request's other
//! parameters, so that a token of another list, parent, filter or order is refused instead of giving a page of
//! nonsense. It is not a secret and proves nothing: every page is authorised anew.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Items of a page when the client does not say.
pub const DEFAULT_PAGE_SIZE: usize = 50;
/// Most items of a page; larger wishes are cut to it. Bounds a response to a few MiB of the largest resources.
pub const MAX_PAGE_SIZE: usize = 500;
/// Longest token that is looked at: a Kubernetes `continue` token is about 200 bytes, several fit.
const MAX_TOKEN: usize = 4096;
/// Version of the token's form; another one is refused.
const VERSION: u8 = 1;
/// Bytes of the digest that are kept: this guards against mistakes, not against forgery.
const DIGEST: usize = 8;

/// Why a page cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The size is negative.
    #[error("page_size must not be negative, is {0}")]
    NegativeSize(i32),
    /// The token cannot be read.
    #[error("page_token is not one that this service made")]
    Malformed,
    /// The token was made for other parameters.
    #[error("page_token was made by a list call with another parent, filter or order")]
    OtherRequest,
}

/// One page that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    size: usize,
    cursor: Option<String>,
    digest: [u8; DIGEST],
}

impl PageRequest {
    /// Reads a list request's `page_size` and `page_token`. `binding` is every other parameter that shapes the list:
    /// the method, parent, filter and order.
    ///
    /// # Errors
    /// If the size is negative, or the token was not made by [`Self::next_token`] with the same binding.
    pub fn parse(page_size: i32, page_token: &str, binding: &[&str]) -> Result<Self, PageError> {
        let size = usize::try_from(page_size).map_err(|_| PageError::NegativeSize(page_size))?;
        let size = if size == 0 {
            DEFAULT_PAGE_SIZE
        } else {
            size.min(MAX_PAGE_SIZE)
        };
        let digest = digest(binding);
        let cursor = if page_token.is_empty() {
            None
        } else {
            Some(read_token(page_token, digest)?)
        };
        Ok(Self { size, cursor, digest })
    }

    /// The first page of that size, for callers inside a service.
    pub fn first(size: usize) -> Self {
        Self {
            size: size.clamp(1, MAX_PAGE_SIZE),
            cursor: None,
            digest: digest(&[]),
        }
    }

    /// How many items the page may have: 1 to [`MAX_PAGE_SIZE`].
    pub fn size(&self) -> usize {
        self.size
    }

    /// Where to continue; `None` for the first page.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The token that continues this list at `cursor`.
    pub fn next_token(&self, cursor: &str) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.digest);
        bytes.extend_from_slice(cursor.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The request of the page after this one, which ended at `cursor`.
    #[must_use]
    pub fn after(&self, cursor: impl Into<String>) -> Self {
        Self {
            cursor: Some(cursor.into()),
            ..self.clone()
        }
    }

    /// Cuts this page out of a list that is in memory and sorted by `key`, each key once; the cursor is the last key
    /// of the page. Returns the items and the next page's token, empty at the end.
    pub fn cut<T>(&self, sorted: impl IntoIterator<Item = T>, key: impl Fn(&T) -> String) -> (Vec<T>, String) {
        let mut rest = sorted
            .into_iter()
            .filter(|item| self.cursor().is_none_or(|cursor| key(item).as_str() > cursor));
        let page: Vec<T> = rest.by_ref().take(self.size).collect();
        let token = match (rest.next(), page.last()) {
            (Some(_), Some(last)) => self.next_token(&key(last)),
            _ => String::new(),
        };
        (page, token)
    }
}

fn read_token(token: &str, expected: [u8; DIGEST]) -> Result<String, PageError> {
    if token.len() > MAX_TOKEN {
        return Err(PageError::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| PageError::Malformed)?;
    let Some((&VERSION, rest)) = bytes.split_first() else {
        return Err(PageError::Malformed);
    };
    let Some((digest, cursor)) = rest.split_at_checked(DIGEST) else {
        return Err(PageError::Malformed);
    };
    if digest != expected {
        return Err(PageError::OtherRequest);
    }
    String::from_utf8(cursor.to_vec()).map_err(|_| PageError::Malformed)
}

fn digest(binding: &[&str]) -> [u8; DIGEST] {
    let mut hash = Sha256::new();
    for part in binding {
        // The length keeps ["ab", "c"] and ["a", "bc"] apart.
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut short = [0; DIGEST];
    for (to, from) in short.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_clamped_and_negative_ones_refused() {
        for (asked, given) in [(0, 50), (1, 1), (500, 500), (501, 500), (i32::MAX, 500)] {
            assert_eq!(PageRequest::parse(asked, "", &[]).map(|p| p.size()), Ok(given));
        }
        assert_eq!(PageRequest::parse(-1, "", &[]), Err(PageError::NegativeSize(-1)));
    }

    #[test]
    fn tokens_of_another_list_are_refused() -> Result<(), PageError> {
        let token = PageRequest::parse(1, "", &["ListPools", "projects/a"])?.next_token("x");
        let same = PageRequest::parse(9, &token, &["ListPools", "projects/a"])?;
        assert_eq!(same.cursor(), Some("x"));
        assert_eq!(
            PageRequest::parse(1, &token, &["ListPools", "projects/b"]),
            Err(PageError::OtherRequest)
        );
        for bad in ["!", "AA", "AQ", "Ag"] {
            assert_eq!(PageRequest::parse(1, bad, &[]), Err(PageError::Malformed), "{bad}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn pages_give_every_item_once_and_in_order(all in proptest::collection::btree_set("[a-z]{1,3}", 0..40), size in 1..7_i32) {
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let page = PageRequest::parse(size, &token, &["list"])?;
                let (items, next) = page.cut(all.iter().cloned(), Clone::clone);
                seen.extend(items);
                if next.is_empty() {
                    break;
                }
                token = next;
            }
            prop_assert_eq!(seen, all.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn reading_never_panics(token in ".{0,40}") {
            let _ = PageRequest::parse(1, &token, &[]);
        }
    }
}
