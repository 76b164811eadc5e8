//! URLs that strangers wrote on chain must not lead the worker into the network it stands in.

use super::Error;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use url::{Host, Url};

/// A client that reaches `url` at the addresses that were looked at here, all of them public, and follows no redirect.
pub(super) async fn client(url: &Url) -> Result<reqwest::Client, Error> {
    let what = || url.to_string().chars().take(200).collect::<String>();
    let unwanted = |reason: &str| Error::Unwanted { what: what(), reason: reason.into() };
    let (host, port) = (url.host(), url.port_or_known_default());
    let (Some(host), Some(port)) = (host, port) else { return Err(unwanted("it names no host")) };
    let builder = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    let addresses: Vec<SocketAddr> = match host {
        Host::Ipv4(ip) => vec![(ip, port).into()],
        Host::Ipv6(ip) => vec![(ip, port).into()],
        Host::Domain(name) => {
            let found = tokio::net::lookup_host((name, port)).await;
            found.map_err(|e| Error::Temporary { what: what(), reason: e.to_string() })?.collect()
        }
    };
    if addresses.is_empty() || !addresses.iter().all(|address| is_public(address.ip())) {
        return Err(unwanted("it leads into a private network"));
    }
    let builder = match host {
        Host::Domain(name) => builder.resolve_to_addrs(name, &addresses),
        Host::Ipv4(_) | Host::Ipv6(_) => builder,
    };
    Ok(builder.build().expect("a client without certificates of its own always builds"))
}

/// Whether an address belongs to the internet at large.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match (ip.to_ipv4_mapped(), ip.segments()) {
            (Some(ip), _) => is_public_v4(ip),
            // 6to4 and NAT64 carry an IPv4 address inside.
            (None, [0x2002, a, b, ..] | [0x64, 0xff9b, 0, 0, 0, 0, a, b]) => is_public_v4(joined(a, b)),
            (None, _) => is_public_v6(ip),
        },
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let reserved = a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b));
    !(reserved
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation())
}

/// Global unicast is 2000::/3; everything else is local, reserved or multicast.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xe000 == 0x2000 && ip.segments()[..2] != [0x2001, 0xdb8] && ip.segments()[..2] != [0x2001, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::a00:1",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn urls_into_private_networks_are_refused() {
        for text in ["http://127.0.0.1:1/x", "http://[::1]/x", "http://localhost/x", "http://0x7f.1/x"] {
            let error = client(&text.parse().unwrap()).await.unwrap_err();
            assert!(matches!(error, Error::Unwanted { .. }), "{text}: {error}");
        }
    }
}
