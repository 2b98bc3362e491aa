//! The flags of the command line: `--name value`, `--name=value`, `-n value`, switches, one dash or two, before the words
//! or after them; all as runc's own parser takes them.

use std::collections::BTreeMap;

/// One flag: its names, the first being the one it is asked by, and whether a value follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    pub(super) names: &'static [&'static str],
    pub(super) takes_value: bool,
    pub(super) help: &'static str,
}

/// A flag that is there or not.
pub(super) const fn switch(names: &'static [&'static str], help: &'static str) -> Flag {
    Flag {
        names,
        takes_value: false,
        help,
    }
}

/// A flag with a value.
pub(super) const fn value(names: &'static [&'static str], help: &'static str) -> Flag {
    Flag {
        names,
        takes_value: true,
        help,
    }
}

/// What may follow the first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterWords {
    /// Flags as well.
    Flags,
    /// Words only: they are a command line of their own.
    Words,
}

/// Flags that were given, and the words between or after them.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    values: BTreeMap<&'static str, Vec<String>>,
    pub(super) words: Vec<String>,
}

/// Parses `arguments` by the table; the error is a sentence.
pub(super) fn parse(
    flags: &[&[Flag]],
    arguments: &[String],
    after: AfterWords,
) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            parsed.words.extend(rest.cloned());
            break;
        }
        if !word.starts_with('-') || word == "-" {
            parsed.words.push(word.clone());
            if after == AfterWords::Flags {
                continue;
            }
            parsed.words.extend(rest.cloned());
            break;
        }
        let bare = word.trim_start_matches('-');
        let (name, attached) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (bare, None),
        };
        let flag = flags
            .iter()
            .flat_map(|group| group.iter())
            .find(|flag| flag.names.contains(&name))
            .ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
        let value = if flag.takes_value {
            attached
                .or_else(|| rest.next().cloned())
                .ok_or_else(|| format!("flag needs an argument: -{name}"))?
        } else {
            match attached.as_deref() {
                None | Some("true" | "1") => "true".to_owned(),
                Some("false" | "0") => continue,
                Some(other) => return Err(format!("invalid boolean value {other:?} for -{name}")),
            }
        };
        parsed.values.entry(flag.names[0]).or_default().push(value);
    }
    Ok(parsed)
}

impl Parsed {
    /// Whether a switch was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The last value of a flag that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .and_then(|values| values.last())
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Every value of a flag.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// The last value of a flag as a number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        self.get(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| format!("invalid value {text:?} for flag -{name}"))
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        value(&["bundle", "b"], ""),
        value(&["env", "e"], ""),
        switch(&["tty", "t"], ""),
    ];

    fn parsed(line: &str) -> Result<Parsed, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(&[FLAGS], &words, AfterWords::Words)
    }

    #[test]
    fn every_spelling_is_understood_until_the_first_word() {
        let found = parsed("--bundle /x -e A=1 --env=B=2 -t id sh -c --bundle").unwrap();
        assert_eq!(found.get("bundle"), Some("/x"));
        assert_eq!(found.all("env"), ["A=1", "B=2"]);
        assert!(found.has("tty"));
        assert_eq!(found.words, ["id", "sh", "-c", "--bundle"]);
        assert!(!parsed("--tty=false id").unwrap().has("tty"));
        assert_eq!(parsed("-- -t").unwrap().words, ["-t"]);
    }

    #[test]
    fn flags_may_follow_the_words() {
        let words = ["id", "--bundle", "/x", "more", "-t", "--", "-b"].map(str::to_owned);
        let found = parse(&[FLAGS], &words, AfterWords::Flags).unwrap();
        assert_eq!(found.get("bundle"), Some("/x"));
        assert!(found.has("tty"));
        assert_eq!(found.words, ["id", "more", "-b"]);
    }

    #[test]
    fn mistakes_are_told() {
        assert!(parsed("--nope").unwrap_err().contains("-nope"));
        assert!(
            parsed("--bundle")
                .unwrap_err()
                .contains("needs an argument")
        );
        assert!(parsed("--tty=maybe").is_err());
        assert!(parsed("-b x").unwrap().number::<u32>("bundle").is_err());
    }
}
