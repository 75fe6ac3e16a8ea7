//! Notices that the configuration file, or a file of prefixes that it names, is no longer what is at
//! work: somebody edited it by hand.
//!
//! A look is a `stat` a file, once a second. Unlike a watch on an inode it does not lose a file that an
//! editor or a configuration manager replaces by renaming, also through symbolic links.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{
    api::configuration::Edited,
    config::{Config, Loaded},
    events::{Events, Kind, Note},
    stamp::{Stamp, stamp},
};

/// The files' last seen states, and what is with them.
#[derive(Default)]
pub struct Watch {
    stamps: Vec<(PathBuf, Stamp)>,
    edited: Option<Edited>,
}

impl Watch {
    /// What is with the files; `None`: they are what is at work.
    #[must_use]
    pub fn edited(&self) -> Option<&Edited> {
        self.edited.as_ref()
    }

    /// Looks at the files, and reads them where they have changed since the last look.
    pub fn look(&mut self, path: &Path, loaded: &Loaded, events: &Events) {
        let files = std::iter::once(path).chain(loaded.prefix_files.keys().map(PathBuf::as_path));
        let stamps: Vec<_> = files.map(|file| (file.to_owned(), stamp(file))).collect();
        if stamps == self.stamps {
            return;
        }
        self.stamps = stamps;
        self.note(difference(path, loaded), events);
    }

    /// Reads the files at the next look, changed or not: another text is at work.
    pub fn forget(&mut self) {
        self.stamps.clear();
    }

    fn note(&mut self, found: Option<(PathBuf, String)>, events: &Events) {
        match (found, &mut self.edited) {
            (None, None) => {}
            (None, Some(_)) => {
                let message = "the configuration file is what is at work again";
                events.tell(Note::new(Kind::Configuration, message));
                self.edited = None;
            }
            (Some((_, what)), Some(known)) => known.what = what,
            (Some((file, what)), None) => {
                let file = file.display().to_string();
                let message = format!(
                    "{file} {what}; what is at work stays until `evenkeel reload` takes it \
                     (`evenkeel plan {file}` shows what it would change)"
                );
                events.tell(Note::new(Kind::Configuration, message).warning());
                let since = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
                self.edited = Some(Edited { file, since, what });
            }
        }
    }
}

/// The first file that is not what is at work, and what is with it.
fn difference(path: &Path, loaded: &Loaded) -> Option<(PathBuf, String)> {
    let say = |what: &str| Some((path.to_owned(), what.to_owned()));
    match fs::read_to_string(path) {
        Ok(text) if text == loaded.text => {}
        Ok(text) => {
            return say(match Config::parse(&text, path) {
                Ok(_) => "was edited",
                Err(_) => "was edited and is invalid (see `evenkeel check`)",
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return say("was removed"),
        Err(error) => return say(&format!("cannot be read: {error}")),
    }
    if loaded.prefix_files.is_empty() {
        return None;
    }
    // The text is the same, so what differs is in the files that it names.
    let Ok(found) = Config::parse(&loaded.text, path) else {
        return say("names a file that is invalid now (see `evenkeel check`)");
    };
    let mut files = loaded.prefix_files.iter();
    let edited = files.find(|(file, digest)| found.prefix_files.get(*file) != Some(*digest));
    edited.map(|(file, _)| (file.clone(), "was edited".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[node]\ninterfaces = [\"eth0\"]\ndeny_file = \"denied\"\n";

    #[test]
    fn edits_are_noticed_however_they_are_made() {
        let directory = tempfile::tempdir().unwrap();
        let (path, denied) = (directory.path().join("c.toml"), directory.path().join("denied"));
        fs::write(&path, TEXT).unwrap();
        fs::write(&denied, "10.0.0.0/8\n").unwrap();
        let loaded = Config::load(&path).unwrap();
        let mut watch = Watch::default();
        let mut look = || {
            watch.look(&path, &loaded, &Events::in_memory());
            watch.edited().cloned()
        };
        assert_eq!(look(), None);
        // In place, and back.
        fs::write(&path, format!("{TEXT}# more\n")).unwrap();
        assert!(look().unwrap().what.contains("edited"));
        fs::write(&path, TEXT).unwrap();
        assert_eq!(look(), None);
        // By renaming another one over it, with an old time and the same length.
        let other = directory.path().join("other");
        fs::write(&other, TEXT.replace("eth0", "eth1")).unwrap();
        fs::File::open(&other).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(look().unwrap().what, "was edited");
        fs::write(&path, "[node\n").unwrap();
        assert!(look().unwrap().what.contains("invalid"));
        fs::remove_file(&path).unwrap();
        assert_eq!(look().unwrap().what, "was removed");
        fs::write(&path, TEXT).unwrap();
        assert_eq!(look(), None);
        // In a file that it names.
        fs::write(&denied, "10.0.0.0/16\n").unwrap();
        assert_eq!(look().unwrap().file, denied.display().to_string());
        fs::write(&denied, "not a prefix\n").unwrap();
        assert!(look().unwrap().what.contains("invalid"));
        fs::write(&denied, "10.0.0.0/8\n").unwrap();
        assert_eq!(look(), None);
    }
}
