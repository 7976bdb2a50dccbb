//! What a coordinator, or a party that breaks the protocol, tries in order to see a single upload. Each attempt is refused or yields
//! nothing.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use arras_cpu::Cpu;
use arras_federated::{Error, Party};
use arras_rns::Backend as _;
use arras_rounds::agreement::Privacy;
use arras_rounds::journal::MemoryJournal;
use arras_rounds::message::{Message, Opening, Proposal, Purpose, Signed, body_hash};
use arras_rounds::privacy::Noise;
use arras_rounds::{Agreement, Coordinator, Refusal};
use arras_wire::Writer;
use support::{agreement, backend, parties, pinned, ready};

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

struct World {
    agreement: Agreement,
    parties: Vec<Party<Cpu, MemoryJournal>>,
    coordinator: Coordinator<Cpu, MemoryJournal>,
}

impl World {
    fn new(parties: u32, threshold: u32) -> Self {
        let agreement = agreement(parties, threshold, 6);
        let (parties, coordinator) = ready(&agreement);
        World { agreement, parties, coordinator }
    }

    /// Opens an attempt and lets the given parties upload; the rest miss the deadline.
    fn upload(&mut self, now: u64, opening: Opening, who: &[usize]) -> (Vec<u8>, Proposal) {
        let opening = self.parties[0].open(opening).unwrap();
        self.coordinator.post(now, &opening).unwrap();
        for &index in who {
            let integers = integers(&self.agreement);
            let upload = self.parties[index].upload(&opening, DATA, |_| Ok(integers)).unwrap();
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
    let first = world.parties[1].upload(&opening_bytes, DATA, |_| Ok(values.clone())).unwrap();
    world.coordinator.post(0, &first).unwrap();
    // Asked again with other data, the same bytes come.
    let again = world.parties[1].upload(&opening_bytes, DATA, |_| panic!("asked twice")).unwrap();
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
        let upload = world.parties[index].upload(&opening_bytes, DATA, |_| Ok(values)).unwrap();
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

#[test]
fn changed_data_are_not_uploaded_a_second_time() {
    let mut world = World::new(4, 3);
    let (first, proposal) = world.upload(0, opening(1, 1), &[0, 1, 2, 3]);
    for index in [0, 1, 2] {
        world.share(index, &first, &proposal).unwrap();
    }
    // The fourth gave no share and may never be asked for one: its upload is all that it decides on.
    let second = world.parties[0].open(opening(2, 1)).unwrap();
    let error = world.parties[3].upload(&second, [2; 32], |_| panic!("asked for integers")).unwrap_err();
    assert!(matches!(refusal(error), Refusal::SecondRelease { .. }));
    let values = integers(&world.agreement);
    world.parties[3].upload(&second, DATA, |_| Ok(values)).unwrap();
}

#[test]
fn two_sets_of_share_holders_have_one_in_common() {
    for (parties, threshold) in [(4, 2), (6, 2), (6, 3)] {
        let error = agreement(parties, threshold, 6).check().unwrap_err().to_string();
        assert!(error.starts_with("threshold: "), "{error}");
    }
}

#[test]
fn noise_is_counted_where_it_is_uploaded_and_exact_sums_are_refused_beside_it() {
    let privacy = Privacy { epsilon: 1.0, delta: 1e-6, rows_per_unit: 1 };
    let agreement = Agreement { privacy: Some(privacy), ..agreement(3, 2, 6) };
    let (mut parties, _) = ready(&agreement);
    let rho = arras_rounds::privacy::rho(privacy.epsilon, privacy.delta).unwrap();
    let values = integers(&agreement);
    let mut ask = |round, noise| {
        let opened = parties[0].open(Opening { noise, ..opening(round, 1) })?;
        parties[1].upload(&opened, DATA, |_| Ok(values.clone())).map(drop)
    };
    let half = Some(Noise { rho: rho / 2.0, honest: 3 });
    ask(1, half).unwrap();
    ask(2, half).unwrap();
    // Neither upload was followed by a share, and yet others may have opened both sums.
    assert!(matches!(refusal(ask(3, half).unwrap_err()), Refusal::Budget { .. }));
    assert!(matches!(refusal(ask(4, None).unwrap_err()), Refusal::NotAgreed { .. }));
}
