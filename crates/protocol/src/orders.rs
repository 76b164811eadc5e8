//! Signed orders: the four kinds, their EIP-712 hashes, and their JSON form. Source: poco.md §3.1, §4; sdk.md §3.3.

use crate::{abi, ids::OrderHash};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Name of the EIP-712 domain of orders.
pub const DOMAIN_NAME: &str = "iExecODB";
/// Version of the EIP-712 domain of orders.
pub const DOMAIN_VERSION: &str = "5.0.0";

/// Bit of a tag that asks for a trusted execution environment. Source: middleware.md §2.3.
pub const TAG_TEE: B256 = B256::with_last_byte(1);
/// Bit of a tag that asks for a graphics processor. Source: middleware.md §2.3.
pub const TAG_GPU: B256 = B256::new(U256::from_limbs([1 << 8, 0, 0, 0]).to_be_bytes());

/// The domain that orders for one hub on one chain are signed in.
pub fn domain(chain_id: u64, hub: Address) -> Eip712Domain {
    Eip712Domain::new(
        Some(Cow::Borrowed(DOMAIN_NAME)),
        Some(Cow::Borrowed(DOMAIN_VERSION)),
        Some(U256::from(chain_id)),
        Some(hub),
        None,
    )
}

mod typed {
    alloy_sol_types::sol! {
        struct AppOrder {
            address app; uint256 appprice; uint256 volume; bytes32 tag;
            address datasetrestrict; address workerpoolrestrict; address requesterrestrict; bytes32 salt;
        }
        struct DatasetOrder {
            address dataset; uint256 datasetprice; uint256 volume; bytes32 tag;
            address apprestrict; address workerpoolrestrict; address requesterrestrict; bytes32 salt;
        }
        struct WorkerpoolOrder {
            address workerpool; uint256 workerpoolprice; uint256 volume; bytes32 tag; uint256 category; uint256 trust;
            address apprestrict; address datasetrestrict; address requesterrestrict; bytes32 salt;
        }
        struct RequestOrder {
            address app; uint256 appmaxprice; address dataset; uint256 datasetmaxprice; address workerpool;
            uint256 workerpoolmaxprice; address requester; uint256 volume; bytes32 tag; uint256 category;
            uint256 trust; address beneficiary; address callback; string params; bytes32 salt;
        }
    }
}

/// What the four kinds of order have in common.
pub trait Order: Clone + Serialize + for<'de> Deserialize<'de> + Send + Sync + 'static {
    /// The kind's word in routes and messages: `app`, `dataset`, `workerpool` or `request`.
    const KIND: &'static str;
    /// The name of the order on this chain: its EIP-712 digest, without the signature.
    fn hash(&self, domain: &Eip712Domain) -> OrderHash;
    /// The signature, empty while there is none.
    fn sign(&self) -> &Bytes;
    /// Puts the signature in.
    fn set_sign(&mut self, signature: Bytes);
    /// How many tasks the order allows in all.
    fn volume(&self) -> U256;
    /// The address that the order is about: the resource, or the requester.
    fn subject(&self) -> Address;
}

