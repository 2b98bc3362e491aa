//! Command lines written as one text, so that tests read like a session.

/// Splits a line into words at white space; single and double quotes keep words together.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(
            words("run --rm busybox true"),
            ["run", "--rm", "busybox", "true"]
        );
        assert_eq!(
            words("sh -c 'echo \"a  b\"; exit 3'"),
            ["sh", "-c", "echo \"a  b\"; exit 3"]
        );
        assert_eq!(words("  a ''  \"b c\"d "), ["a", "", "b cd"]);
    }
}
