//! A configuration and the files that it includes, as one sequence of lines: those of an included file stand behind the
//! line that names it, where ntpd and chronyd read them. Each such line is kept with its result. The content of the
//! files is not interpreted here.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    Dialect,
    beside::{Beside, Unread},
    directives,
    lines::{self, Included, Raw},
};

/// The lines of `text`, and those of all files that it includes.
pub(super) fn gather(text: &str, origin: &str, dialect: Dialect, beside: &dyn Beside) -> Vec<Raw> {
    let mut gathering = Gathering { dialect, beside, lines: Vec::new(), files: 0, octets: text.len() };
    gathering.file(text, origin, &mut vec![PathBuf::from(origin)], Kind::Whole);
    gathering.lines
}

struct Gathering<'b> {
    dialect: Dialect,
    beside: &'b dyn Beside,
    lines: Vec<Raw>,
    files: usize,
    octets: usize,
}

/// The directives that a file may contain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All directives.
    Whole,
    /// `server`, `pool` and `peer` (chrony.conf(5), `sourcedir`).
    Sources,
}

/// Files include others this deep: chronyd takes ten levels, ntpd five.
const DEEPEST: usize = 10;

/// The most files, and octets of all of them, that are read. A few files that include each other would otherwise be read
/// without end.
const MOST_FILES: usize = 256;
const MOST_OCTETS: usize = 1 << 19;

impl Gathering<'_> {
    /// Adds the lines of one file. `open` are the files that lead to it, itself the last.
    fn file(&mut self, text: &str, origin: &str, open: &mut Vec<PathBuf>, kind: Kind) {
        for mut raw in lines::raw(origin, text) {
            let line = match self.dialect {
                Dialect::Ntp => lines::of_ntp(std::slice::from_ref(&raw)),
                Dialect::Chrony => lines::of_chrony(std::slice::from_ref(&raw)),
            };
            let said = line.first().map(|line| {
                let words = line.words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
                // chronyd takes its words in any case, ntpd in lower case only.
                let directive = match self.dialect {
                    Dialect::Ntp => line.directive.to_owned(),
                    Dialect::Chrony => line.directive.to_ascii_lowercase(),
                };
                (directive, words)
            });
            let at = self.lines.len();
            let Some((directive, words)) = said else {
                self.lines.push(raw);
                continue;
            };
            if kind == Kind::Sources && !["server", "pool", "peer"].contains(&directive.as_str()) {
                let why = "in a folder of sources only lines server, pool and peer are allowed";
                raw.beside = Some(Included::LeftOut(why.to_owned()));
            }
            raw.is_hidden = open.len() > 1 && directives::find(self.dialect, &directive).is_none();
            self.lines.push(raw);
            if kind == Kind::Whole
                && let Some(included) = self.line(&directive, &words, open)
            {
                self.lines[at].beside = Some(included);
            }
        }
    }

    /// The result of a line that names other files; none for any other line.
    fn line(&mut self, directive: &str, words: &[String], open: &mut Vec<PathBuf>) -> Option<Included> {
        let paths = |words: &[String]| -> Vec<PathBuf> {
            let folder = open.last().and_then(|file| file.parent()).unwrap_or(Path::new(""));
            words.iter().map(|word| folder.join(word)).collect()
        };
        let names_none = || Some(Included::LeftOut("it names no file".to_owned()));
        match (self.dialect, directive, paths(words).as_slice()) {
            (Dialect::Ntp, "includefile", [])
            | (Dialect::Chrony, "include" | "confdir" | "sourcedir", []) => names_none(),
            (Dialect::Ntp, "includefile", [path, ..]) => Some(self.plain(path, open)),
            (Dialect::Chrony, "include", [path, ..]) => Some(self.pattern(path, open)),
            (Dialect::Chrony, "confdir", folders) => Some(self.folders(folders, ".conf", Kind::Whole, open)),
            (Dialect::Chrony, "sourcedir", folders) => {
                Some(self.folders(folders, ".sources", Kind::Sources, open))
            }
            _ => None,
        }
    }

    /// One file.
    fn plain(&mut self, path: &Path, open: &mut Vec<PathBuf>) -> Included {
        match self.include(path, Kind::Whole, open) {
            Ok(()) => Included::Read(read_files(&[path.to_owned()])),
            // RHEL's ntp.conf includes the file with the password of Autokey's key.
            Err(Unread::Missing | Unread::Elsewhere) if path.ends_with("crypto/pw") => Included::Nothing(
                "it has the password of an Autokey key, and Autokey is not supported. The file does not exist here".to_owned(),
            ),
            Err(why) => Included::LeftOut(said(path, &why)),
        }
    }

    /// One file, or those of a folder whose names match a pattern (glob(7)).
    fn pattern(&mut self, path: &Path, open: &mut Vec<PathBuf>) -> Included {
        let is_pattern = |text: &str| text.contains(['*', '?', '[']);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let folder = path.parent().unwrap_or(Path::new("/"));
        if is_pattern(&folder.to_string_lossy()) || name.contains('[') {
            return Included::LeftOut(
                "patterns with `*` and `?` are supported only in the name of the file: include each file"
                    .to_owned(),
            );
        }
        if !is_pattern(&name) {
            return self.plain(path, open);
        }
        match self.beside.names(folder) {
            Ok(mut names) => {
                names.retain(|found| matches(name.as_bytes(), found.as_bytes()) && !found.starts_with('.'));
                names.sort_unstable();
                self.each(names.into_iter().map(|name| folder.join(name)).collect(), Kind::Whole, open)
            }
            Err(Unread::Missing) => Included::Nothing(no_folder(folder)),
            Err(why) => Included::LeftOut(said(folder, &why)),
        }
    }

    /// All files of folders that end in `ending`, in the order of their names. Of two with the same name the one in the
    /// folder that is named first counts (chrony.conf(5), `confdir`).
    fn folders(
        &mut self,
        folders: &[PathBuf],
        ending: &str,
        kind: Kind,
        open: &mut Vec<PathBuf>,
    ) -> Included {
        let (mut files, mut missing) = (BTreeMap::new(), Vec::new());
        for folder in folders {
            match self.beside.names(folder) {
                Ok(names) => {
                    for name in names.into_iter().filter(|name| name.ends_with(ending)) {
                        files.entry(name).or_insert_with_key(|name| folder.join(name));
                    }
                }
                Err(Unread::Missing) => missing.push(no_folder(folder)),
                Err(why) => return Included::LeftOut(said(folder, &why)),
            }
        }
        let is_dhcp = folders.iter().any(|folder| folder.starts_with("/run"));
        match self.each(files.into_values().collect(), kind, open) {
            Included::Nothing(why) if missing.is_empty() => Included::Nothing(why),
            Included::Nothing(_) => Included::Nothing(missing.join(". ")),
            Included::Read(files) if is_dhcp => Included::Nothing(format!(
                "its present content is carried over; servers that DHCP gives later are not asked. {files}"
            )),
            other => other,
        }
    }

    fn each(&mut self, files: Vec<PathBuf>, kind: Kind, open: &mut Vec<PathBuf>) -> Included {
        if files.is_empty() {
            return Included::Nothing("no file matches, so chronyd reads none either".to_owned());
        }
        let mut failed = Vec::new();
        for file in &files {
            if let Err(why) = self.include(file, kind, open) {
                failed.push(said(file, &why));
            }
        }
        if failed.is_empty() {
            Included::Read(read_files(&files))
        } else {
            Included::LeftOut(failed.join(". "))
        }
    }

    fn include(&mut self, path: &Path, kind: Kind, open: &mut Vec<PathBuf>) -> Result<(), Unread> {
        let failed = |why: String| Err(Unread::Failed(why));
        if open.iter().any(|each| each == path) {
            return failed("it includes itself".to_owned());
        }
        if open.len() > DEEPEST {
            return failed(format!("files may include others at most {DEEPEST} levels deep"));
        }
        if self.files >= MOST_FILES {
            return failed(format!("at most {MOST_FILES} files are read"));
        }
        let text = self.beside.read(path)?;
        if self.octets + text.len() > MOST_OCTETS {
            return failed(format!("all files together are larger than {} KiB", MOST_OCTETS / 1024));
        }
        self.files += 1;
        self.octets += text.len();
        open.push(path.to_owned());
        let shown = path.display().to_string();
        self.file(&text, &lines::printable(&shown), open, kind);
        open.pop();
        Ok(())
    }
}

