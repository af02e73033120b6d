//! How provisions are dealt, and how a share is written down.

use crate::id::Provision;

/// Whether the candidate `own` leads: its node has the smallest name. Not if it is not among them.
pub fn leads(candidates: &[String], own: &str) -> bool {
    candidates.iter().min().is_some_and(|first| first == own)
}

/// Deals provisions round-robin: one list for each of `owners` owners, in their order. Nothing if there is no owner.
pub fn deal(owners: usize, provisions: &[Provision]) -> Vec<Vec<Provision>> {
    let mut shares = vec![Vec::new(); owners];
    for (index, provision) in provisions.iter().enumerate() {
        if let Some(share) = shares.get_mut(index % owners.max(1)) {
            share.push(provision.clone());
        }
    }
    shares
}

/// A share as an owner node has it: a JSON list of names.
pub fn encode(share: &[Provision]) -> String {
    let names: Vec<&str> = share.iter().map(Provision::as_str).collect();
    serde_json::to_string(&names).expect("names are text")
}

/// What an owner node lists. None if nobody dealt to it yet, or if it is no such list.
pub fn decode(data: &[u8]) -> Option<Vec<Provision>> {
    let names: Vec<String> = serde_json::from_slice(data).ok()?;
    Some(names.into_iter().map(Provision::from).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(count: usize) -> Vec<Provision> {
        (0..count).map(|number| Provision::from(number.to_string())).collect()
    }

    fn sizes(owners: usize, provisions: usize) -> Vec<usize> {
        deal(owners, &named(provisions)).iter().map(Vec::len).collect()
    }

    #[test]
    fn the_examples_of_upstream_are_dealt_as_upstream_deals_them() {
        assert_eq!(sizes(10, 8), [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(sizes(1, 8), [8]);
        assert_eq!(sizes(2, 8), [4, 4]);
        assert_eq!(sizes(0, 8), [0; 0]);
        let shares: Vec<String> = deal(3, &named(8)).iter().map(|share| encode(share)).collect();
        assert_eq!(shares, [r#"["0","3","6"]"#, r#"["1","4","7"]"#, r#"["2","5"]"#]);
    }

    #[test]
    fn the_smallest_candidate_leads() {
        let candidates = ["leader0000000007", "leader0000000003"].map(str::to_owned);
        assert!(leads(&candidates, "leader0000000003"));
        assert!(!leads(&candidates, "leader0000000007"));
        assert!(!leads(&candidates, "leader0000000001"), "its node is gone");
        assert!(!leads(&[], "leader0000000001"));
    }

    #[test]
    fn what_is_no_list_of_names_is_no_share() {
        for data in ["", "null", "{}", "[1]", "[\"1\""] {
            assert_eq!(decode(data.as_bytes()), None, "{data}");
        }
        assert_eq!(decode(b"[]"), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn every_provision_is_dealt_once_in_order_and_shares_are_even(
            owners in 1_usize..30,
            names in prop::collection::btree_set("[a-z0-9é\"\\\\]{1,6}", 0..60),
        ) {
            let provisions: Vec<Provision> = names.into_iter().map(Provision::from).collect();
            let shares = deal(owners, &provisions);
            prop_assert_eq!(shares.len(), owners);
            // Cards are taken back one by one, in the order in which they were dealt.
            let mut hands: Vec<_> = shares.iter().map(|share| share.iter()).collect();
            let mut taken = Vec::new();
            'rounds: loop {
                for hand in &mut hands {
                    let Some(card) = hand.next() else { break 'rounds };
                    taken.push(card.clone());
                }
            }
            prop_assert_eq!(taken, provisions);
            let sizes: Vec<usize> = shares.iter().map(Vec::len).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            for share in shares {
                prop_assert_eq!(decode(encode(&share).as_bytes()), Some(share));
            }
        }
    }
}
