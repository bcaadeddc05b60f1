//! What a Pod that builds an image gets beside other Pods: the package settings of the person who runs dodai (proxy,
//! index and CA variables, the configuration files of pip, npm and uv) and a cache that is kept. Nothing else of
//! their environment or home.

use std::path::{Path, PathBuf};

use super::env::Env;
use crate::runtime::Mount;

/// Where the cache is seen in a build.
const CACHE: &str = "/var/cache/dodai";
/// Home folder in a container; it is in the private `/tmp`.
pub(crate) const HOME: &str = "/tmp/home";
/// Where files are seen that a variable names.
const FILES: &str = "/run/dodai/settings";
/// Longest value that is passed on.
const VALUE_BYTES_MAX: usize = 32 * 1024;

/// Variables that say where packages come from.
const PREFIXES: &[&str] = &["PIP_", "UV_", "NPM_CONFIG_", "YARN_", "BUNDLE_", "POETRY_"];
const NAMES: &[&str] =
    &["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "FTP_PROXY", "GOPROXY", "GONOSUMDB", "GOFLAGS"];
/// Variables that name a file to bring along.
const FILE_NAMES: &[&str] = &[
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "UV_CONFIG_FILE",
    "NPM_CONFIG_USERCONFIG",
    "NPM_CONFIG_GLOBALCONFIG",
    "NPM_CONFIG_CAFILE",
];
/// Endings of variables that name a place on the host, which means nothing in a build.
const PLACE_ENDINGS: &[&str] =
    &["_DIR", "_PREFIX", "_TARGET", "_ROOT", "_HOME", "_CACHE", "_PATH", "_LOG", "_SRC", "_PYTHON"];
/// Configuration files below the home folder.
const CONFIG_FILES: &[&str] = &[
    ".config/pip/pip.conf",
    ".pip/pip.conf",
    ".npmrc",
    ".config/uv/uv.toml",
    ".yarnrc.yml",
    ".bundle/config",
];
/// Configuration files of the whole machine.
const SYSTEM_FILES: &[&str] = &["/etc/pip.conf", "/etc/npmrc", "/etc/uv/uv.toml"];

/// Package settings of a person.
#[derive(Clone, Default)]
pub struct BuildSettings {
    env: Vec<(String, String)>,
    /// File on the host, and where a build sees it.
    files: Vec<(PathBuf, String)>,
}

/// Shows names only: values may hold passwords of package indexes.
impl std::fmt::Debug for BuildSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        write!(f, "BuildSettings {{ env: {names:?}, files: {} }}", self.files.len())
    }
}

impl BuildSettings {
    /// Takes what a build may have from an environment and a home folder.
    pub fn collect(env: impl Iterator<Item = (String, String)>, home: Option<&Path>) -> BuildSettings {
        let mut settings = BuildSettings::default();
        for (name, value) in env {
            if value.len() <= VALUE_BYTES_MAX {
                settings.take_variable(name, value);
            }
        }
        for file in CONFIG_FILES {
            if let Some(path) = home.map(|home| home.join(file)).filter(|path| path.is_file()) {
                settings.files.push((path, format!("{HOME}/{file}")));
            }
        }
        for file in SYSTEM_FILES {
            if Path::new(file).is_file() {
                settings.files.push((PathBuf::from(file), file.to_string()));
            }
        }
        settings
    }

    fn take_variable(&mut self, name: String, value: String) {
        let upper = name.to_ascii_uppercase();
        if FILE_NAMES.contains(&upper.as_str()) {
            let path = PathBuf::from(&value);
            if path.is_absolute() && path.exists() {
                let seen_at = format!("{FILES}/{}", upper.to_ascii_lowercase());
                self.files.push((path, seen_at.clone()));
                self.env.push((name, seen_at));
            }
            return;
        }
        let wanted =
            NAMES.contains(&upper.as_str()) || PREFIXES.iter().any(|prefix| upper.starts_with(prefix));
        if wanted && !PLACE_ENDINGS.iter().any(|ending| upper.ends_with(ending)) {
            self.env.push((name, value));
        }
    }

    /// Gives a build its settings and the cache in `cache`.
    pub(super) fn add(&self, env: &mut Env, mounts: &mut Vec<Mount>, cache: &Path) {
        for (name, value) in &self.env {
            env.set(name, value.clone());
        }
        env.set("XDG_CACHE_HOME", CACHE.to_string());
        env.set("PIP_CACHE_DIR", format!("{CACHE}/pip"));
        env.set("UV_CACHE_DIR", format!("{CACHE}/uv"));
        env.set("npm_config_cache", format!("{CACHE}/npm"));
        env.set("PIP_DISABLE_PIP_VERSION_CHECK", "1".to_string());
        mounts.push(Mount::Bind { source: cache.to_path_buf(), target: CACHE.to_string(), read_only: false });
        for (source, target) in &self.files {
            mounts.push(Mount::Bind { source: source.clone(), target: target.clone(), read_only: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_gets_package_settings_and_nothing_else() {
        let env = [
            ("PIP_INDEX_URL", "https://user:secret@index/simple"),
            ("https_proxy", "http://proxy:3128"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("HOME", "/root"),
            ("PIP_CACHE_DIR", "/root/.cache"),
            ("SSL_CERT_FILE", "/etc/passwd"),
            ("NPM_CONFIG_USERCONFIG", "/nonexistent"),
        ];
        let settings = BuildSettings::collect(
            env.iter().map(|(name, value)| (name.to_string(), value.to_string())),
            None,
        );
        let names: Vec<&str> = settings.env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["PIP_INDEX_URL", "https_proxy", "SSL_CERT_FILE"]);
        assert_eq!(settings.env[2].1, "/run/dodai/settings/ssl_cert_file");
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