fn said(path: &Path, why: &Unread) -> String {
    let path = path.display().to_string();
    let path = lines::printable(&path);
    match why {
        Unread::Missing => format!("{path} does not exist here: its content is not in the result"),
        Unread::Elsewhere => format!(
            "{path} is not read, as the text is from standard input: there may be servers, keys or rules in it. \
             Convert the file on its machine, or name a copy of the machine's files with --root"
        ),
        Unread::Failed(error) => format!("{path}: {error}: its content is not in the result"),
    }
}

/// Says which files are part of the result: they may be this machine's, and the configuration another one's.
fn read_files(files: &[PathBuf]) -> String {
    let files: Vec<_> =
        files.iter().map(|file| lines::printable(&file.display().to_string()).into_owned()).collect();
    format!("what {} says is in the result", files.join(", "))
}

fn no_folder(folder: &Path) -> String {
    let folder = folder.display().to_string();
    format!(
        "{} is not here, and chronyd reads nothing of a folder that is not there. If the file is of another machine, \
         convert it there, or name a copy of its files with --root",
        lines::printable(&folder)
    )
}

/// Returns true if `pattern`, with `*` and `?`, matches `name`. It goes back to the last `*` only, so the time is bounded.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(octet) if *octet == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|octet| *octet == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        };
        check("*.conf", "a.conf", true);
        check("*.conf", "a.conf.bak", false);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("*a*b*", "xxaxxbxx", true);
        check("*a*b*", "xxbxxaxx", false);
        check(&"*a".repeat(40), &"a".repeat(4000), true);
        check(&("*a".repeat(40) + "b"), &"a".repeat(4000), false);
    }
}
