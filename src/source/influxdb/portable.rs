//! A portable backup: a folder with a manifest, the metadata, and a gzipped tar for each shard.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use serde::Deserialize;
use serde_json::Value;

use super::server::Shard;
use crate::entry::StreamName;
use crate::source::Error;
use crate::source::names::escape;

/// The content of a manifest.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct PortableManifest {
    /// The metadata.
    pub meta: MetaFile,
    /// The shards; of a database without points `null`.
    #[serde(default, deserialize_with = "or_none")]
    pub files: Vec<ShardFile>,
}

fn or_none<'de, D: serde::Deserializer<'de>>(files: D) -> Result<Vec<ShardFile>, D::Error> {
    Option::deserialize(files).map(Option::unwrap_or_default)
}

/// The file of the metadata.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MetaFile {
    /// Its name.
    pub file_name: String,
}

/// The file of a shard.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct ShardFile {
    /// Its database.
    pub database: String,
    /// Its retention policy.
    pub policy: String,
    /// Its number.
    #[serde(rename = "shardID")]
    pub id: u64,
    /// The file's name.
    #[serde(rename = "fileName")]
    pub file_name: String,
    /// Bytes of the tar, without gzip.
    pub size: u64,
}

/// The suffix of a manifest's name.
pub const MANIFEST: &str = ".manifest";
/// The most bytes of a manifest.
const MOST: u64 = 64 << 20;

impl PortableManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`Error::Failed`] if it is none, or names a file outside of its folder.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| {
            Error::Failed(format!("the manifest of the portable backup can't be understood: {error}"))
        })?;
        let names = manifest.files.iter().map(|file| &file.file_name).chain([&manifest.meta.file_name]);
        for name in names {
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
                return Err(Error::Failed(format!("the manifest of the portable backup names the file {name:?}")));
            }
        }
        Ok(manifest)
    }

    /// Those of `shards` that aren't in the backup of `database`.
    pub fn lacks(&self, database: &str, shards: &[Shard]) -> Vec<Shard> {
        let has = |shard: &Shard| self.files.iter().any(|file| file.database == database && file.id == shard.id);
        shards.iter().filter(|shard| !has(shard)).cloned().collect()
    }
}

impl ShardFile {
    /// The stream of this shard: its inner tar.
    pub fn stream(&self) -> String {
        format!("shards/{}/{}.tar", escape(&self.policy), self.id)
    }

    /// Whether an entry is this shard.
    pub fn is(&self, name: &StreamName) -> bool {
        name.as_bytes() == self.stream().as_bytes()
    }
}

/// A portable backup in a folder.
#[derive(Debug)]
pub struct Portable {
    /// The folder.
    pub folder: PathBuf,
    /// The prefix of its manifest's name: a time.
    pub stem: String,
    /// The manifest as it is.
    pub text: Vec<u8>,
    /// Its content.
    pub manifest: PortableManifest,
}

impl Portable {
    /// Finds the newest backup of a folder.
    ///
    /// # Errors
    /// [`Error::Failed`] if there is none, or it can't be read.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::failed(&format!("reading the backup in {}", folder.display()), &error);
        let mut stems = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            stems.extend(name.strip_suffix(MANIFEST).map(str::to_owned));
        }
        stems.sort();
        let Some(stem) = stems.pop() else {
            return Err(Error::Failed(format!(
                "there is no dump in {}: no portable backup with its manifest; does the job that makes it run?",
                folder.display()
            )));
        };
        let path = folder.join(format!("{stem}{MANIFEST}"));
        if fs::metadata(&path).map_err(failed)?.len() > MOST {
            return Err(Error::Failed(format!("{} is too large for a manifest", path.display())));
        }
        let text = fs::read(&path).map_err(failed)?;
        let manifest = PortableManifest::parse(&text)?;
        Ok(Self { folder: folder.to_owned(), stem, text, manifest })
    }

    /// Leaves those shards of a database out that aren't among `known`.
    ///
    /// # Errors
    /// [`Error::Failed`] if the manifest can't be written anew.
    pub fn leave_out_all_but(&mut self, database: &str, known: &BTreeSet<u64>) -> Result<(), Error> {
        let stays = |file: &ShardFile| file.database != database || known.contains(&file.id);
        if self.manifest.files.iter().all(stays) {
            return Ok(());
        }
        let failed = |error| Error::Failed(format!("the manifest of the portable backup can't be written: {error}"));
        let mut text: Value = serde_json::from_slice(&self.text).map_err(failed)?;
        if let Some(files) = text.get_mut("files").and_then(Value::as_array_mut) {
            files.retain(|file| ShardFile::deserialize(file).is_ok_and(|file| stays(&file)));
        }
        self.text = serde_json::to_vec_pretty(&text).map_err(failed)?;
        self.manifest = PortableManifest::parse(&self.text)?;
        Ok(())
    }

    /// The metadata.
    ///
    /// # Errors
    /// [`Error::Failed`] if it can't be read.
    pub fn meta(&self) -> Result<Vec<u8>, Error> {
        let path = self.folder.join(&self.manifest.meta.file_name);
        fs::read(&path).map_err(|error| Error::failed(&format!("reading {}", path.display()), &error))
    }

    /// The inner tar of a shard.
    ///
    /// # Errors
    /// [`Error::Failed`] if the file isn't there.
    pub fn shard(&self, file: &ShardFile) -> Result<GzDecoder<BufReader<File>>, Error> {
        let path = self.folder.join(&file.file_name);
        let file = File::open(&path).map_err(|error| {
            Error::failed(&format!("opening {}, which the manifest of the backup names,", path.display()), &error)
        })?;
        Ok(GzDecoder::new(BufReader::with_capacity(1 << 18, file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"meta": {"fileName": "t.meta", "size": 545}, "limited": false, "files": [{"database": "telegraf",
        "policy": "a b", "shardID": 7, "fileName": "t.s7.tar.gz", "size": 10752, "lastModified": 0}]}"#;

    #[test]
    fn a_manifest_names_its_shards_and_no_file_elsewhere() {
        let manifest = PortableManifest::parse(TEXT.as_bytes()).unwrap();
        assert_eq!((manifest.files[0].stream().as_str(), manifest.files[0].size), ("shards/a b/7.tar", 10752));
        let shard = |id| Shard { id, policy: "a b".into(), times: Default::default() };
        assert_eq!(manifest.lacks("telegraf", &[shard(7), shard(8)]), [shard(8)]);
        assert_eq!(manifest.lacks("other", &[shard(7)]), [shard(7)]);
        for bad in ["../x", "a/b", "", ".x"] {
            assert!(PortableManifest::parse(TEXT.replace("t.s7.tar.gz", bad).as_bytes()).is_err(), "{bad}");
            assert!(PortableManifest::parse(TEXT.replace("t.meta", bad).as_bytes()).is_err(), "{bad}");
        }
        assert!(PortableManifest::parse(b"{").is_err());
        let empty = PortableManifest::parse(br#"{"meta": {"fileName": "t.meta"}, "files": null}"#).unwrap();
        assert!(empty.files.is_empty());
    }
}
