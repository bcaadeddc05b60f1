//! Why the server cannot start or stop.

use std::path::PathBuf;

/// Errors of the crate; refusals of requests are `Status` answers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the store in `{}`", path.display())]
    Store {
        path: PathBuf,
        #[source]
        source: crate::store::LogError,
    },
    #[error("cannot use the folder `{}`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the store in `{}` is used by another process", path.display())]
    InUse { path: PathBuf },
    #[error("cannot read or write `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make the certificate `{name}`")]
    Certificate {
        name: &'static str,
        #[source]
        source: rcgen::Error,
    },
    #[error("cannot use the certificates in `{}`: {what}", path.display())]
    Pki { path: PathBuf, what: String },
    #[error("cannot use the key that signs tokens of service accounts: {what}")]
    TokenKey { what: String },
    #[error("cannot use the key that seals Secrets")]
    Key(#[source] crate::store::seal::KeyError),
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    #[error("cannot prepare the new store: {0}")]
    Bootstrap(#[source] crate::status::ApiError),
}
