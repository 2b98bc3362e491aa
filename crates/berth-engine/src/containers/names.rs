//! Names of containers: what is allowed, and made-up ones.

use crate::error::EngineError;
use crate::limits;

/// Checks a wanted name and takes its leading slash off.
///
/// # Errors
/// With Docker's sentence.
pub fn check(name: &str) -> Result<&str, EngineError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let valid = bare.len() >= 2
        && bare.len() <= limits::NAME_LENGTH_MAX
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if valid {
        Ok(bare)
    } else {
        Err(EngineError::Invalid(format!(
            "Invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            name.chars().take(128).collect::<String>()
        )))
    }
}

const FIRST: &[&str] = &[
    "able", "amber", "ample", "apt", "azure", "balmy", "bold", "brave", "breezy", "brisk",
    "bright", "buoyant", "calm", "candid", "cheery", "civil", "clear", "clever", "coral", "cosy",
    "crisp", "dapper", "deft", "deep", "eager", "early", "easy", "fair", "fleet", "fluent", "fond",
    "free", "fresh", "gentle", "glad", "golden", "grand", "hale", "handy", "hardy", "honest",
    "ivory", "jaunty", "jolly", "keen", "kind", "laden", "level", "light", "lively", "loyal",
    "lucid", "lucky", "mellow", "merry", "mild", "misty", "moored", "neat", "nimble", "noble",
    "opal", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "rapid", "ready",
    "robust", "rosy", "sandy", "serene", "sharp", "silver", "sleek", "smart", "snug", "solid",
    "spry", "steady", "still", "stout", "sturdy", "sunny", "sure", "swift", "tidal", "tidy",
    "trim", "true", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
];

/// Surnames of people who charted seas, built ships and harbours, or made the sea a science.
const SECOND: &[&str] = &[
    "amundsen",
    "anning",
    "aronnax",
    "baffin",
    "ballard",
    "banks",
    "barents",
    "baret",
    "beaufort",
    "bering",
    "bowditch",
    "brunel",
    "byrd",
    "cabot",
    "carson",
    "cartier",
    "clark",
    "columba",
    "cook",
    "cousteau",
    "dampier",
    "darwin",
    "davis",
    "drake",
    "earle",
    "eiriksson",
    "fitzroy",
    "flinders",
    "forbes",
    "franklin",
    "fremantle",
    "fuchs",
    "fulton",
    "gama",
    "gilbert",
    "grace",
    "haeckel",
    "halley",
    "harrison",
    "hawkins",
    "henson",
    "heyerdahl",
    "hudson",
    "humboldt",
    "ibnmajid",
    "johnson",
    "kaiulani",
    "keller",
    "kupe",
    "laperouse",
    "lapita",
    "lovelace",
    "magellan",
    "mallory",
    "maury",
    "mercator",
    "nansen",
    "nares",
    "nearchus",
    "nelson",
    "orellana",
    "parry",
    "peary",
    "piccard",
    "polo",
    "ptolemy",
    "pytheas",
    "raleigh",
    "ricketts",
    "ross",
    "rutter",
    "sacagawea",
    "scoresby",
    "scott",
    "shackleton",
    "slocum",
    "sverdrup",
    "tasman",
    "tharp",
    "thomson",
    "tupaia",
    "vancouver",
    "vespucci",
    "weddell",
    "wegener",
    "wilkes",
    "worsley",
    "yonge",
    "zhenghe",
];

/// A made-up name. Later attempts carry a digit, so that they are likelier to be free.
#[must_use]
pub fn random(random: [u8; 5], attempt: usize) -> String {
    let pick = |words: &[&'static str], high: u8, low: u8| {
        words[usize::from(u16::from_be_bytes([high, low])) % words.len()]
    };
    let first = pick(FIRST, random[0], random[1]);
    let second = pick(SECOND, random[2], random[3]);
    if attempt == 0 {
        format!("{first}_{second}")
    } else {
        format!("{first}_{second}{}", random[4] % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_docker_checks_them() {
        for good in ["ab", "/ab", "a.b-c_d", "0x", &"a".repeat(255)] {
            assert!(check(good).is_ok(), "{good} was refused");
        }
        for bad in [
            "",
            "/",
            "a",
            "_a",
            "-ab",
            "a b",
            "a/b",
            "//ab",
            "ä1",
            &"a".repeat(256),
        ] {
            assert!(check(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn made_up_names_are_names() {
        for n in 0..=255_u8 {
            let name = random(
                [n, n.wrapping_mul(7), n, n.wrapping_mul(13), n],
                usize::from(n % 2),
            );
            assert_eq!(check(&name).ok(), Some(name.as_str()));
        }
    }
}
