//! A download: continued where it was interrupted, and checked.

use super::{
    HubError, HubFile, Remote,
    cache::Cache,
    client::{Client, Failure, text},
};
use crate::disk::digest::Sha256Digest;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use ureq::{
    Body,
    http::{Response, StatusCode, header},
};

/// Bytes read at once.
const PIECE: usize = 1 << 18;

impl Client {
    /// Puts what was located into the cache, unless another process has meanwhile.
    pub(super) fn download(
        &self,
        cache: &Cache<'_>,
        file: &HubFile,
        remote: &Remote,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, HubError> {
        let (etag, size) = (&remote.entry.etag, remote.size);
        cache.make_blobs()?;
        let (blob, incomplete) = (cache.blob(etag), cache.incomplete(etag));
        let _lock = cache.lock(etag, &mut || {
            // What the other process has so far.
            let done = fs::metadata(&incomplete).map_or(0, |file| file.len());
            progress(done.min(size), size);
        })?;
        if !fs::metadata(&blob).is_ok_and(|file| file.is_file() && file.len() == size) {
            Transfer {
                client: self,
                file,
                remote,
                sha256: etag.parse().ok(),
            }
            .run(&incomplete, progress)?;
            fs::rename(&incomplete, &blob).map_err(|source| HubError::write(&blob, source))?;
        }
        cache.publish(&remote.entry)
    }
}

/// The transfer of one content.
struct Transfer<'t> {
    client: &'t Client,
    file: &'t HubFile,
    remote: &'t Remote,
    /// The digest of the content, where its name is one: for files in the hub's large file storage.
    sha256: Option<Sha256Digest>,
}

impl Transfer<'_> {
    fn run(&self, path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), HubError> {
        let mut part = Part::open(path)?;
        // Without a digest nothing would tell whether two pieces belong to one file.
        if self.sha256.is_none() || part.length > self.remote.size {
            part.clear()?;
        }
        let mut continued = part.length > 0;
        loop {
            progress(part.length, self.remote.size);
            self.fill(&mut part, progress)?;
            let found = part.digest();
            match self.sha256 {
                Some(expected) if expected != found => {
                    part.clear()?;
                    // What was there before may have been the bad piece.
                    if continued {
                        continued = false;
                        continue;
                    }
                    return Err(HubError::WrongDigest {
                        file: self.file.to_string(),
                        expected,
                        found,
                    });
                }
                _ => return part.finish(),
            }
        }
    }

    /// Receives until the part is whole, in as many requests as it takes.
    fn fill(&self, part: &mut Part, progress: &mut dyn FnMut(u64, u64)) -> Result<(), HubError> {
        let mut retries = self.client.retries();
        while !part.whole {
            let before = part.length;
            match self.receive(part, progress) {
                Ok(()) => {}
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(what, source)) => {
                    if part.length > before {
                        retries.reset();
                    }
                    if !retries.wait() {
                        return Err(HubError::Broken {
                            file: self.file.to_string(),
                            received: part.length,
                            size: self.remote.size,
                            what,
                            source,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// One request.
    fn receive(&self, part: &mut Part, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Failure> {
        let size = self.remote.size;
        if part.length == size && size > 0 {
            part.whole = true;
            return Ok(());
        }
        let answer = self
            .client
            .get(self.file, &self.remote.entry.commit, part.length)?;
        self.place(part, &answer)?;
        let mut body = answer.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let count = match body.read(&mut piece) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let cut = "the connection was cut".to_owned();
                    return Err(Failure::Passing(
                        cut,
                        Some(Box::new(ureq::Error::from(error))),
                    ));
                }
            };
            if count == 0 {
                break;
            }
            if part.length + count as u64 > size {
                return Err(self.wrong_length(part.length + count as u64, part));
            }
            part.add(&piece[..count]).map_err(Failure::Final)?;
            progress(part.length, size);
        }
        if part.length < size {
            return Err(Failure::Passing("the connection was cut".to_owned(), None));
        }
        part.whole = true;
        Ok(())
    }

    /// Sees to it that what comes continues the part.
    fn place(&self, part: &mut Part, answer: &Response<Body>) -> Result<(), Failure> {
        let size = self.remote.size;
        let announced = text(answer.headers(), header::CONTENT_LENGTH.as_str())
            .and_then(|length| length.parse::<u64>().ok());
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = text(answer.headers(), header::CONTENT_RANGE.as_str());
                let (start, total) = range.and_then(content_range).ok_or_else(|| {
                    self.not_the_hub("it does not say which part of the file it sends")
                })?;
                if start != part.length {
                    let what = format!(
                        "asked from byte {} on, it sends from {start} on",
                        part.length
                    );
                    return Err(self.not_the_hub(&what));
                }
                match total {
                    Some(total) if total != size => Err(self.wrong_length(total, part)),
                    _ => Ok(()),
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                part.clear().map_err(Failure::Final)?;
                Err(Failure::Passing(
                    "it has no such part of the file".to_owned(),
                    None,
                ))
            }
            // The whole file, even if a part of it was asked for.
            _ => {
                part.clear().map_err(Failure::Final)?;
                match announced {
                    Some(length) if length != size => Err(self.wrong_length(length, part)),
                    _ => Ok(()),
                }
            }
        }
    }

    fn not_the_hub(&self, what: &str) -> Failure {
        Failure::Final(HubError::NotTheHub {
            url: self.file.to_string(),
            what: what.to_owned(),
        })
    }

    fn wrong_length(&self, found: u64, part: &mut Part) -> Failure {
        // Whatever it is, it is not the beginning of this file.
        if let Err(error) = part.clear() {
            return Failure::Final(error);
        }
        Failure::Final(HubError::WrongLength {
            file: self.file.to_string(),
            expected: self.remote.size,
            found,
        })
    }
}

/// Start and total of `bytes START-END/TOTAL`; the total may be unknown, `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start.parse().ok()?, total))
}

/// The file that grows, and the digest of what is in it.
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    hasher: Sha256,
    whole: bool,
}

impl Part {
    /// What an earlier download left, or nothing.
    fn open(path: &Path) -> Result<Self, HubError> {
        let failed = |source| HubError::write(path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let mut hasher = Sha256::new();
        // Its end is where writing goes on.
        let length = if file.metadata().map_err(failed)?.is_file() {
            io::copy(&mut file, &mut hasher).map_err(failed)?
        } else {
            0
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            hasher,
            whole: false,
        })
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file
            .write_all(bytes)
            .map_err(|source| HubError::write(&self.path, source))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Begins anew.
    fn clear(&mut self) -> Result<(), HubError> {
        if self.length > 0 {
            self.file
                .set_len(0)
                .and_then(|()| self.file.seek(SeekFrom::Start(0)))
                .map_err(|source| HubError::write(&self.path, source))?;
            self.hasher = Sha256::new();
            self.length = 0;
        }
        self.whole = false;
        Ok(())
    }

    fn digest(&self) -> Sha256Digest {
        Sha256Digest::finish(self.hasher.clone())
    }

    /// Brings it to the disk before it gets its name.
    fn finish(self) -> Result<(), HubError> {
        self.file
            .sync_all()
            .map_err(|source| HubError::write(&self.path, source))
    }
}
