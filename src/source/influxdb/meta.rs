//! The metadata of a portable backup: which shards a restore will make.
//!
//! `influxd backup` takes the metadata first and then the shards that it finds. One that is made in between is in the
//! manifest and not in the metadata, and `influxd restore` skips it with status 0.
//!
//! The messages are those of InfluxDB 1.x (`services/meta/internal/meta.proto` and `PortablePacker`), as far as they are
//! needed.

use std::collections::BTreeSet;

use prost::Message;

use crate::source::Error;

#[derive(Message)]
struct Packer {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
}

#[derive(Message)]
struct Data {
    #[prost(message, repeated, tag = "5")]
    databases: Vec<Database>,
}

#[derive(Message)]
struct Database {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    policies: Vec<PolicyMeta>,
}

#[derive(Message)]
struct PolicyMeta {
    #[prost(message, repeated, tag = "5")]
    groups: Vec<ShardGroup>,
}

#[derive(Message)]
struct ShardGroup {
    #[prost(message, repeated, tag = "5")]
    shards: Vec<ShardMeta>,
}

#[derive(Message)]
struct ShardMeta {
    #[prost(uint64, tag = "1")]
    id: u64,
}

/// The numbers of the shards that a database has by the metadata.
///
/// # Errors
/// [`Error::Failed`] if it can't be understood.
pub(super) fn shards(meta: &[u8], database: &str) -> Result<BTreeSet<u64>, Error> {
    let failed = |error| Error::Failed(format!("the metadata of the portable backup can't be understood: {error}"));
    let data = Data::decode(Packer::decode(meta).map_err(failed)?.data.as_slice()).map_err(failed)?;
    let ours = data.databases.into_iter().filter(|other| other.name == database);
    let groups = ours.flat_map(|database| database.policies).flat_map(|policy| policy.groups);
    Ok(groups.flat_map(|group| group.shards).map(|shard| shard.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_database_has_its_shards() {
        let shard = |id| ShardGroup { shards: vec![ShardMeta { id }] };
        let policy = |ids: &[u64]| PolicyMeta { groups: ids.iter().copied().map(shard).collect() };
        let database = |name: &str, policies| Database { name: name.to_owned(), policies };
        let databases = vec![database("a", vec![policy(&[1, 3]), policy(&[7])]), database("b", vec![policy(&[2])])];
        let meta = Packer { data: Data { databases }.encode_to_vec() }.encode_to_vec();
        assert_eq!(shards(&meta, "a").unwrap(), BTreeSet::from([1, 3, 7]));
        assert_eq!(shards(&meta, "b").unwrap(), BTreeSet::from([2]));
        assert!(shards(&meta, "c").unwrap().is_empty());
        assert!(shards(&meta[..meta.len() - 3], "a").is_err());
        assert!(shards(b"no metadata", "a").is_err());
    }
}
