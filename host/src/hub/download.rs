//! Downloads. An interrupted download is resumed, and the digest of the result is verified.

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

/// The number of bytes per read.
const CHUNK: usize = 1 << 18;

impl Client {
    /// Downloads a located file into the cache. If another process is downloading it, waits for that process.
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
            // The bytes that the other process has received.
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

/// The transfer of one blob.
struct Transfer<'t> {
    client: &'t Client,
    file: &'t HubFile,
    remote: &'t Remote,
    /// The digest of the contents. The hub gives it for files in its large file storage.
    sha256: Option<Sha256Digest>,
}

impl Transfer<'_> {
    fn run(&self, path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), HubError> {
        let mut part = PartialFile::open(path)?;
        // Without a digest, nothing shows whether the partial file belongs to this file.
        if self.sha256.is_none() || part.length > self.remote.size {
            part.clear()?;
        }
        let mut is_resumed = part.length > 0;
        loop {
            progress(part.length, self.remote.size);
            self.fill(&mut part, progress)?;
            let found = part.digest();
            match self.sha256 {
                Some(expected) if expected != found => {
                    part.clear()?;
                    // The damage may be in the bytes of the interrupted download.
                    if is_resumed {
                        is_resumed = false;
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

    /// Receives the rest of the file in one or several requests.
    fn fill(
        &self,
        part: &mut PartialFile,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let mut retries = self.client.retries();
        while !part.whole {
            let before = part.length;
            match self.receive(part, progress) {
                Ok(()) => {}
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Temporary(what, source)) => {
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

    /// Sends one request and receives its response.
    fn receive(
        &self,
        part: &mut PartialFile,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Failure> {
        let size = self.remote.size;
        if part.length == size && size > 0 {
            part.whole = true;
            return Ok(());
        }
        let response = self
            .client
            .get(self.file, &self.remote.entry.commit, part.length)?;
        self.align(part, &response)?;
        let mut body = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match body.read(&mut chunk) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let what = "the connection was lost".to_owned();
                    return Err(Failure::Temporary(
                        what,
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
            part.add(&chunk[..count]).map_err(Failure::Final)?;
            progress(part.length, size);
        }
        if part.length < size {
            return Err(Failure::Temporary(
                "the connection was lost".to_owned(),
                None,
            ));
        }
        part.whole = true;
        Ok(())
    }

    /// Makes sure that the response continues at the end of the partial file.
    fn align(&self, part: &mut PartialFile, response: &Response<Body>) -> Result<(), Failure> {
        let size = self.remote.size;
        let announced = text(response.headers(), header::CONTENT_LENGTH.as_str())
            .and_then(|length| length.parse::<u64>().ok());
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = text(response.headers(), header::CONTENT_RANGE.as_str());
                let (start, total) = range.and_then(content_range).ok_or_else(|| {
                    self.not_the_hub("it does not state which part of the file it sends")
                })?;
                if start != part.length {
                    let what = format!(
                        "the request starts at byte {}, but the response at byte {start}",
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
                Err(Failure::Temporary(
                    "it does not have this part of the file".to_owned(),
                    None,
                ))
            }
            // The response is the whole file, even if a part was requested.
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

    fn wrong_length(&self, found: u64, part: &mut PartialFile) -> Failure {
        // The received bytes do not belong to this file.
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

/// Parses the start and the total of `bytes START-END/TOTAL`. The total is `None` if it is `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start.parse().ok()?, total))
}

/// The file that is being downloaded, and the digest of its contents so far.
struct PartialFile {
    path: PathBuf,
    file: File,
    length: u64,
    hasher: Sha256,
    whole: bool,
}

impl PartialFile {
    /// Opens the partial file of an interrupted download, or creates a new one.
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
        // Afterwards, the file position is at the end, where writing continues.
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

    /// Removes everything that was received.
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

    /// Flushes the file to the disk. It is renamed afterwards.
    fn finish(self) -> Result<(), HubError> {
        self.file
            .sync_all()
            .map_err(|source| HubError::write(&self.path, source))
    }
}
