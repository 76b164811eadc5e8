//! Questions to the order book as parameters of a request line, in both directions. Source: sdk.md §3.5.

use crate::fields::{BadQuery, Fields};
use bourse_protocol::{
    Address, B256, U256,
    book::{Admission, Filter, Kind, Window},
};

/// How many entries a page may have.
const PAGE: std::ops::RangeInclusive<u64> = 10..=1000;

/// The restricted parties of a kind of order.
fn parties(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::App => &[Kind::Dataset, Kind::Workerpool, Kind::Request],
        Kind::Dataset => &[Kind::App, Kind::Workerpool, Kind::Request],
        Kind::Workerpool => &[Kind::App, Kind::Dataset, Kind::Request],
        Kind::Request => &[Kind::Workerpool],
    }
}

/// A party's parameter, and the one that excludes orders open to everybody.
fn party_names(party: Kind) -> (&'static str, &'static str) {
    match party {
        Kind::App => ("app", "isAppStrict"),
        Kind::Dataset => ("dataset", "isDatasetStrict"),
        Kind::Workerpool => ("workerpool", "isWorkerpoolStrict"),
        Kind::Request => ("requester", "isRequesterStrict"),
    }
}

/// The parameter of the resource's owner.
fn owner_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::App => Some("appOwner"),
        Kind::Dataset => Some("datasetOwner"),
        Kind::Workerpool => Some("workerpoolOwner"),
        Kind::Request => None,
    }
}

/// Reads the page parameters.
pub(crate) fn read_window(fields: &mut Fields) -> Result<Window, BadQuery> {
    let default = Window::default();
    Ok(Window {
        index: fields.number("pageIndex", 0..=u64::MAX)?.unwrap_or(default.index),
        size: fields.number("pageSize", PAGE)?.unwrap_or(default.size),
    })
}

/// Reads a question about orders of a kind.
pub(crate) fn read_filter(kind: Kind, fields: &mut Fields) -> Result<Filter, BadQuery> {
    let mut filter = Filter {
        min_tag: fields.bytes32("minTag")?.unwrap_or_default(),
        max_tag: fields.bytes32("maxTag")?,
        min_volume: fields.amount("minVolume")?.unwrap_or_default(),
        ..Filter::default()
    };
    let subject = fields.address_or_any(party_names(kind).0)?;
    let owner = owner_name(kind).map(|name| fields.address_or_any(name)).transpose()?.flatten();
    match kind {
        Kind::App if subject.is_none() && owner.is_none() => return Err(BadQuery::Missing("app or appOwner")),
        Kind::Dataset if subject.is_none() && owner.is_none() => {
            return Err(BadQuery::Missing("dataset or datasetOwner"));
        }
        Kind::App | Kind::Dataset | Kind::Workerpool | Kind::Request => {}
    }
    (filter.subject, filter.signer) = (subject.flatten(), owner.flatten());
    for party in parties(kind) {
        filter.admits.insert(*party, read_admission(*party, fields)?);
    }
    match kind {
        Kind::App => {}
        Kind::Dataset => filter.bulk_only = fields.flag("bulkOnly")?,
        Kind::Workerpool => {
            filter.category = fields.amount("category")?;
            filter.min_trust = fields.amount("minTrust")?.filter(|trust| *trust > U256::from(1));
        }
        Kind::Request => {
            filter.category = fields.amount("category")?;
            filter.max_trust = fields.amount("maxTrust")?;
            filter.app = fields.address_or_any("app")?.flatten();
            filter.dataset = fields.address_or_any("dataset")?.flatten();
            filter.beneficiary = fields.address_or_any("beneficiary")?.flatten();
        }
    }
    Ok(filter)
}

fn read_admission(party: Kind, fields: &mut Fields) -> Result<Admission, BadQuery> {
    let (name, strict_name) = party_names(party);
    let strict = fields.flag(strict_name)?;
    Ok(match fields.address_or_any(name)? {
        None => Admission::Everybody,
        Some(None) => Admission::Any,
        Some(Some(address)) if strict => Admission::Only(address),
        Some(Some(address)) => Admission::Party(address),
    })
}

