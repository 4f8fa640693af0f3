//! How programs read a 229.

use regex::Regex;

use crate::client::Reply;

type Found = Option<u16>;

/// `(ddd<port>d)` with one delimiter throughout, at the first parenthesis.
fn after_parenthesis(text: &str, is_delimiter: impl Fn(char) -> bool) -> Found {
    let inside = &text[text.find('(')? + 1..];
    let delimiter = inside.chars().next().filter(|c| is_delimiter(*c))?;
    let fields: Vec<&str> = inside.splitn(5, delimiter).collect();
    let ["", "", "", port, _] = fields[..] else { return None };
    port.parse().ok()
}

fn matched(text: &str, expression: &str) -> Found {
    Regex::new(expression).unwrap().captures(text)?.get(1)?.as_str().parse().ok()
}

fn printable(c: char) -> bool {
    ('!'..='~').contains(&c)
}

/// `(|||…|)` to the letter.
pub fn filezilla(reply: &Reply) -> Found {
    let text = reply.last();
    let inside = &text[text.find("(|||")? + 4..];
    inside[..inside.find("|)")?].parse().ok()
}

pub fn winscp(reply: &Reply) -> Found {
    filezilla(reply)
}

/// Any delimiter that is no digit.
pub fn curl(reply: &Reply) -> Found {
    after_parenthesis(reply.last(), |c| !c.is_ascii_digit())
}

pub fn lftp(reply: &Reply) -> Found {
    after_parenthesis(reply.last(), printable)
}

pub fn tnftp(reply: &Reply) -> Found {
    after_parenthesis(reply.last(), printable)
}

/// Parentheses are not needed.
pub fn inetutils(reply: &Reply) -> Found {
    let text = reply.last().get(4..)?;
    text.char_indices().find_map(|(at, c)| {
        if !c.is_ascii_punctuation() || c == '(' {
            return None;
        }
        let fields: Vec<&str> = text[at..].splitn(5, c).collect();
        let ["", "", "", port, _] = fields[..] else { return None };
        port.parse().ok()
    })
}

/// The last `)` has to come right after the delimiter.
pub fn wget(reply: &Reply) -> Found {
    let text = reply.last();
    let inside = &text[text.find('(')? + 1..];
    let delimiter = inside.chars().next().filter(|c| printable(*c))?;
    let fields: Vec<&str> = inside.splitn(5, delimiter).collect();
    let ["", "", "", port, rest] = fields[..] else { return None };
    rest.starts_with(')').then(|| port.parse().ok())?
}

/// Five fields between `(` and the next `)`.
pub fn ftplib(reply: &Reply) -> Found {
    let text = reply.text();
    let inside = &text[text.find('(')? + 1..];
    let inside = &inside[..inside.find(')')?];
    let delimiter = inside.chars().next()?;
    if !inside.ends_with(delimiter) {
        return None;
    }
    let fields: Vec<&str> = inside.split(delimiter).collect();
    let [_, _, _, port, _] = fields[..] else { return None };
    port.parse().ok()
}

/// Between `(` and `)` of the first line; the first three and the last character are alike.
pub fn commons_net(reply: &Reply) -> Found {
    let text = reply.lines.first()?;
    let inside = text.get(text.find('(')? + 1..text.find(')')?)?.trim();
    let delimiter = inside.chars().next()?;
    inside.strip_prefix(&String::from(delimiter).repeat(3))?.strip_suffix(delimiter)?.parse().ok()
}

/// The last `(`, field 3 of what is separated by `|`.
pub fn dot_net(reply: &Reply) -> Found {
    let text = reply.text();
    let inside = text.get(text.rfind('(')?..=text.rfind(')')?)?;
    inside.split('|').nth(3)?.parse().ok()
}

pub fn chromium(reply: &Reply) -> Found {
    let [line] = &reply.lines[..] else { return None };
    after_parenthesis(line, |c| !c.is_ascii_digit())
}

/// No code is looked at, and `parseInt` stops at what is no digit.
pub fn basic_ftp(reply: &Reply) -> Found {
    matched(&reply.text(), r"[|!]{3}(\d+).*[|!]")
}

pub fn fluent_ftp(reply: &Reply) -> Found {
    matched(&reply.text(), r"\([!|]{3}(\d+)[!|]\)")
}

/// `|` alone; five fields between the first `(` and the first `)`.
pub fn aria2(reply: &Reply) -> Found {
    let text = reply.text();
    let inside = text.get(text.find('(')? + 1..text.find(')')?)?;
    let fields: Vec<&str> = inside.split('|').collect();
    let [_, _, _, port, _] = fields[..] else { return None };
    port.parse().ok().filter(|port| *port > 0)
}
