//! Telnet options at the start of a line: recognised, so that they can be refused.
//!
//! The control connection speaks Telnet (RFC 959 §3.1), and a middlebox that understands no option must not let two
//! peers agree on one (RFC 6384 §5). That collides with names: 0xFF is IAC, but in CP1251 it is `я`, and `яы` reads
//! as IAC WILL. So options are looked for where no name can stand: before the first word of a line and within it, as
//! long as it has only letters and digits. Behind that, 0xFF is a letter.

const IAC: u8 = 0xFF;

/// What one side says about an option (RFC 854, "Telnet command structure").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Will,
    Wont,
    Do,
    Dont,
}

impl Verb {
    const fn of(byte: u8) -> Option<Self> {
        match byte {
            0xFB => Some(Self::Will),
            0xFC => Some(Self::Wont),
            0xFD => Some(Self::Do),
            0xFE => Some(Self::Dont),
            _ => None,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Will => 0xFB,
            Self::Wont => 0xFC,
            Self::Do => 0xFD,
            Self::Dont => 0xFE,
        }
    }
}

/// How many options of one peer are answered; further ones are dropped without a word. There are 40 or so in use, and
/// each may be asked for and offered; a peer that asks for ever reads no answers, which would pile up.
const MAX_REFUSALS: u8 = 80;

/// The answer to an offer or a request: no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    verb: Verb,
    option: u8,
}

impl Refusal {
    /// IAC WONT to DO, IAC DONT to WILL (RFC 1123 §4.1.2.12). `None` for WONT and DONT: what they say is so already, and
    /// an answer could go round for ever (RFC 854, "Basic rules").
    const fn of(verb: Verb, option: u8) -> Option<Self> {
        match verb {
            Verb::Do => Some(Self { verb: Verb::Wont, option }),
            Verb::Will => Some(Self { verb: Verb::Dont, option }),
            Verb::Wont | Verb::Dont => None,
        }
    }

    /// As it is sent.
    #[must_use]
    pub const fn wire(self) -> [u8; 3] {
        [IAC, self.verb.byte(), self.option]
    }
}

/// Where in a line the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Before the first word.
    #[default]
    Start,
    /// Within it.
    Word,
    /// Behind it: options are not looked for.
    Text,
}

/// How much of a Telnet command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Seen {
    #[default]
    Nothing,
    /// IAC, which has not been passed on.
    Iac,
    /// IAC, which has: no option follows it.
    PassedIac,
    /// IAC and a verb: the option is next.
    Verb(Verb),
}

/// Looks for options in the bytes of one peer, however they are cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Options {
    place: Place,
    seen: Seen,
    refused: u8,
}

/// What becomes of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It belongs to the line.
    Text(u8),
    /// An IAC that was kept back belongs to the line; the byte itself has to come again.
    Before(u8),
    /// It belongs to an option that needs no answer, or is not complete.
    Nothing,
    /// It completes an option, to which this is the answer.
    Option(Refusal),
}

impl Options {
    /// In the middle of a line of which nobody knows the beginning.
    pub(super) const fn within_text() -> Self {
        Self { place: Place::Text, seen: Seen::Nothing, refused: 0 }
    }

    /// Whether the next byte may belong to an option.
    pub(super) const fn is_looking(self) -> bool {
        !matches!(self.place, Place::Text)
    }

    /// Whether a part of an option is kept back.
    pub(super) const fn is_mid_option(self) -> bool {
        matches!(self.seen, Seen::Iac | Seen::Verb(_))
    }

    /// The line has ended while options were not looked for.
    pub(super) fn line_ended(&mut self) {
        (self.place, self.seen) = (Place::Start, Seen::Nothing);
    }

    /// Takes a byte while [looking](Self::is_looking).
    pub(super) fn take(&mut self, byte: u8) -> Taken {
        match (std::mem::take(&mut self.seen), byte) {
            (Seen::Iac, _) => match Verb::of(byte) {
                Some(verb) => {
                    self.seen = Seen::Verb(verb);
                    Taken::Nothing
                }
                None => {
                    self.seen = Seen::PassedIac;
                    Taken::Before(IAC)
                }
            },
            (Seen::Verb(verb), option) => {
                let refusal = Refusal::of(verb, option).filter(|_| self.refused < MAX_REFUSALS);
                self.refused += u8::from(refusal.is_some());
                refusal.map_or(Taken::Nothing, Taken::Option)
            }
            (Seen::Nothing, IAC) => {
                self.seen = Seen::Iac;
                Taken::Nothing
            }
            // IAC IAC is one byte 0xFF of a text.
            (Seen::PassedIac, IAC) => {
                self.place = Place::Text;
                Taken::Text(byte)
            }
            (Seen::Nothing | Seen::PassedIac, _) => {
                self.place = self.place.after(byte);
                Taken::Text(byte)
            }
        }
    }
}

impl Place {
    /// Telnet commands without an option (IP, DM), and what is left of them, may stand before the word, and so may blanks.
    const fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (_, b'\n') => Self::Start,
            (Self::Start, b' ' | b'\t' | b'\r' | 0x0B | 0x0C | 0xF1..=0xFE) => Self::Start,
            (Self::Start | Self::Word, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z') => Self::Word,
            _ => Self::Text,
        }
    }
}
