//! What a coordinator, or a party that breaks the protocol, tries in order to see a single upload. Each attempt is refused or yields
//! nothing.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use arras_cpu::Cpu;
use arras_federated::party::Memory;
use arras_federated::session::revoke;
use arras_federated::{Error, Party};
use arras_rns::Backend as _;
use arras_rounds::agreement::Privacy;
use arras_rounds::journal::MemoryJournal;
use arras_rounds::message::{Message, Opening, Proposal, Purpose, Signed, body_hash};
use arras_rounds::privacy::Noise;
use arras_rounds::{Agreement, Coordinator, Journal, Refusal};
use arras_wire::Writer;
use support::{Mortal, agreement, backend, made_ready, parties, party_name, pinned};

const DATA: [u8; 32] = [1; 32];

fn opening(round: u32, attempt: u32) -> Opening {
    Opening {
        round,
        attempt,
        purpose: Purpose::Statistics,
        noise: None,
        upload_seconds: 10,
        share_seconds: 10,
    }
}

fn integers(agreement: &Agreement) -> Vec<i64> {
    (0..agreement.format().unwrap().entries as i64).map(|i| i * 1_000_003 % (1 << 30)).collect()
}

fn encode(proposal: &Proposal) -> Vec<u8> {
    let mut w = Writer::new();
    proposal.encode(&mut w).unwrap();
    w.into_bytes()
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::Rounds(arras_rounds::Error::Refused(refusal)) => refusal,
        other => panic!("not a refusal: {other}"),
    }
}

struct World<J = MemoryJournal> {
    agreement: Agreement,
    parties: Vec<Party<Cpu, J>>,
    coordinator: Coordinator<Cpu, J>,
}

impl World {
    fn new(parties: u32, threshold: u32) -> Self {
        World::remembering(agreement(parties, threshold, 6), Vec::new())
    }

    /// Parties that know what is in the journals of an earlier world.
    fn remembering(agreement: Agreement, journals: Vec<MemoryJournal>) -> Self {
        let mut parties = parties(&agreement);
        for (party, journal) in parties.iter_mut().zip(journals) {
            let mut memory = Memory::default();
            memory.add(&journal).unwrap();
            let new = Party::new(party.name(), agreement.clone(), backend(), MemoryJournal::default());
            *party = new.unwrap().remembering(memory);
        }
        let mut coordinator = support::coordinator(&agreement);
        World { parties: made_ready(parties, &mut coordinator), agreement, coordinator }
    }
}

impl<J: Journal> World<J> {
    /// Opens an attempt and lets the given parties upload; the rest miss the deadline.
    fn upload(&mut self, now: u64, opening: Opening, who: &[usize]) -> (Vec<u8>, Proposal) {
        let opening = self.parties[0].open(opening).unwrap();
        self.coordinator.post(now, &opening).unwrap();
        for &index in who {
            let integers = integers(&self.agreement);
            self.parties[index].contribute(&opening, DATA).unwrap();
            let upload = self.parties[index].upload(&opening, |_| Ok(integers)).unwrap();
            self.coordinator.post(now, &upload).unwrap();
        }
        if self.coordinator.proposal().is_none() {
            self.coordinator.tick(now + 10).unwrap();
        }
        (opening, self.coordinator.proposal().unwrap().clone())
    }

    fn share(&mut self, index: usize, opening: &[u8], proposal: &Proposal) -> Result<Vec<u8>, Error> {
        self.parties[index].share(opening, &encode(proposal), DATA)
    }
}

#[test]
fn a_single_upload_is_not_opened_by_asking_for_it() {
    let mut world = World::new(4, 3);
    let (opening, proposal) = world.upload(0, opening(1, 1), &[0, 1, 2, 3]);
    for keep in [1, 2] {
        let few = Proposal { accepted: proposal.accepted[..keep].to_vec(), ..proposal.clone() };
        assert!(matches!(refusal(world.share(0, &opening, &few).unwrap_err()), Refusal::TooFew { .. }));
    }
    // One upload three times is one upload.
    let repeated = Proposal { accepted: vec![proposal.accepted[1]; 3], ..proposal.clone() };
    assert!(matches!(refusal(world.share(0, &opening, &repeated).unwrap_err()), Refusal::NotAgreed { .. }));
}

