//! Ranges of bytes: of what is asked for (RFC 9110, section 14) and of what is sent in chunks. Pure.

/// What an answer to a `Range` header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The whole: there is no such header, or none that has to be heeded.
    Whole,
    /// These bytes, from and length.
    Part(u64, u64),
    /// Nothing of what was asked for is there.
    Beyond,
}

/// Reads a `Range` header for content of `size` bytes. Several ranges at once are answered with the whole.
pub(crate) fn asked(header: Option<&str>, size: u64) -> Asked {
    let Some(range) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Asked::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else {
        return Asked::Whole;
    };
    let number = |text: &str| {
        let text = text.trim();
        (text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty())
            .then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), last) if last.is_some() || second_is_empty(range) => {
            let last = last.unwrap_or(u64::MAX).min(size.saturating_sub(1));
            if first >= size {
                Asked::Beyond
            } else if last < first {
                Asked::Whole
            } else {
                Asked::Part(first, last - first + 1)
            }
        }
        (None, Some(count)) if first.trim().is_empty() => match count.min(size) {
            0 => Asked::Beyond,
            count => Asked::Part(size - count, count),
        },
        _ => Asked::Whole,
    }
}

fn second_is_empty(range: &str) -> bool {
    range
        .split_once('-')
        .is_some_and(|(_, last)| last.trim().is_empty())
}

/// Reads the `Content-Range` of a chunk: `first-last`, both inclusive. `None` when it is damaged.
pub(crate) fn chunk(header: &str) -> Option<(u64, u64)> {
    let text = header.trim();
    // Some clients write it as HTTP has it elsewhere.
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split('/').next()?;
    let (first, last) = text.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_answered_as_http_has_it() {
        for (header, size, expected) in [
            (None, 10, Asked::Whole),
            (Some("bytes=0-3"), 10, Asked::Part(0, 4)),
            (Some("bytes=4-"), 10, Asked::Part(4, 6)),
            (Some("bytes=4-99"), 10, Asked::Part(4, 6)),
            (Some("bytes=-3"), 10, Asked::Part(7, 3)),
            (Some("bytes=-30"), 10, Asked::Part(0, 10)),
            (Some("bytes=10-"), 10, Asked::Beyond),
            (Some("bytes=10-20"), 10, Asked::Beyond),
            (Some("bytes=-0"), 10, Asked::Beyond),
            (Some("bytes=0-"), 0, Asked::Beyond),
            (Some("bytes=5-4"), 10, Asked::Whole),
            (Some("bytes=0-1,3-4"), 10, Asked::Whole),
            (Some("bytes=x-4"), 10, Asked::Whole),
            (Some("bytes=4-x"), 10, Asked::Whole),
            (Some("bytes=-"), 10, Asked::Whole),
            (Some("items=0-3"), 10, Asked::Whole),
            (Some("bytes=99999999999999999999999-"), 10, Asked::Beyond),
        ] {
            assert_eq!(asked(header, size), expected, "{header:?} of {size}");
        }
    }

    #[test]
    fn chunks_say_where_they_belong() {
        assert_eq!(chunk("0-9"), Some((0, 9)));
        assert_eq!(chunk("bytes 10-19/*"), Some((10, 19)));
        for bad in [
            "",
            "-",
            "0-",
            "-9",
            "a-b",
            "0-99999999999999999999999",
            "+1-2",
        ] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
    }
}
