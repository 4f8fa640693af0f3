//! The files: a directory of this machine, seen as `/`. Names are bytes.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::dialect::Listing;

/// Where a session is.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    directory: Vec<Vec<u8>>,
}

impl Store {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), directory: Vec::new() }
    }

    /// The working directory.
    pub fn directory(&self) -> Vec<u8> {
        [b"/", self.directory.join(&b'/').as_slice()].concat()
    }

    /// The same for any name: `..` stays below the root.
    fn parts(&self, name: &[u8]) -> Vec<Vec<u8>> {
        let mut parts = if name.starts_with(b"/") { Vec::new() } else { self.directory.clone() };
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part.to_vec()),
            }
        }
        parts
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        self.parts(name).iter().fold(self.root.clone(), |path, part| path.join(OsStr::from_bytes(part)))
    }

    pub fn enter(&mut self, name: &[u8]) -> bool {
        let found = self.path(name).is_dir();
        if found {
            self.directory = self.parts(name);
        }
        found
    }

    pub fn size(&self, name: &[u8]) -> Option<u64> {
        self.path(name).metadata().ok().filter(fs::Metadata::is_file).map(|file| file.len())
    }

    pub fn read(&self, name: &[u8], from: u64) -> io::Result<File> {
        let mut file = File::open(self.path(name))?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        file.seek(SeekFrom::Start(from))?;
        Ok(file)
    }

    /// Opens for STOR (cut off at `from`) and for APPE.
    pub fn write(&self, name: &[u8], from: u64, append: bool) -> io::Result<File> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(self.path(name))?;
        if append {
            file.seek(SeekFrom::End(0))?;
        } else {
            file.set_len(from)?;
            file.seek(SeekFrom::Start(from))?;
        }
        Ok(file)
    }

    pub fn delete(&self, name: &[u8]) -> bool {
        fs::remove_file(self.path(name)).is_ok()
    }

    pub fn make_directory(&self, name: &[u8]) -> bool {
        fs::create_dir(self.path(name)).is_ok()
    }

    /// LIST of a directory or of one file, and with `style` none, NLST.
    pub fn list(&self, name: &[u8], style: Option<Listing>) -> Option<Vec<u8>> {
        let path = self.path(name);
        let mut found: Vec<PathBuf> = if path.is_dir() {
            fs::read_dir(path).ok()?.flatten().map(|entry| entry.path()).collect()
        } else {
            path.exists().then(|| vec![path])?
        };
        found.sort();
        let mut text = Vec::new();
        for path in found {
            let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
            let (directory, size) = path.metadata().map_or((false, 0), |file| (file.is_dir(), file.len()));
            // The date is the same for all: nothing here depends on it.
            let before = match style {
                None => String::new(),
                Some(Listing::Unix) => {
                    format!("{}rw-r--r--   1 ftp      ftp {size:>12} Jan 02  2024 ", if directory { 'd' } else { '-' })
                }
                Some(Listing::Dos) if directory => "01-02-24  03:04AM       <DIR>          ".to_owned(),
                Some(Listing::Dos) => format!("01-02-24  03:04AM {size:>20} "),
            };
            text.write_all(&[before.as_bytes(), name, b"\r\n"].concat()).ok()?;
        }
        Some(text)
    }
}