#[test]
fn a_second_accepted_set_is_refused_within_and_across_attempts() {
    let mut world = World::new(4, 3);
    let (first, proposal) = world.upload(0, opening(1, 1), &[0, 1, 2, 3]);
    world.share(0, &first, &proposal).unwrap();
    let fewer = Proposal { accepted: proposal.accepted[..3].to_vec(), ..proposal.clone() };
    assert!(matches!(refusal(world.share(0, &first, &fewer).unwrap_err()), Refusal::Answered { .. }));
    let others = Proposal { decryptors: vec![0, 1, 3], ..proposal.clone() };
    assert!(matches!(refusal(world.share(0, &first, &others).unwrap_err()), Refusal::Answered { .. }));
    // The same question gets the same bytes.
    assert_eq!(world.share(0, &first, &proposal).unwrap(), world.share(0, &first, &proposal).unwrap());

    // The attempt fails for want of shares. A next one without one member would give that member away.
    world.coordinator.tick(100).unwrap();
    let (second, smaller) = world.upload(200, opening(1, 2), &[0, 1, 2]);
    assert!(matches!(refusal(world.share(0, &second, &smaller).unwrap_err()), Refusal::SecondRelease { .. }));
    // Who gave no share before may give one now; the threshold is not reached without the others.
    world.share(1, &second, &smaller).unwrap();
}

#[test]
fn a_lost_decryptor_costs_an_attempt_and_not_the_round() {
    let mut world = World::new(4, 3);
    let (first, proposal) = world.upload(0, opening(1, 1), &[0, 1, 2, 3]);
    assert_eq!(proposal.decryptors, [0, 1, 2]);
    world.share(0, &first, &proposal).unwrap();
    world.coordinator.tick(100).unwrap();
    let (second, same) = world.upload(200, opening(1, 2), &[0, 1, 2, 3]);
    for index in [0, 1, 2] {
        let share = world.share(index, &second, &same).unwrap();
        world.coordinator.post(201, &share).unwrap();
    }
    let total = world.coordinator.total().unwrap().to_vec();
    let expected: Vec<i64> = integers(&world.agreement).iter().map(|value| 4 * value).collect();
    assert_eq!(world.parties[0].decrypt(&opening(1, 2), &total).unwrap(), expected);
    // Nobody but the receiver can.
    assert!(world.parties[1].decrypt(&opening(1, 2), &total).is_err());
}

#[test]
fn uploads_that_were_not_made_are_noticed() {
    let mut world = World::new(4, 3);
    let (opening_bytes, proposal) = world.upload(0, opening(1, 1), &[0, 1, 2, 3]);
    // A body that its sender did not sign.
    let mut forged = proposal.clone();
    forged.accepted[1].1.body = [7; 32];
    assert!(matches!(
        refusal(world.share(0, &opening_bytes, &forged).unwrap_err()),
        Refusal::Signature { .. }
    ));
    // An upload to an earlier attempt.
    world.coordinator.tick(100).unwrap();
    let (second, mut stale) = world.upload(200, opening(1, 2), &[0, 1, 2, 3]);
    stale.accepted[1] = proposal.accepted[1];
    assert!(matches!(refusal(world.share(0, &second, &stale).unwrap_err()), Refusal::NotAgreed { .. }));
    // The holder's own place taken by its earlier upload.
    let (_, own) = (0, world.coordinator.proposal().unwrap().clone());
    let mut replaced = own;
    replaced.accepted[0] = (0, replaced.accepted[1].1, replaced.accepted[1].2);
    assert!(matches!(refusal(world.share(0, &second, &replaced).unwrap_err()), Refusal::Signature { .. }));
}