/// A question as parameters; [`read_filter`] and [`read_window`] read it back.
pub(crate) fn write(kind: Kind, filter: &Filter, window: Window) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("pageIndex", window.index.to_string()), ("pageSize", window.size.to_string())];
    let any = || "any".to_owned();
    let address = |a: Option<Address>| a.map(|a| a.to_string());
    let number = |n: Option<U256>| n.map(|n| n.to_string());
    let mut put = |name, value: Option<String>| pairs.extend(value.map(|v| (name, v)));
    put(party_names(kind).0, Some(address(filter.subject).unwrap_or_else(any)));
    if let Some(name) = owner_name(kind) {
        put(name, address(filter.signer));
    }
    for party in parties(kind) {
        let (name, strict_name) = party_names(*party);
        match filter.admits.get(party).copied().unwrap_or_default() {
            Admission::Everybody => {}
            Admission::Any => put(name, Some(any())),
            Admission::Party(a) => put(name, Some(a.to_string())),
            Admission::Only(a) => {
                put(name, Some(a.to_string()));
                put(strict_name, Some(true.to_string()));
            }
        }
    }
    put("minTag", (filter.min_tag != B256::ZERO).then(|| filter.min_tag.to_string()));
    put("maxTag", filter.max_tag.map(|tag| tag.to_string()));
    put("minVolume", (!filter.min_volume.is_zero()).then(|| filter.min_volume.to_string()));
    match kind {
        Kind::App => {}
        Kind::Dataset => put("bulkOnly", filter.bulk_only.then(|| true.to_string())),
        Kind::Workerpool => {
            put("category", number(filter.category));
            put("minTrust", number(filter.min_trust));
        }
        Kind::Request => {
            put("category", number(filter.category));
            put("maxTrust", number(filter.max_trust));
            put("app", address(filter.app));
            put("dataset", address(filter.dataset));
            put("beneficiary", address(filter.beneficiary));
        }
    }
    pairs
}

/// A filter of deals: the parameter, the column it restricts, and how its value reads.
type DealField = (&'static str, &'static str, DealValue);

enum DealValue {
    Address,
    Hash,
    Number,
}

const DEAL_FIELDS: [DealField; 13] = [
    ("category", "category", DealValue::Number),
    ("requester", "requester", DealValue::Address),
    ("beneficiary", "beneficiary", DealValue::Address),
    ("app", "app", DealValue::Address),
    ("dataset", "dataset", DealValue::Address),
    ("workerpool", "workerpool", DealValue::Address),
    ("appOwner", "app_owner", DealValue::Address),
    ("datasetOwner", "dataset_owner", DealValue::Address),
    ("workerpoolOwner", "workerpool_owner", DealValue::Address),
    ("apporderHash", "app_hash", DealValue::Hash),
    ("datasetorderHash", "dataset_hash", DealValue::Hash),
    ("workerpoolorderHash", "workerpool_hash", DealValue::Hash),
    ("requestorderHash", "request_hash", DealValue::Hash),
];

