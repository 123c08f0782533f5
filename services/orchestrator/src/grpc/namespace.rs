//! Which namespace a call is about. Every RPC that touches what belongs to a namespace asks here,
//! and nowhere else: this is the place to refuse a caller a namespace that is not theirs.

use tonic::Request;

use contracts::error::Error;
use contracts::parse::Fields;
use contracts::{DEFAULT_NAMESPACE, NAMESPACE_HEADER};

/// The namespace that a call names in its metadata, or the default one.
pub(crate) fn of<T>(request: &Request<T>) -> Result<String, Error> {
    let mut named = request.metadata().get_all(NAMESPACE_HEADER).iter();
    let Some(first) = named.next() else {
        return Ok(DEFAULT_NAMESPACE.to_owned());
    };
    let mut fields = Fields::new();
    if named.next().is_some() {
        fields.wrong(NAMESPACE_HEADER, "is given more than once");
        return fields.finish(String::new());
    }
    let Ok(name) = first.to_str() else {
        fields.wrong(NAMESPACE_HEADER, "is not printable ASCII");
        return fields.finish(String::new());
    };
    fields.slug(NAMESPACE_HEADER, name);
    fields.finish(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Result<String, Error> {
        let mut request = Request::new(());
        for name in names {
            let name = name.parse().unwrap();
            request.metadata_mut().append(NAMESPACE_HEADER, name);
        }
        of(&request)
    }

    #[test]
    fn a_call_is_in_the_namespace_it_names_and_else_in_the_default_one() {
        assert_eq!(named(&[]).unwrap(), "default");
        assert_eq!(named(&["team-a"]).unwrap(), "team-a");
    }

    #[test]
    fn a_malformed_or_doubtful_namespace_is_refused_by_name() {
        let long = "a".repeat(64);
        for names in [
            &[""][..],
            &["Team"],
            &["a b"],
            &["../a"],
            &["1a"],
            &[&long],
            &["a", "b"],
        ] {
            let error = named(names).unwrap_err();
            assert_eq!(error.fields[0].0, NAMESPACE_HEADER, "{names:?}");
        }
    }
}