#[test]
fn a_changed_upload_never_leaves_and_is_not_taken() {
    let mut world = World::new(3, 2);
    let opening_bytes = world.parties[0].open(opening(1, 1)).unwrap();
    world.coordinator.post(0, &opening_bytes).unwrap();
    let values = integers(&world.agreement);
    let first = world.parties[1].upload(&opening_bytes, |_| Ok(values.clone())).unwrap();
    world.coordinator.post(0, &first).unwrap();
    // Asked again with other data, the same bytes come.
    let again = world.parties[1].upload(&opening_bytes, |_| panic!("asked twice")).unwrap();
    assert_eq!(first, again);
    world.coordinator.post(1, &again).unwrap();
    // Another opening under the same number would mean another message under the same masks.
    let other = Opening { upload_seconds: 11, ..opening(1, 1) };
    assert!(world.parties[0].open(other).is_err());
    // A body other than the signed one.
    let mut tampered = Signed::decode(&first).unwrap();
    let Message::Upload(_, body) = &mut tampered.message else { panic!("not an upload") };
    body[0] ^= 1;
    assert!(world.coordinator.post(2, &tampered.encode().unwrap()).is_err());
    // The same with the header made to fit: the signature does not.
    let Message::Upload(upload, body) = &mut tampered.message else { panic!("not an upload") };
    upload.body = body_hash(body);
    assert!(world.coordinator.post(2, &tampered.encode().unwrap()).is_err());
}

#[test]
fn a_coordinator_that_invents_parties_is_refused() {
    let agreement = agreement(4, 3, 6);
    let mut invited = parties(&agreement);
    let known = pinned(&invited);
    // The coordinator replaces all but the victim by its own inventions.
    let mut coordinator = support::coordinator(&agreement);
    let inventions = parties(&agreement);
    coordinator.post(0, &invited[1].join().unwrap()).unwrap();
    for index in [0, 2, 3] {
        coordinator.post(0, &inventions[index].join().unwrap()).unwrap();
    }
    let roster = coordinator.roster().unwrap().encode().unwrap();
    let error = invited[1].pin(&roster, &known).unwrap_err();
    assert!(matches!(refusal(error), Refusal::Stranger(_)));
    assert!(invited[1].deal().is_err());
}

#[test]
fn replayed_and_stale_shares_count_for_nothing() {
    let mut world = World::new(4, 3);
    let (first, proposal) = world.upload(0, opening(1, 1), &[0, 1, 2, 3]);
    let share = world.share(0, &first, &proposal).unwrap();
    world.coordinator.post(1, &share).unwrap();
    world.coordinator.post(1, &share).unwrap();
    // As somebody else.
    let mut stolen = Signed::decode(&share).unwrap();
    stolen.from = support::party_name(1);
    assert!(world.coordinator.post(1, &stolen.encode().unwrap()).is_err());
    // In a later attempt.
    world.coordinator.tick(100).unwrap();
    world.upload(200, opening(1, 2), &[0, 1, 2, 3]);
    assert!(world.coordinator.post(201, &share).is_err());
}

#[test]
fn shares_say_nothing_about_a_party_that_gave_one() {
    // The ordinary share a s_i + noise, added to the upload b_i, would give m_i. Ours is made of the sum of the keys and is
    // encrypted for the receiver: adding all of them to one upload instead of to the sum leaves noise.
    let mut world = World::new(3, 3);
    let (opening_bytes, proposal) = world.upload(0, opening(1, 1), &[0, 1, 2]);
    for index in [0, 1, 2] {
        let share = world.share(index, &opening_bytes, &proposal).unwrap();
        world.coordinator.post(1, &share).unwrap();
    }
    let format = world.agreement.format().unwrap();
    let context = arras_ckks::Context::new(backend(), format.params.clone()).unwrap();
    let total = arras_ckks::bytes::decode_ciphertext(&context, world.coordinator.total().unwrap()).unwrap();
    // Take all uploads but the first off the sum again: what is left is the first upload, and the shares of all keys.
    let mut first_alone = total;
    for index in [1, 2] {
        let values = integers(&world.agreement);
        let upload = world.parties[index].upload(&opening_bytes, |_| Ok(values)).unwrap();
        let Message::Upload(_, body) = Signed::decode(&upload).unwrap().message else {
            panic!("not an upload")
        };
        let polys = arras_ckks::bytes::decode_polys(&context, &body, 1).unwrap();
        let backend = context.backend();
        backend
            .sub(
                context.queue(),
                context.tables(),
                &mut first_alone.components[0].view_mut(),
                arras_rns::Input::InPlace,
                &polys.view(),
            )
            .unwrap();
    }
    let bytes = arras_ckks::bytes::encode_ciphertext(&context, &first_alone).unwrap();
    assert!(world.parties[0].decrypt(&opening(1, 1), &bytes).is_err());
}

