//! TLS to servers that are not on this machine.
//!
//! Whose certificates are trusted is for the system to say: its store, or the file that `SSL_CERT_FILE` names, which is the
//! way to a server with a certificate of its own. There is no way to trust just anyone: requests may carry a key.

use crate::http::HttpError;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::sync::{Arc, OnceLock};

/// What a broken connection of TLS says, with the way out where the certificate is the reason.
pub fn why(e: &rustls::Error) -> String {
    let out = match e {
        rustls::Error::InvalidCertificate(_) => {
            "; if the server is yours, name the file with its certificate in SSL_CERT_FILE"
        }
        _ => "",
    };
    format!("TLS: {e}{out}")
}

/// How all connections of this process are made; the store is read once.
fn config() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let make = || {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (good, _) = roots.add_parsable_certificates(found.certs);
        if good == 0 {
            let first = found.errors.first().map_or_else(|| "none was found".to_owned(), ToString::to_string);
            return Err(format!(
                "there are no certificates to trust ({first}); install the system's (ca-certificates), or name a file of \
                 them in SSL_CERT_FILE"
            ));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| why(&e))?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    };
    CONFIG.get_or_init(make).clone()
}

/// A connection that is yet to shake hands with this host.
///
/// # Errors
/// No certificates to trust, or a host that can have none.
pub fn connection(host: &str) -> Result<ClientConnection, HttpError> {
    let fail = |why: String| HttpError::Tls { host: host.to_owned(), why };
    let name = ServerName::try_from(host.to_owned()).map_err(|e| fail(e.to_string()))?;
    let mut made = ClientConnection::new(config().map_err(fail)?, name).map_err(|e| fail(why(&e)))?;
    // What is to be sent is in memory anyway.
    made.set_buffer_limit(None);
    Ok(made)
}