/// What a column of the deals must be.
pub(crate) type DealTerms = Vec<(&'static str, Vec<u8>)>;

/// Reads a question about deals: the columns that must have given values.
pub(crate) fn read_deal_terms(fields: &mut Fields) -> Result<DealTerms, BadQuery> {
    let mut terms = DealTerms::new();
    for (name, column, value) in DEAL_FIELDS {
        let value = match value {
            DealValue::Address => fields.address_or_any(name)?.flatten().map(|a| a.to_vec()),
            DealValue::Hash => fields.bytes32(name)?.map(|h| h.to_vec()),
            DealValue::Number => fields.amount(name)?.map(|n| n.to_be_bytes::<32>().to_vec()),
        };
        terms.extend(value.map(|v| (column, v)));
    }
    Ok(terms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        Fields::new(pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect()).unwrap()
    }

    fn read(kind: Kind, pairs: &[(&str, &str)]) -> Result<Filter, BadQuery> {
        let mut fields = fields(pairs);
        let filter = read_filter(kind, &mut fields)?;
        fields.end()?;
        Ok(filter)
    }

    const A: &str = "0x000000000000000000000000000000000000000a";

    #[test]
    fn books_of_apps_and_datasets_want_to_know_about_what_or_whose() {
        for (kind, name, owner) in [(Kind::App, "app", "appOwner"), (Kind::Dataset, "dataset", "datasetOwner")] {
            assert_eq!(read(kind, &[]).unwrap_err().to_string(), format!("{name} or {owner} is required"));
            assert!(read(kind, &[(name, "any")]).is_ok() && read(kind, &[(owner, A)]).is_ok());
        }
        assert!(read(Kind::Workerpool, &[]).is_ok() && read(Kind::Request, &[]).is_ok());
    }

    #[test]
    fn a_party_is_admitted_as_asked() {
        let a = Address::with_last_byte(10);
        for (pairs, admission) in [
            (&[][..], Admission::Everybody),
            (&[("dataset", A)], Admission::Party(a)),
            (&[("dataset", A), ("isDatasetStrict", "false")], Admission::Party(a)),
            (&[("dataset", A), ("isDatasetStrict", "true")], Admission::Only(a)),
            (&[("dataset", "any")], Admission::Any),
        ] {
            let filter = read(Kind::Workerpool, pairs).unwrap();
            assert_eq!(filter.admits[&Kind::Dataset], admission, "{pairs:?}");
        }
    }

    #[test]
    fn a_trust_of_one_asks_for_nothing() {
        let trust = |text| read(Kind::Workerpool, &[("minTrust", text)]).unwrap().min_trust;
        assert_eq!((trust("0"), trust("1"), trust("2")), (None, None, Some(U256::from(2))));
    }

    #[test]
    fn deals_are_asked_for_by_what_they_hold() {
        let terms = read_deal_terms(&mut fields(&[("appOwner", A), ("category", "258"), ("dataset", "any")])).unwrap();
        assert_eq!(terms[0].0, "category");
        assert_eq!(terms[0].1[30..], [1, 2]);
        assert_eq!(terms[1], ("app_owner", Address::with_last_byte(10).to_vec()));
        assert_eq!(terms.len(), 2);
    }

    fn address() -> impl Strategy<Value = Address> {
        any::<[u8; 20]>().prop_map(Address::from)
    }

    fn admission() -> impl Strategy<Value = Admission> {
        prop_oneof![
            Just(Admission::Everybody),
            Just(Admission::Any),
            address().prop_map(Admission::Party),
            address().prop_map(Admission::Only),
        ]
    }

    /// A filter as `read_filter` gives it for a kind.
    fn filter() -> impl Strategy<Value = (Kind, Filter)> {
        let small = || prop::option::of((2u64..1 << 53).prop_map(U256::from));
        let tag = || any::<[u8; 32]>().prop_map(B256::from);
        let who = || prop::option::of(address());
        let parts = (
            prop::sample::select(Kind::ALL.to_vec()),
            [who(), who(), who(), who(), who()],
            [admission(), admission(), admission()],
            [small(), small(), small()],
            (tag(), prop::option::of(tag()), any::<bool>()),
        );
        parts.prop_map(|(kind, [subject, signer, app, dataset, beneficiary], admits, numbers, tags)| {
            let request = kind == Kind::Request;
            let [category, trust, volume] = numbers;
            let filter = Filter {
                subject,
                signer: signer.filter(|_| !request),
                app: app.filter(|_| request),
                dataset: dataset.filter(|_| request),
                beneficiary: beneficiary.filter(|_| request),
                admits: parties(kind).iter().copied().zip(admits).collect(),
                category: category.filter(|_| matches!(kind, Kind::Workerpool | Kind::Request)),
                min_trust: trust.filter(|_| kind == Kind::Workerpool),
                max_trust: trust.filter(|_| request),
                min_tag: tags.0,
                max_tag: tags.1,
                min_volume: volume.unwrap_or_default(),
                bulk_only: tags.2 && kind == Kind::Dataset,
            };
            (kind, filter)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back((kind, filter) in filter(), index: u64, size in 10u64..=1000) {
            let window = Window { index, size };
            let pairs = write(kind, &filter, window).into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
            let mut fields = Fields::new(pairs).unwrap();
            prop_assert_eq!(read_window(&mut fields).unwrap(), window);
            prop_assert_eq!(read_filter(kind, &mut fields).unwrap(), filter);
            prop_assert!(fields.end().is_ok());
        }
    }
}
