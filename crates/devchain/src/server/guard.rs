//! Who may talk to the port.

use axum::http::{HeaderMap, header};
use std::net::IpAddr;

/// Schemes of pages that belong to an installed extension, such as a wallet; no website can take them.
const EXTENSIONS: [&str; 3] = ["chrome-extension://", "moz-extension://", "safari-web-extension://"];

/// Checks `Host` and `Origin`; the error says what is wrong and what would be right.
pub(super) fn check(headers: &HeaderMap, allowed: &[String]) -> Result<(), String> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("(not text)"));
    match text(header::HOST) {
        Some(host) if is_loopback(host) => {}
        Some(host) => return Err(format!("host {host:.100} is not this computer: use 127.0.0.1 or localhost")),
        None => return Err("the host header is missing".to_owned()),
    }
    match text(header::ORIGIN) {
        None => Ok(()),
        Some(origin) if is_allowed(origin, allowed) => Ok(()),
        Some(origin) => Err(format!("origin {origin:.100} is not allowed: add it to the allowed origins")),
    }
}

fn is_allowed(origin: &str, allowed: &[String]) -> bool {
    let own = ["http://", "https://"].iter().filter_map(|scheme| origin.strip_prefix(scheme)).any(is_loopback);
    own || EXTENSIONS.iter().any(|scheme| origin.starts_with(scheme)) || allowed.iter().any(|known| known == origin)
}

/// Whether `name[:port]` can only be this computer.
fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some("0"))),
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("0")),
        },
    };
    let port = port.is_some_and(|port| port.parse::<u16>().is_ok());
    let named = host.eq_ignore_ascii_case("localhost");
    port && (named || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        host.map(|host| headers.insert(header::HOST, host.parse().unwrap()));
        origin.map(|origin| headers.insert(header::ORIGIN, origin.parse().unwrap()));
        check(&headers, &["https://app.example".to_owned()]).is_ok()
    }

    #[test]
    fn only_names_of_this_computer_are_hosts() {
        for host in ["127.0.0.1:8545", "localhost", "LOCALHOST:1", "[::1]:8545", "127.9.9.9", "[::1]"] {
            assert!(verdict(Some(host), None), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:8545",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]:1",
            "127.0.0.1:port",
            "127.0.0.1:8545:1",
            "[::1]x",
            "",
        ] {
            assert!(!verdict(Some(host), None), "{host}");
        }
        assert!(!verdict(None, None));
    }

    #[test]
    fn pages_of_others_are_refused() {
        let host = Some("127.0.0.1:8545");
        for origin in ["http://localhost:3000", "https://127.0.0.1", "https://app.example", "chrome-extension://abc"] {
            assert!(verdict(host, Some(origin)), "{origin}");
        }
        for origin in
            ["null", "https://evil.example", "https://app.example.evil.example", "http://localhost@evil.example"]
        {
            assert!(!verdict(host, Some(origin)), "{origin}");
        }
    }
}
