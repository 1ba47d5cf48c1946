//! The audit log's file: opened, looked through for what earlier processes left, written as a whole or not at all,
//! put aside and begun anew.
//!
//! Two processes may write the same file while one succeeds the other, so everything happens under the file's lock
//! and at its end as it then is. Knows no lines but whether one is whole; what is in them is `tail.rs`'s business.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use super::super::{access_log::aside, config::plan::Rotation};

/// So much of a file's end is looked through for what earlier processes left; a checkpoint is in it, unless they
/// are further apart than that.
const TAIL_BYTES: u64 = 16 * 1024 * 1024;
/// After a rotation that failed.
const ROTATION_PAUSE: Duration = Duration::from_secs(10);

/// The open file.
pub(super) struct AuditFile {
    path: PathBuf,
    file: Arc<File>,
    /// Which file it is: its device and its number there.
    identity: (u64, u64),
    /// Whether it can be cut, measured and synced; pipes and devices cannot.
    is_plain: bool,
    /// A record counts as made only when it is on the disk.
    syncs: bool,
    rotation: Rotation,
    bytes: u64,
    since: Instant,
    not_before: Option<Instant>,
    /// It is known that another file is due, and cannot be had.
    stays: bool,
}

/// Another file is due, and cannot be had: this one stays in use.
#[derive(Debug)]
pub(super) struct Stays {
    pub(super) error: io::Error,
    /// Whether that was so before.
    pub(super) is_known: bool,
}

/// How one file is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is renamed, and another one made at its path.
    PutAside,
    /// Whatever stands at its path is opened, or made.
    Reopen,
}

/// The lock; let go on drop. It is the open file's: taking it twice is taking it once.
pub(super) struct Locked(Arc<File>);

impl Drop for Locked {
    fn drop(&mut self) {
        // The lock ends with the descriptor at the latest.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl AuditFile {
    /// Opens the file at `path`, or makes it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(path: &Path, rotation: Rotation, syncs: bool) -> io::Result<Self> {
        let is_new = !path.exists();
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let metadata = file.metadata()?;
        if is_new && syncs {
            // A file whose name is lost is lost.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            identity: (metadata.dev(), metadata.ino()),
            is_plain: metadata.is_file(),
            syncs,
            rotation,
            bytes: metadata.len(),
            since: Instant::now(),
            not_before: None,
            stays: false,
        })
    }

    /// Keeps other processes from writing until what is returned is dropped.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn lock(&self) -> io::Result<Locked> {
        loop {
            match flock(&self.file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Locked(Arc::clone(&self.file))),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The end of the file, from the beginning of a line on unless all of it is returned.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn tail(&self) -> io::Result<Vec<u8>> {
        let mut tail = Vec::new();
        if !self.is_plain {
            return Ok(tail);
        }
        let mut file = &*self.file;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        file.read_to_end(&mut tail)?;
        if length > TAIL_BYTES {
            let first = tail.iter().position(|&byte| byte == b'\n').map_or(tail.len(), |end| end + 1);
            tail.drain(..first);
        }
        Ok(tail)
    }

    /// Whether another file stands at its path by now, or none.
    fn was_replaced(&self) -> bool {
        self.is_plain
            && fs::metadata(&self.path).map_or(true, |there| (there.dev(), there.ino()) != self.identity)
    }

    /// Whether it is time for another file: this one is full or old, or somebody else put it aside.
    pub(super) fn is_due(&mut self) -> Option<Change> {
        if !self.is_plain {
            return None;
        }
        let is_deleted = || self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        if self.not_before.is_some_and(|time| Instant::now() < time) && !is_deleted() {
            return None;
        }
        let full = self.rotation.bytes.is_some_and(|bytes| self.bytes >= bytes);
        let old = self.rotation.age.is_some_and(|age| self.bytes > 0 && self.since.elapsed() >= age);
        let due = match full || old {
            true => Some(Change::PutAside),
            false => self.was_replaced().then_some(Change::Reopen),
        };
        self.stays &= due.is_some();
        due
    }

    /// Somebody asks for another file: if it cannot be had, that is news again.
    pub(super) fn look_anew(&mut self) {
        self.stays = false;
    }

    /// Goes on in another file, and returns the old one. If it fails everything stays as it was.
    ///
    /// # Errors
    /// The system's, and whether it is news.
    pub(super) fn change(&mut self, change: Change) -> Result<Self, Stays> {
        self.try_change(change).map_err(|error| {
            self.not_before = Some(Instant::now() + ROTATION_PAUSE);
            Stays { error, is_known: std::mem::replace(&mut self.stays, true) }
        })
    }

    fn try_change(&mut self, change: Change) -> io::Result<Self> {
        let name = {
            let _locked = self.lock()?;
            // The other process may have done it meanwhile.
            let name = (change == Change::PutAside && !self.was_replaced()).then(|| aside(&self.path));
            if let Some(name) = &name {
                fs::rename(&self.path, name)?;
            }
            name
        };
        match Self::open(&self.path, self.rotation, self.syncs) {
            Ok(new) => Ok(std::mem::replace(self, new)),
            Err(error) => {
                if let Some(name) = name {
                    let _ = fs::rename(name, &self.path);
                }
                Err(error)
            }
        }
    }

    /// Writes `bytes`, all of them or none. A pipe or a device may take a part; then `written` says so, and what is
    /// left is to be written next.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn append(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        let locked = self.lock()?;
        let metadata = self.file.metadata()?;
        if self.is_plain && metadata.nlink() == 0 {
            // Nobody would ever see it.
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "its file was deleted, and none can be made",
            ));
        }
        let before = if self.is_plain { metadata.len() } else { 0 };
        let mut file = &*self.file;
        let mut end = Ok(());
        while *written < bytes.len() && end.is_ok() {
            match file.write(&bytes[*written..]) {
                Ok(0) => end = Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => *written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => end = Err(error),
            }
        }
        if end.is_err() && self.is_plain && *written > 0 {
            // Half a line would stand in the way of the other process's next one.
            self.file.set_len(before)?;
            *written = 0;
        }
        drop(locked);
        self.bytes = before + *written as u64;
        end
    }

    /// Waits until everything written is on the disk, if that was promised.
    ///
    /// # Errors
    /// The system's. What was written may be lost even if a later call succeeds.
    pub(super) fn sync(&self) -> io::Result<()> {
        if !(self.syncs && self.is_plain) {
            return Ok(());
        }
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken by a log that complains every ten seconds for as long as its directory is elsewhere.
    #[test]
    fn what_stays_in_its_file_is_news_once() {
        let directory = std::env::temp_dir().join(format!("tollgate-stays-{}", std::process::id()));
        let away = directory.with_extension("away");
        fs::create_dir(&directory).unwrap();
        let rotation = Rotation { bytes: None, age: None };
        let mut file = AuditFile::open(&directory.join("audit.log"), rotation, false).unwrap();
        let is_known = |file: &mut AuditFile| {
            file.not_before = None;
            assert_eq!(file.is_due(), Some(Change::Reopen));
            file.change(Change::Reopen).err().expect("no directory").is_known
        };
        fs::rename(&directory, &away).unwrap();
        assert_eq!([(); 3].map(|()| is_known(&mut file)), [false, true, true]);
        fs::rename(&away, &directory).unwrap();
        file.not_before = None;
        assert_eq!(file.is_due(), None);
        fs::rename(&directory, &away).unwrap();
        assert!(!is_known(&mut file), "it was back meanwhile");
        fs::remove_dir_all(&away).unwrap();
    }
}
