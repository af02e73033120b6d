//! The members that upstream's model knows and the defaults that it fills in when it serialises (wire reference 2.1).

/// The version that every serialisation through the model carries.
pub(super) const MODEL_VERSION: &str = "6";

/// The place of `name` in [`DEFAULTS`], which has it.
const fn index_of(name: &str) -> usize {
    let mut index = 0;
    loop {
        let (known, name) = (DEFAULTS[index].0.as_bytes(), name.as_bytes());
        let mut at = 0;
        while at < known.len() && at < name.len() && known[at] == name[at] {
            at += 1;
        }
        if at == known.len() && at == name.len() {
            return index;
        }
        index += 1;
    }
}

macro_rules! model {
    (defaults { $($name:literal => $value:expr,)* } often { $($often:literal,)* }) => {
        /// Members that are always there after a serialisation, with the JSON of their default. `creation-time` is not among
        /// them: it defaults to `last-modified`.
        pub(super) const DEFAULTS: &[(&str, &str)] = &[$(($name, $value),)*];

        /// The place in [`DEFAULTS`] of a member that has one.
        pub(super) fn default_index(name: &str) -> Option<usize> {
            match name {
                $($name => Some(const { index_of($name) }),)*
                _ => None,
            }
        }

        /// The JSON of the default of a member that has one.
        pub(super) fn default_of(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some($value),)*
                _ => None,
            }
        }

        /// The constant for a well-known name, so that copies of a document share it.
        pub(super) fn known_name(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some($name),)*
                $($often => Some($often),)*
                _ => None,
            }
        }
    };
}

model! {
defaults {
    "owner-display-name" => "\"\"",
    "owner-id" => "\"\"",
    "cache-control" => "\"\"",
    "content-disposition" => "\"\"",
    "content-encoding" => "\"\"",
    "content-language" => "\"\"",
    "expires" => "\"\"",
    "content-length" => "0",
    "content-type" => "\"\"",
    "content-md5" => "\"\"",
    "x-amz-version-id" => "\"null\"",
    "x-amz-server-version-id" => "\"\"",
    "x-amz-storage-class" => "\"STANDARD\"",
    "x-amz-server-side-encryption" => "\"\"",
    "x-amz-server-side-encryption-aws-kms-key-id" => "\"\"",
    "x-amz-server-side-encryption-customer-algorithm" => "\"\"",
    "x-amz-website-redirect-location" => "\"\"",
    "x-amz-scal-transition-in-progress" => "false",
    "acl" => r#"{"Canned":"private","FULL_CONTROL":[],"WRITE_ACP":[],"READ":[],"READ_ACP":[]}"#,
    "key" => "\"\"",
    "location" => "null",
    "tags" => "{}",
    "replicationInfo" => r#"{"status":"","backends":[],"content":[],"destination":"","storageClass":"","role":"","storageType":"","dataStoreVersionId":"","isNFS":null}"#,
    "dataStoreName" => "\"\"",
    "originOp" => "\"\"",
    "deleted" => "false",
    "isPHD" => "false",
    "last-modified" => "\"\"",
    "md-model-version" => MODEL_VERSION,
}
// Members without a default that occur often.
often {
    "creation-time",
    "versionId",
    "isNull",
    "isNull2",
    "isDeleteMarker",
    "nullVersionId",
    "uploadId",
    "legalHold",
}
}