#[test]
fn strangers_and_wrong_agreements_are_refused_at_the_door() {
    let agreement = agreement(3, 2, 6);
    let mut coordinator = support::coordinator(&agreement);
    for other in [
        Agreement { backbone: "another".to_owned(), ..agreement.clone() },
        Agreement { row_bound: 9.0, ..agreement.clone() },
        Agreement { epoch: 2, ..agreement.clone() },
    ] {
        let stranger = parties(&other).remove(0);
        let error = coordinator.post(0, &stranger.join().unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("backbone") || error.contains("row_bound") || error.contains("epoch"),
            "{error}"
        );
    }
    for bytes in [&b""[..], b"rubbish", &[0xff; 300]] {
        assert!(coordinator.post(0, bytes).is_err());
    }
    let join = parties(&agreement)[0].join().unwrap();
    for length in (0..join.len()).step_by(37) {
        assert!(coordinator.post(0, &join[..length]).is_err());
    }
    for index in (0..join.len()).step_by(11) {
        let mut flipped = join.clone();
        flipped[index] ^= 0x40;
        assert!(coordinator.post(0, &flipped).is_err(), "byte {index}");
    }
    assert!(Agreement { quorum: 2, ..agreement }.check().is_err());
}

/// An epoch of four parties whose statistics were released, and the journals that it left.
fn released() -> (Agreement, Vec<MemoryJournal>) {
    let mut world = World::new(4, 3);
    let (first, proposal) = world.upload(0, opening(1, 1), &[0, 1, 2, 3]);
    for index in [0, 1, 2] {
        let share = world.share(index, &first, &proposal).unwrap();
        world.coordinator.post(1, &share).unwrap();
    }
    assert!(world.coordinator.total().is_some());
    let journals = world.parties.iter().map(|party| party.journal().clone()).collect();
    (Agreement { epoch: 2, ..world.agreement }, journals)
}

#[test]
fn a_later_epoch_remembers_exact_sums() {
    let (second, journals) = released();
    // The same members, data and question: the same sum.
    let mut same = World::remembering(second.clone(), journals.clone());
    let (asked, proposal) = same.upload(0, opening(1, 1), &[0, 1, 2, 3]);
    same.share(0, &asked, &proposal).unwrap();
    // An image came or went, at a party that gave no share then, and at one that did.
    let mut changed = World::remembering(second.clone(), journals.clone());
    let asked = changed.parties[0].open(opening(1, 1)).unwrap();
    for index in [3, 0] {
        let error = refusal(changed.parties[index].contribute(&asked, [2; 32]).unwrap_err());
        assert!(matches!(error, Refusal::EarlierEpoch { epoch: 1, .. }), "{error}");
        assert!(error.to_string().contains("needs differential privacy"), "{error}");
    }
    // A party left; another function of the same rows.
    for other in [
        Agreement { parties: 3, threshold: 2, ..second.clone() },
        Agreement { row_bound: second.row_bound / 2.0, ..second.clone() },
    ] {
        let mut world = World::remembering(other, journals.clone());
        let asked = world.parties[0].open(opening(1, 1)).unwrap();
        for index in [0, 1, 2] {
            let error = refusal(world.parties[index].contribute(&asked, DATA).unwrap_err());
            assert!(matches!(error, Refusal::EarlierEpoch { epoch: 1, .. }), "{error}");
        }
    }
    // A sum that a party is missing from: those who gave a share know better than the rosters tell.
    let mut fewer = World::remembering(second, journals);
    let (asked, proposal) = fewer.upload(0, opening(1, 1), &[0, 1, 2]);
    let error = refusal(fewer.share(0, &asked, &proposal).unwrap_err());
    assert!(matches!(error, Refusal::EarlierEpoch { epoch: 1, .. }), "{error}");
}

