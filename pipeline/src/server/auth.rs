//! Who may use the server: API keys, of which only the SHA-256 is kept.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::store::Owner;
use crate::hexadecimal::{from_hexadecimal, hexadecimal};

/// Shorter keys can be guessed. Our choice: 16 characters of base 64 are 96 bits.
const SHORTEST_KEY: usize = 16;

/// How a line that holds a key's SHA-256 instead of the key begins.
const HASHED: &str = "sha256:";

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The operating system refuses.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// There is none in it.
    #[error("{} holds no key: expected one a line", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line is no key.
    #[error(
        "line {line} of {} is no key: expected at least {SHORTEST_KEY} characters without spaces, or `{HASHED}` and 64 \
         hexadecimal digits",
        path.display()
    )]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
}

type KeyHash = [u8; 32];

/// The keys that open the server; none where it needs none.
#[derive(Clone, Default)]
pub struct ApiKeys {
    hashes: Vec<KeyHash>,
}

impl ApiKeys {
    /// Reads a file of keys, one a line; blank lines and lines with `#` are skipped.
    ///
    /// # Errors
    /// It cannot be read, or a line is no key.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| KeyFileError::Io { path: path.to_path_buf(), source })?;
        let mut hashes = Vec::new();
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let hash = match text.strip_prefix(HASHED) {
                Some(digits) => from_hexadecimal(digits),
                None => is_key(text).then(|| hash(text)),
            };
            hashes
                .push(hash.ok_or_else(|| KeyFileError::BadKey { path: path.to_path_buf(), line })?);
        }
        if hashes.is_empty() {
            return Err(KeyFileError::Empty { path: path.to_path_buf() });
        }
        Ok(Self { hashes })
    }

    /// Whether anybody may use the server.
    pub fn is_open(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whose key it is. All keys are compared, each in constant time, so that the time tells nothing.
    pub fn owner_of(&self, key: &str) -> Option<Owner> {
        let presented = hash(key);
        let (mut found, mut place) = (Choice::from(0), 0u64);
        for (index, known) in (0u64..).zip(&self.hashes) {
            let is_equal = known.ct_eq(&presented);
            place = u64::conditional_select(&place, &index, is_equal);
            found |= is_equal;
        }
        let known = self.hashes.get(usize::try_from(place).ok()?)?;
        bool::from(found).then(|| owner(known))
    }
}

/// Names the owner by half of the hash, which is enough to tell keys apart.
fn owner(hash: &KeyHash) -> Owner {
    Owner(hexadecimal(&hash[..hash.len() / 2]))
}

fn hash(key: &str) -> KeyHash {
    Sha256::digest(key.as_bytes()).into()
}

fn is_key(text: &str) -> bool {
    text.len() >= SHORTEST_KEY && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn keys(text: &str) -> Result<ApiKeys, KeyFileError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        ApiKeys::read(file.path())
    }

    #[test]
    fn each_key_is_an_owner_of_its_own_and_others_are_none() {
        let (first, second) = ("sk-first-key-0123456789", "sk-second-key-012345678");
        let hashed = hexadecimal(&hash(second));
        let keys = keys(&format!("# keys\n{first}\n\n  sha256:{hashed}  \n")).unwrap();
        let owners = [first, second].map(|key| keys.owner_of(key).unwrap());
        assert_ne!(owners[0], owners[1]);
        for other in ["", "sk-first-key-012345678", &hashed, "sk-first-key-01234567890"] {
            assert_eq!(keys.owner_of(other), None, "{other}");
        }
        assert!(ApiKeys::default().owner_of("").is_none() && ApiKeys::default().is_open());
    }

    #[test]
    fn files_without_usable_keys_are_refused() {
        assert!(matches!(keys("# none\n"), Err(KeyFileError::Empty { .. })));
        for bad in
            ["short", "with a space in between", "sha256:12", &format!("sha256:{}", "g".repeat(64))]
        {
            let error = keys(&format!("\n{bad}\n"));
            assert!(matches!(error, Err(KeyFileError::BadKey { line: 2, .. })), "{bad}");
        }
        assert!(matches!(ApiKeys::read(Path::new("/no/such/file")), Err(KeyFileError::Io { .. })));
    }
}
