//! What a deal tells the app: the `params` text of a request order. Source: middleware.md §2.3, sdk.md §3.3.

use serde::{Deserialize, Serialize};

/// The parameters of a deal.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Params {
    /// The app's arguments, as one command line.
    #[serde(default, skip_serializing_if = "String::is_empty", rename = "iexec_args")]
    pub args: String,
    /// URLs of files for the app's input folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "iexec_input_files")]
    pub input_files: Vec<String>,
}

/// Why a command line cannot be split into arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("arguments end inside a quote: close the {quote} that opens at character {at}")]
pub struct UnclosedQuote {
    /// The quote character.
    pub quote: char,
    /// Its position, from 1.
    pub at: usize,
}

impl Params {
    /// Reads the `params` of a deal. A text that is not a JSON object is taken as the argument string.
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self { args: text.to_owned(), ..Self::default() })
    }

    /// The JSON text to put into a request order.
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("strings always serialise")
    }

    /// The arguments, split as a shell would: white space separates, quotes and backslashes protect.
    pub fn argv(&self) -> Result<Vec<String>, UnclosedQuote> {
        split(&self.args)
    }
}

fn split(text: &str) -> Result<Vec<String>, UnclosedQuote> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<(char, usize)> = None;
    let mut chars = text.chars().enumerate();
    while let Some((i, c)) = chars.next() {
        match (quote, c) {
            (Some((q, _)), c) if c == q => quote = None,
            (Some(('\'', _)), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().extend(chars.next().map(|(_, c)| c)),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some((c, i + 1));
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some((quote, at)) = quote {
        return Err(UnclosedQuote { quote, at });
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_plain_text_are_both_read() {
        let json = r#"{"iexec_args":"--strike 450","iexec_result_storage_provider":"ipfs"}"#;
        assert_eq!(Params::read(json).args, "--strike 450");
        assert_eq!(Params::read("--strike 450").args, "--strike 450");
        assert_eq!(Params::read("7").args, "7");
        let params = Params { args: "a \"b\"".into(), ..Default::default() };
        assert_eq!(Params::read(&params.write()), params);
    }

    #[test]
    fn arguments_split_as_in_a_shell() {
        let argv = |args: &str| Params { args: args.into(), ..Default::default() }.argv();
        assert_eq!(argv("  a  b ").unwrap(), ["a", "b"]);
        assert_eq!(argv(r#"'a b' "c \" d" e\ f '' x"y"z"#).unwrap(), ["a b", "c \" d", "e f", "", "xyz"]);
        assert_eq!(argv("a 'b"), Err(UnclosedQuote { quote: '\'', at: 3 }));
        assert_eq!(argv("").unwrap(), Vec::<String>::new());
    }
}