#[test]
fn noise_opens_a_later_epoch_and_adds_up_over_epochs() {
    let (second, journals) = released();
    let privacy = Some(Privacy { epsilon: 1.0, delta: 1e-5, rows_per_unit: 1 });
    let all = arras_rounds::privacy::rho(1.0, 1e-5).unwrap();
    let noisy = |rho| Opening { noise: Some(Noise { rho, honest: 3 }), ..opening(1, 1) };
    let mut world = World::remembering(Agreement { privacy, ..second.clone() }, journals);
    let asked = world.parties[0].open(noisy(0.9 * all)).unwrap();
    world.parties[3].contribute(&asked, [2; 32]).unwrap();
    let (asked, proposal) = world.upload(0, noisy(0.9 * all), &[0, 1, 2]);
    world.share(0, &asked, &proposal).unwrap();
    // The third epoch has what the second left.
    let journals: Vec<_> = world.parties.iter().map(|party| party.journal().clone()).collect();
    let third = Agreement { epoch: 3, privacy, ..second };
    let mut world = World::remembering(third, journals);
    assert_eq!(world.parties[0].spent_before(), 0.9 * all);
    let asked = world.parties[0].open(noisy(0.2 * all)).unwrap();
    // The fourth gave no share of the second epoch's sum, which may hold its upload all the same.
    assert_eq!(world.parties[3].spent_before(), 0.0);
    for index in [0, 1, 3] {
        let error = refusal(world.parties[index].contribute(&asked, DATA).unwrap_err());
        assert!(matches!(error, Refusal::Budget { .. }), "{error}");
    }
}

#[test]
fn a_revoked_party_is_in_no_sum_and_in_no_later_roster() {
    let agreement = agreement(5, 3, 6);
    let journals: Vec<Mortal> = (0..5).map(|_| Mortal::default()).collect();
    let new = |(index, journal): (usize, &Mortal)| {
        Party::new(&party_name(index), agreement.clone(), backend(), journal.clone()).unwrap()
    };
    let parties: Vec<_> = journals.iter().enumerate().map(new).collect();
    let mut ledger = journals[0].clone();
    assert!(revoke(&mut ledger, 0, "party-005").is_err(), "before the roster");
    let stored = Mortal::default();
    let mut coordinator = Coordinator::new(agreement.clone(), backend(), stored.clone()).unwrap();
    let parties = made_ready(parties, &mut coordinator);
    let mut world = World { agreement: agreement.clone(), parties, coordinator };
    let (first, proposal) = world.upload(0, opening(1, 1), &[0, 1, 2, 3, 4]);

    // A party by itself: nothing that the revoked one is in.
    assert!(revoke(&mut ledger, 1, "nobody").is_err());
    revoke(&mut ledger, 1, "party-005").unwrap();
    let error = refusal(world.share(0, &first, &proposal).unwrap_err());
    assert_eq!(error, Refusal::Revoked("party-005".to_owned()));
    let counted_on =
        Proposal { decryptors: vec![0, 1, 4], accepted: proposal.accepted[..4].to_vec(), ..proposal };
    let error = refusal(world.share(0, &first, &counted_on).unwrap_err());
    assert_eq!(error, Refusal::Revoked("party-005".to_owned()));

    // The coordinator: the attempt fails, and the next one is complete without it, after a restart too.
    assert!(world.coordinator.revoke(2, "nobody").is_err());
    world.coordinator.revoke(2, "party-005").unwrap();
    world.coordinator = Coordinator::new(agreement.clone(), backend(), stored).unwrap();
    let opened = world.parties[0].open(opening(1, 2)).unwrap();
    world.coordinator.post(3, &opened).unwrap();
    let values = integers(&agreement);
    let late = world.parties[4].upload(&opened, |_| Ok(values)).unwrap();
    let refused = world.coordinator.post(3, &late).unwrap_err().to_string();
    assert_eq!(refused, "refused: party-005 was revoked");
    world.coordinator.tick(200).unwrap();
    let (second, proposal) = world.upload(200, opening(1, 3), &[0, 1, 2, 3]);
    assert_eq!(proposal.members(), [0, 1, 2, 3]);
    for index in [0, 1, 2] {
        let share = world.share(index, &second, &proposal).unwrap();
        world.coordinator.post(201, &share).unwrap();
    }
    let total = world.coordinator.total().unwrap().to_vec();
    let expected: Vec<i64> = integers(&agreement).iter().map(|value| 4 * value).collect();
    assert_eq!(world.parties[0].decrypt(&opening(1, 3), &total).unwrap(), expected);

    // The next epoch, with new keys.
    let next = Agreement { epoch: 2, ..agreement };
    let mut memory = Memory::default();
    memory.add(&journals[0]).unwrap();
    let mut invited = support::parties(&next);
    let mut coordinator = support::coordinator(&next);
    for party in &invited {
        coordinator.post(0, &party.join().unwrap()).unwrap();
    }
    let known = pinned(&invited);
    let roster = coordinator.roster().unwrap().encode().unwrap();
    let mut remembers = invited.remove(0).remembering(memory);
    let error = refusal(remembers.pin(&roster, &known).unwrap_err());
    assert_eq!(error, Refusal::Revoked("party-005".to_owned()));
}

