//! Certificates of one server: a CA, the server's certificate, an administrator's. Kept in a folder, readable by the
//! owner only, made when missing and made anew at a start before they run out.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::error::Error;

/// How long the CA is valid (days).
const CA_DAYS: i64 = 3650;
/// How long other certificates are valid (days).
const LEAF_DAYS: i64 = 365;
/// A certificate with fewer days left is made anew at a start.
const RENEW_BEFORE_DAYS: i64 = 30;
/// Clocks may differ by so much (hours).
const BACKDATE_HOURS: i64 = 1;

/// The certificates and keys of a server, as PEM text.
#[derive(Clone)]
pub struct Pki {
    folder: PathBuf,
    pub(crate) ca: String,
    pub(crate) server_certificate: String,
    pub(crate) server_key: String,
    pub(crate) admin_certificate: String,
    pub(crate) admin_key: String,
}

impl std::fmt::Debug for Pki {
    /// Never shows keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Pki {
    /// Reads the certificates in `folder`, and makes those that are missing or about to run out.
    ///
    /// # Errors
    /// When files cannot be read or written, or do not hold what they should.
    pub fn open(folder: &Path) -> Result<Pki, Error> {
        let file = |source| Error::File { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(file)?;
        let ca = match Pair::read(folder, "ca")? {
            Some(pair) if pair.days_left()? > RENEW_BEFORE_DAYS => pair,
            _ => {
                let pair = make_ca()?;
                pair.write(folder, "ca")?;
                // Nothing signed by the old CA is of use.
                for name in ["server", "admin"] {
                    let _ = std::fs::remove_file(folder.join(format!("{name}.crt")));
                }
                pair
            }
        };
        let server = leaf(folder, "server", &ca, server_params()?)?;
        let admin = leaf(folder, "admin", &ca, admin_params()?)?;
        Ok(Pki {
            folder: folder.to_owned(),
            ca: ca.certificate,
            server_certificate: server.certificate,
            server_key: server.key,
            admin_certificate: admin.certificate,
            admin_key: admin.key,
        })
    }

    /// The CA certificate (PEM).
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// A kubeconfig of the administrator for a server at `url`, as text.
    pub fn kubeconfig(&self, url: &str) -> String {
        use base64::Engine;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: dodai\n  cluster:\n    server: {url}\n    \
             certificate-authority-data: {}\nusers:\n- name: admin\n  user:\n    client-certificate-data: {}\n    \
             client-key-data: {}\ncontexts:\n- name: dodai\n  context:\n    cluster: dodai\n    user: admin\n\
             current-context: dodai\npreferences: {{}}\n",
            encode(&self.ca),
            encode(&self.admin_certificate),
            encode(&self.admin_key),
        )
    }

    /// Writes the kubeconfig for a server at `url` to a file that only its owner can read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path, url: &str) -> Result<(), Error> {
        write_private(path, &self.kubeconfig(url))
    }
}

struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn read(folder: &Path, name: &str) -> Result<Option<Pair>, Error> {
        let read = |end: &str| {
            let path = folder.join(format!("{name}.{end}"));
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(Error::File { path, source }),
            }
        };
        let (certificate, key) = (read("crt")?, read("key")?);
        Ok(certificate.zip(key).map(|(certificate, key)| Pair { certificate, key }))
    }

    fn write(&self, folder: &Path, name: &str) -> Result<(), Error> {
        write_private(&folder.join(format!("{name}.key")), &self.key)?;
        write_private(&folder.join(format!("{name}.crt")), &self.certificate)
    }

    /// Days until the certificate runs out.
    fn days_left(&self) -> Result<i64, Error> {
        let bad = |what: String| Error::Pki { path: PathBuf::new(), what };
        let der =
            first_certificate(&self.certificate).ok_or_else(|| bad("a file holds no certificate".into()))?;
        let (_, certificate) =
            x509_parser::parse_x509_certificate(&der).map_err(|error| bad(error.to_string()))?;
        let left = certificate.validity().not_after.timestamp() - jiff::Timestamp::now().as_second();
        Ok(left / 86_400)
    }
}

/// The DER bytes of the first certificate of a PEM text.
fn first_certificate(pem: &str) -> Option<Vec<u8>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::pem_slice_iter(pem.as_bytes()).next()?.ok().map(|der| der.to_vec())
}

fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

fn certificate_error(name: &'static str) -> impl Fn(rcgen::Error) -> Error {
    move |source| Error::Certificate { name, source }
}

fn base(days: i64, name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        distinguished.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name = distinguished;
    let at = |seconds: i64| {
        let time = jiff::Timestamp::now().as_second() + seconds;
        let date = jiff::Timestamp::from_second(time).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(i32::from(date.year()), date.month() as u8, date.day() as u8)
    };
    params.not_before = at(-BACKDATE_HOURS * 3600);
    params.not_after = at(days * 86_400);
    params
}

fn make_ca() -> Result<Pair, Error> {
    let failed = certificate_error("ca");
    let mut params = base(CA_DAYS, "dodai-ca", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().map_err(&failed)?;
    let certificate = params.self_signed(&key).map_err(&failed)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn server_params() -> Result<CertificateParams, Error> {
    let failed = certificate_error("server");
    let mut params = base(LEAF_DAYS, "dodai-apiserver", None);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"] {
        params.subject_alt_names.push(SanType::DnsName(name.try_into().map_err(&failed)?));
    }
    for address in [[127, 0, 0, 1], [10, 96, 0, 1]] {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::from(address)));
    }
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::from(std::net::Ipv6Addr::LOCALHOST)));
    Ok(params)
}

fn admin_params() -> Result<CertificateParams, Error> {
    let mut params = base(LEAF_DAYS, "dodai-admin", Some("system:masters"));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn leaf(folder: &Path, name: &'static str, ca: &Pair, params: CertificateParams) -> Result<Pair, Error> {
    if let Some(pair) = Pair::read(folder, name)?
        && pair.days_left()? > RENEW_BEFORE_DAYS
    {
        return Ok(pair);
    }
    let failed = certificate_error(name);
    let ca_key = KeyPair::from_pem(&ca.key).map_err(&failed)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, ca_key).map_err(&failed)?;
    let key = KeyPair::generate().map_err(&failed)?;
    let certificate = params.signed_by(&key, &issuer).map_err(&failed)?;
    let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
    pair.write(folder, name)?;
    Ok(pair)
}
