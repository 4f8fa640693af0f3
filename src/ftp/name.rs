//! Names of commands, as an operator writes them to have them refused.

use std::fmt;
use std::str::FromStr;

use super::command::CommandLine;
use super::reply;

/// A verb, or a verb and the word behind it: `SITE`, `SITE EXEC`. In capitals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandName {
    verb: String,
    word: Option<String>,
}

/// Not the name of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a command is named by a verb of letters, or by two words")]
pub struct NameError;

/// Verbs of RFC 775 that servers still take for those of RFC 959: one that is refused is refused under both names.
const ALIASES: [(&str, &str); 5] =
    [("CWD", "XCWD"), ("CDUP", "XCUP"), ("MKD", "XMKD"), ("RMD", "XRMD"), ("PWD", "XPWD")];

/// The longest word of a name: that of a bank's `SITE` procedure, with room to spare.
const MAX_WORD: usize = 32;

impl FromStr for CommandName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_word = |word: &str| {
            word.len() <= MAX_WORD && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        let mut words = text.split_ascii_whitespace().map(str::to_ascii_uppercase);
        let verb = words.next().filter(|verb| is_word(verb) && verb.bytes().all(|b| b.is_ascii_alphabetic()));
        let word = words.next();
        if words.next().is_some() || !word.iter().all(|word| is_word(word)) {
            return Err(NameError);
        }
        let verb = verb.ok_or(NameError)?;
        let plain = ALIASES.iter().find(|(_, alias)| *alias == verb).map(|(plain, _)| (*plain).to_owned());
        Ok(Self { verb: plain.unwrap_or(verb), word })
    }
}

impl CommandName {
    /// The verb.
    #[must_use]
    pub fn verb(&self) -> &str {
        &self.verb
    }

    /// Whether every use of the verb is meant, whatever follows it.
    #[must_use]
    pub const fn is_whole_verb(&self) -> bool {
        self.word.is_none()
    }

    /// Whether a client's line is this command, as any server may read it: in any case, under the other name of the
    /// verb, with Telnet bytes or quotation marks around the second word.
    #[must_use]
    pub fn matches(&self, line: &CommandLine) -> bool {
        let (verb, word) = line.words();
        self.is_verb(verb) && self.word.as_ref().is_none_or(|own| word.eq_ignore_ascii_case(own.as_bytes()))
    }

    /// Whether a line within the reply to FEAT names this command. RFC 3659 §7.8: `MLST` there is MLSD as well.
    #[must_use]
    pub fn is_in_feat(&self, line: &[u8]) -> bool {
        let mut words = reply::feat_words(line);
        let verb = words.next().unwrap_or_default();
        let is_verb = self.is_verb(verb) || (self.verb == "MLSD" && verb.eq_ignore_ascii_case(b"MLST"));
        is_verb
            && self.word.as_ref().is_none_or(|own| {
                let word = words.next().unwrap_or_default();
                word.eq_ignore_ascii_case(own.as_bytes())
            })
    }

    fn is_verb(&self, verb: &[u8]) -> bool {
        let alias = ALIASES.iter().find(|(plain, _)| *plain == self.verb).map(|(_, alias)| *alias);
        [Some(self.verb.as_str()), alias].into_iter().flatten().any(|own| verb.eq_ignore_ascii_case(own.as_bytes()))
    }
}

impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verb)?;
        self.word.as_ref().map_or(Ok(()), |word| write!(f, " {word}"))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn name(text: &str) -> CommandName {
        text.parse().unwrap()
    }

    fn matches(name_of: &str, line: &'static [u8]) -> bool {
        name(name_of).matches(&CommandLine::new(Bytes::from_static(line)).unwrap())
    }

    #[test]
    fn sec_30_a_command_is_recognised_however_it_is_written() {
        for line in [&b"SITE"[..], b"site exec x", b"  Site\tHELP", b"\xff\xf4SITE", b"SITE\xff\xf1 x"] {
            assert!(matches("SITE", line), "{}", line.escape_ascii());
        }
        for line in [
            &b"SITE EXEC ls"[..],
            b"site  exec",
            b"SITE\texec /bin/sh",
            b"SITE \"EXEC\" ls",
            b"SITE EX\xff\xf1EC ls",
            b"SITE \xff\xfb\x01EXEC",
        ] {
            assert!(matches("site Exec", line), "{}", line.escape_ascii());
        }
        for line in [&b"SITE"[..], b"SITE EXECUTE", b"SITE HELP EXEC", b"SITEX EXEC", b"EXEC", b"STOR SITE EXEC"] {
            assert!(!matches("SITE EXEC", line), "{}", line.escape_ascii());
        }
        assert!(matches("MKD", b"XMKD a") && matches("XMKD", b"MKD a") && !matches("MKD", b"XRMD a"));
    }

    #[test]
    fn what_feat_lists_is_recognised() {
        for (named, line) in [
            ("SITE", &b" SITE MKDIR\r\n"[..]),
            ("SITE MKDIR", b" SITE MKDIR\r\n"),
            ("MDTM", b"211-MDTM\r\n"),
            ("MLSD", b" MLST size*;modify*;\r\n"),
            ("MLST", b" MLST size*;modify*;\r\n"),
        ] {
            assert!(name(named).is_in_feat(line), "{named}");
        }
        for (named, line) in
            [("SITE EXEC", &b" SITE MKDIR\r\n"[..]), ("SIZE", b" SITE SIZE\r\n"), ("SITE", b" UTF8\r\n")]
        {
            assert!(!name(named).is_in_feat(line), "{named}");
        }
    }

    #[test]
    fn a_name_is_one_word_or_two() {
        assert_eq!(name(" site  exec ").to_string(), "SITE EXEC");
        for wrong in ["", " ", "SITE EXEC x", "S1TE", "SITE a/b", "DELE *", "ÄB", "PASV\n;"] {
            assert_eq!(wrong.parse::<CommandName>(), Err(NameError), "{wrong}");
        }
    }
}