#[test]
fn a_round_waits_for_everybody_to_confirm_the_roster() {
    let agreement = agreement(3, 2, 6);
    let (mut parties, mut coordinator) = (parties(&agreement), support::coordinator(&agreement));
    for party in &parties {
        coordinator.post(0, &party.join().unwrap()).unwrap();
    }
    let roster = coordinator.roster().unwrap().encode().unwrap();
    let known = pinned(&parties);
    let mut confirmations = Vec::new();
    for party in &mut parties {
        confirmations.push(party.pin(&roster, &known).unwrap());
        coordinator.post(0, &party.deal().unwrap()).unwrap();
    }
    let opened = parties[0].open(opening(1, 1)).unwrap();
    for confirmation in confirmations {
        let error = coordinator.post(1, &opened).unwrap_err().to_string();
        assert!(error.contains("confirmed the roster"), "{error}");
        coordinator.post(0, &confirmation).unwrap();
    }
    coordinator.post(2, &opened).unwrap();
}

#[test]
fn exact_sums_are_refused_for_two_and_for_groups_that_need_not_meet() {
    let two = Agreement { parties: 2, quorum: 2, ..agreement(3, 2, 6) };
    let message = two.check().unwrap_err().to_string();
    assert_eq!(
        message,
        "quorum: 2, exact sums need at least 3 uploads: of a sum of two, each party can take off its own and see the other's; two parties need `privacy`"
    );
    let privacy = Some(Privacy { epsilon: 1.0, delta: 1e-5, rows_per_unit: 1 });
    Agreement { privacy, ..two }.check().unwrap();
    let message = agreement(4, 2, 6).check().unwrap_err().to_string();
    assert!(message.starts_with("threshold: 2 of 4 parties: exact sums need more than half"), "{message}");
}

#[test]
fn changed_data_are_not_contributed_within_an_epoch() {
    let mut world = World::new(4, 3);
    let first = world.parties[0].open(opening(1, 1)).unwrap();
    // The fourth gives no share: its uploads are all that it decides on.
    world.parties[3].contribute(&first, DATA).unwrap();
    world.parties[3].contribute(&first, DATA).unwrap();
    let second = world.parties[0].open(opening(2, 1)).unwrap();
    let error = world.parties[3].contribute(&second, [2; 32]).unwrap_err();
    assert!(matches!(refusal(error), Refusal::EarlierEpoch { .. }));
    world.parties[3].contribute(&second, DATA).unwrap();
}

#[test]
fn noise_is_counted_where_it_is_uploaded_and_exact_sums_are_refused_beside_it() {
    let privacy = Privacy { epsilon: 1.0, delta: 1e-6, rows_per_unit: 1 };
    let agreement = Agreement { privacy: Some(privacy), ..agreement(3, 2, 6) };
    let mut coordinator = support::coordinator(&agreement);
    let mut parties = made_ready(parties(&agreement), &mut coordinator);
    let rho = arras_rounds::privacy::rho(privacy.epsilon, privacy.delta).unwrap();
    let mut ask = |round, noise| {
        let opened = parties[0].open(Opening { noise, ..opening(round, 1) })?;
        parties[1].contribute(&opened, DATA)
    };
    let half = Some(Noise { rho: rho / 2.0, honest: 3 });
    ask(1, half).unwrap();
    ask(2, half).unwrap();
    // Neither upload was followed by a share, and yet others may have opened both sums.
    assert!(matches!(refusal(ask(3, half).unwrap_err()), Refusal::Budget { .. }));
    assert!(matches!(refusal(ask(4, None).unwrap_err()), Refusal::NotAgreed { .. }));
}