/// Defines an order struct with its ABI and typed-data twins.
macro_rules! order {
    ($(#[$doc:meta])* $name:ident, $kind:literal, subject = $subject:ident,
     { $($(#[$field_doc:meta])* $field:ident : $type:ty $(as $with:literal)?),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* $(#[serde(with = $with)])? pub $field: $type,)*
            /// The owner's signature over the typed data, or empty.
            #[serde(default)]
            pub sign: Bytes,
        }

        impl From<&$name> for abi::$name {
            fn from(o: &$name) -> Self {
                Self { $($field: o.$field.clone(),)* sign: o.sign.clone() }
            }
        }

        impl Order for $name {
            const KIND: &'static str = $kind;

            fn hash(&self, domain: &Eip712Domain) -> OrderHash {
                let typed = typed::$name { $($field: self.$field.clone(),)* };
                OrderHash(typed.eip712_signing_hash(domain))
            }

            fn sign(&self) -> &Bytes {
                &self.sign
            }

            fn set_sign(&mut self, signature: Bytes) {
                self.sign = signature;
            }

            fn volume(&self) -> U256 {
                self.volume
            }

            fn subject(&self) -> Address {
                self.$subject
            }
        }
    };
}

order! {
    /// An app owner's offer. Restrictions of zero admit anybody.
    AppOrder, "app", subject = app, {
        /// The app contract.
        app: Address as "checksummed",
        /// nRLC per task.
        appprice: U256 as "number",
        /// How many tasks.
        volume: U256 as "number",
        /// Required features, as bits.
        tag: B256,
        /// Only with this dataset (or group).
        datasetrestrict: Address as "checksummed",
        /// Only in this pool (or group).
        workerpoolrestrict: Address as "checksummed",
        /// Only for this requester (or group).
        requesterrestrict: Address as "checksummed",
        /// Makes equal offers distinct.
        salt: B256,
    }
}

order! {
    /// A dataset owner's offer. All zero stands for "no dataset" in a match.
    DatasetOrder, "dataset", subject = dataset, {
        /// The dataset contract.
        dataset: Address as "checksummed",
        /// nRLC per task.
        datasetprice: U256 as "number",
        /// How many tasks.
        volume: U256 as "number",
        /// Required features, as bits.
        tag: B256,
        /// Only with this app (or group).
        apprestrict: Address as "checksummed",
        /// Only in this pool (or group).
        workerpoolrestrict: Address as "checksummed",
        /// Only for this requester (or group).
        requesterrestrict: Address as "checksummed",
        /// Makes equal offers distinct.
        salt: B256,
    }
}

order! {
    /// A pool owner's offer.
    WorkerpoolOrder, "workerpool", subject = workerpool, {
        /// The workerpool contract.
        workerpool: Address as "checksummed",
        /// nRLC per task.
        workerpoolprice: U256 as "number",
        /// How many tasks.
        volume: U256 as "number",
        /// Features that the pool offers, as bits.
        tag: B256,
        /// The category of work, which sets the time.
        category: U256 as "number",
        /// The highest trust that the pool serves.
        trust: U256 as "number",
        /// Only with this app (or group).
        apprestrict: Address as "checksummed",
        /// Only with this dataset (or group).
        datasetrestrict: Address as "checksummed",
        /// Only for this requester (or group).
        requesterrestrict: Address as "checksummed",
        /// Makes equal offers distinct.
        salt: B256,
    }
}

order! {
    /// A requester's demand.
    RequestOrder, "request", subject = requester, {
        /// The app contract.
        app: Address as "checksummed",
        /// The most that one task may cost for the app, in nRLC.
        appmaxprice: U256 as "number",
        /// The dataset contract, or zero.
        dataset: Address as "checksummed",
        /// The most that one task may cost for the dataset, in nRLC.
        datasetmaxprice: U256 as "number",
        /// Only in this pool (or group); zero for any.
        workerpool: Address as "checksummed",
        /// The most that one task may cost for the pool, in nRLC.
        workerpoolmaxprice: U256 as "number",
        /// Who asks, and pays.
        requester: Address as "checksummed",
        /// How many tasks.
        volume: U256 as "number",
        /// Required features, as bits.
        tag: B256,
        /// The category of work, which sets the time.
        category: U256 as "number",
        /// How hard the answer is checked; see [`crate::consensus`].
        trust: U256 as "number",
        /// For whom the result is meant.
        beneficiary: Address as "checksummed",
        /// A contract that receives the result, or zero.
        callback: Address as "checksummed",
        /// What the app gets; see [`crate::params`]. Signed byte for byte.
        params: String,
        /// Makes equal demands distinct.
        salt: B256,
    }
}

/// 256-bit numbers in JSON: read from a number or a decimal string, written as a number while JavaScript can hold it.
pub mod number {
    use super::U256;
    use serde::{Deserializer, Serializer, de};
    use std::fmt;

    /// The largest integer that every JSON reader keeps exactly: 2⁵³ − 1.
    pub const MAX_EXACT: u64 = (1 << 53) - 1;

    /// Writes a number up to 2⁵³ − 1, else a decimal string.
    pub fn serialize<S: Serializer>(value: &U256, serializer: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(*value) {
            Ok(small) if small <= MAX_EXACT => serializer.serialize_u64(small),
            _ => serializer.collect_str(value),
        }
    }

    /// Reads an unsigned integer or a string of decimal digits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = U256;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an unsigned integer or a string of decimal digits")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<U256, E> {
                Ok(U256::from(value))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<U256, E> {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let value = digits.then(|| U256::from_str_radix(text, 10).ok()).flatten();
                value.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Addresses in JSON: read in any case, written with their checksum (EIP-55), as people compare them.
pub mod checksummed {
    use super::Address;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the mixed-case form.
    pub fn serialize<S: Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&address)
    }

    /// Reads 40 hex digits in any case.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        Address::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, b256};

    fn at(n: u8) -> Address {
        Address::with_last_byte(n)
    }

    fn n(value: u64) -> U256 {
        U256::from(value)
    }

    fn salt(n: u8) -> B256 {
        B256::with_last_byte(n)
    }

    fn test_domain() -> Eip712Domain {
        domain(31337, address!("000000000000000000000000000000000000aBcD"))
    }

    fn request() -> RequestOrder {
        RequestOrder {
            app: at(1),
            appmaxprice: n(3),
            dataset: at(4),
            datasetmaxprice: n(5),
            workerpool: at(2),
            workerpoolmaxprice: n(25),
            requester: address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
            volume: n(2),
            tag: salt(1),
            category: n(4),
            trust: n(5),
            beneficiary: at(6),
            params: "<parameters>".into(),
            salt: salt(0x14),
            ..Default::default()
        }
    }

    #[test]
    fn hashes_agree_with_the_published_vectors() {
        let d = test_domain();
        assert_eq!(d.separator(), b256!("62c8b7fb38409275b4dd40455a38f3949fe5689242ca814b712fafa55a6854f0"));
        let app = AppOrder {
            app: at(1),
            appprice: n(3),
            volume: n(1000),
            tag: salt(1),
            workerpoolrestrict: at(2),
            salt: salt(0x11),
            ..Default::default()
        };
        let dataset = DatasetOrder {
            dataset: at(4),
            datasetprice: n(5),
            volume: n(1000),
            tag: salt(3),
            salt: salt(0x12),
            ..Default::default()
        };
        let pool = WorkerpoolOrder {
            workerpool: at(2),
            workerpoolprice: n(25),
            volume: n(1000),
            tag: salt(9),
            category: n(4),
            trust: n(5),
            salt: salt(0x13),
            ..Default::default()
        };
        assert_eq!(app.hash(&d).0, b256!("bdc7a1a1cfbd0efd13e383a4cff3960c094213ca99b607fd29e2c3e6f5fd068a"));
        assert_eq!(dataset.hash(&d).0, b256!("6df4090ef33e21127591cb02a5dfabbe537aca21158da6e398227ecb728df8e6"));
        assert_eq!(pool.hash(&d).0, b256!("74dc1dd431cb1452a0de68b37dcac88607a27edd6fe6b314a6df182d55e46830"));
        assert_eq!(request().hash(&d).0, b256!("3dfc03d2769c78b3bc8eee436ce0ff4f3050a60e3de48e7355361d3017f9358b"));
    }

    #[test]
    fn the_signature_is_not_part_of_the_hash() {
        let mut signed = request();
        signed.set_sign(Bytes::from_static(&[1; 65]));
        assert_eq!(signed.hash(&test_domain()), request().hash(&test_domain()));
    }

    #[test]
    fn addresses_are_written_with_their_checksum_and_read_in_any_case() {
        let json = serde_json::to_string(&request()).unwrap();
        assert!(json.contains("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"), "{json}");
        assert_eq!(serde_json::from_str::<RequestOrder>(&json.to_lowercase()).unwrap(), request());
    }

    #[test]
    fn json_numbers_are_read_in_both_forms_and_written_exactly() {
        let mut json = serde_json::to_value(request()).unwrap();
        assert_eq!(json["workerpoolmaxprice"], 25);
        json["workerpoolmaxprice"] = "25".into();
        assert_eq!(serde_json::from_value::<RequestOrder>(json.clone()).unwrap(), request());
        let big = RequestOrder { volume: U256::MAX, ..request() };
        let text = serde_json::to_string(&big).unwrap();
        assert_eq!(serde_json::from_str::<RequestOrder>(&text).unwrap(), big);
        for bad in [serde_json::json!(-1), serde_json::json!(1.5), serde_json::json!("0x10"), serde_json::json!("")] {
            json["volume"] = bad.clone();
            assert!(serde_json::from_value::<RequestOrder>(json.clone()).is_err(), "{bad}");
        }
        json["volume"] = 1.into();
        json["surprise"] = 1.into();
        assert!(serde_json::from_value::<RequestOrder>(json).is_err());
    }
}
