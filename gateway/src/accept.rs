//! What a client likes to get, by the weights of its `Accept` (RFC 9110, section 12.5.1).

use std::cmp::Reverse;

use http::HeaderMap;
use http::header::ACCEPT;

use crate::headers;

/// A media range: how exactly it names a type, and how much that is liked.
#[derive(Clone, Copy)]
struct Fit {
    /// 3 for a type, 2 for all of a kind, 1 for all.
    exactness: u8,
    /// In thousandths; 0 is a refusal.
    weight: u16,
    /// Where it stands in the list, from 0.
    place: usize,
}

/// The index in `known` of the media type that the client likes most: by weight, then those that it names itself before those that a wildcard
/// covers, then the one it names first. `Ok(None)` if it names none of them, nor refuses any. `canonical` gives the known name of a type that has
/// several.
///
/// # Errors
/// It refuses all of them.
pub(crate) fn accepted(
    headers: &HeaderMap,
    known: &[&str],
    canonical: fn(&str) -> &str,
) -> Result<Option<usize>, Refused> {
    let ranges = headers::items(headers, &ACCEPT).filter_map(range);
    let ranges: Vec<(&str, u16)> = ranges.map(|(range, weight)| (canonical(range), weight)).collect();
    let fits: Vec<Option<Fit>> = known.iter().map(|kind| best(&ranges, kind)).collect();
    let liked = fits
        .iter()
        .enumerate()
        .filter_map(|(index, fit)| Some((index, (*fit)?)));
    let most = liked
        .filter(|(_, fit)| fit.weight > 0)
        .min_by_key(|(index, fit)| (Reverse(fit.weight), Reverse(fit.exactness), fit.place, *index));
    match most {
        Some((index, _)) => Ok(Some(index)),
        None if fits.iter().all(|fit| fit.is_some_and(|fit| fit.weight == 0)) => Err(Refused),
        // What is not named is not refused: the first of those is as good as any.
        None => Ok(fits
            .iter()
            .position(Option::is_none)
            .filter(|_| fits.iter().any(Option::is_some))),
    }
}

/// The client takes nothing of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

/// The most exact range that covers a type decides on it.
fn best(ranges: &[(&str, u16)], kind: &str) -> Option<Fit> {
    let family = kind.split('/').next().unwrap_or_default();
    let covers = |range: &str| match range.split_once('/') {
        _ if range.eq_ignore_ascii_case(kind) => 3,
        Some((of, "*")) if of.eq_ignore_ascii_case(family) => 2,
        Some(("*", "*")) => 1,
        _ => 0,
    };
    let fits = ranges.iter().enumerate().map(|(place, (range, weight))| Fit {
        exactness: covers(range),
        weight: *weight,
        place,
    });
    fits.filter(|fit| fit.exactness > 0)
        .min_by_key(|fit| (Reverse(fit.exactness), fit.place))
}

/// `text/html;level=1;q=0.5` without its parameters, and its weight in thousandths; `None` for one that is malformed.
fn range(item: &str) -> Option<(&str, u16)> {
    let mut parts = headers::split(item, ';');
    let range = parts.next()?;
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let weight = match weight {
        None => 1000,
        Some(text) => thousandths(text)?,
    };
    Some((range, weight))
}

/// `0.5`: a number from 0 to 1 with at most three digits after its point.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    match (whole, part) {
        ("0", part) => Some(part),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["application/x-ndjson", "text/event-stream", "application/json"];

    fn asked(lines: &[&str]) -> Result<Option<&'static str>, Refused> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        accepted(&headers, &KNOWN, |range| range).map(|index| index.map(|index| KNOWN[index]))
    }

    #[test]
    fn the_clients_weights_decide() {
        let (lines, events, array) = (Ok(Some(KNOWN[0])), Ok(Some(KNOWN[1])), Ok(Some(KNOWN[2])));
        for (accept, chosen) in [
            (&["text/event-stream;q=0, application/x-ndjson"][..], lines),
            (&["text/event-stream;q=0.5, application/json;q=0.8"], array),
            (&["application/json;q=0.8", "text/event-stream"], events),
            (&["text/event-stream, */*"], events),
            (&["*/*, Text/Event-Stream"], events),
            (&["text/*, */*;q=0.1"], events),
            (&["application/*"], lines),
            (&["application/*, application/x-ndjson;q=0"], array),
            (&["*/*"], lines),
            (&["application/json, text/event-stream"], array),
            (
                &["application/json; q=0.2 ; x=\"a,b\", text/event-stream;Q=0.3"],
                events,
            ),
            (&["application/json;q=2, text/event-stream;q=0.1"], events),
            (&["application/x-ndjson;q=0"], events),
            (&["text/html"], Ok(None)),
            (&[], Ok(None)),
            (&["*/*;q=0"], Err(Refused)),
            (&["*/*;q=0, application/json;q=0.001"], array),
        ] {
            assert_eq!(asked(accept), chosen, "{accept:?}");
        }
    }
}
