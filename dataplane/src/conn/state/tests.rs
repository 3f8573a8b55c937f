use super::Direction::{Forward, Reply};
use super::*;
use proptest::prelude::*;

const SYN: u8 = flag::SYN;
const ACK: u8 = flag::ACK;
const FIN: u8 = flag::FIN | flag::ACK;
const RST: u8 = flag::RST;

/// A segment of the connection's own, in time.
fn seen(direction: Direction, flags: u8) -> Seen {
    Seen { direction, flags, one_way: false, fits: true, late: false }
}

fn after(state: State, segments: &[(Direction, u8)]) -> State {
    segments.iter().fold(state, |state, &(direction, flags)| state.after_segment(seen(direction, flags)))
}

fn run(one_way: bool, segments: &[(Direction, u8)]) -> Vec<State> {
    let mut state = State::of_first_segment(segments[0].1);
    let mut states = vec![state];
    for &(direction, flags) in &segments[1..] {
        state = state.after_segment(Seen { one_way, ..seen(direction, flags) });
        states.push(state);
    }
    states
}

const OPENING: &[(Direction, u8)] = &[(Forward, SYN), (Reply, SYN | ACK), (Forward, ACK), (Reply, ACK)];

/// All states of TCP.
const TCP: [State; 11] = [
    State::SynSent,
    State::SynReceived,
    State::Acknowledged,
    State::Adopted,
    State::FinEarly,
    State::Established,
    State::FinClient,
    State::FinBackend,
    State::TimeWait,
    State::Reset,
    State::Free,
];

#[test]
fn a_whole_conversation() {
    let ending = [(Forward, FIN), (Reply, FIN), (Forward, ACK)];
    let states = run(false, &[OPENING, &ending].concat());
    let names: Vec<&str> = states.into_iter().map(State::name).collect();
    let expected =
        ["syn_sent", "syn_received", "acknowledged", "established", "fin_client", "time_wait", "time_wait"];
    assert_eq!(names, expected);
}

#[test]
fn a_client_alone_cannot_confirm_a_connection() {
    let alone = run(false, &[(Forward, SYN), (Forward, ACK), (Forward, ACK), (Forward, FIN)]);
    assert!(alone.iter().all(|state| state.class() == Class::HalfOpen), "{alone:?}");
    let adopted = run(false, &[(Forward, ACK), (Forward, ACK)]);
    assert_eq!(adopted.last(), Some(&State::Adopted));
    // Nor by what it says that it accepts.
    let answering = run(false, &[(Forward, SYN), (Reply, SYN | ACK), (Forward, SYN | ACK), (Forward, FIN)]);
    assert!(answering.iter().all(|state| state.class() == Class::HalfOpen), "{answering:?}");
}

#[test]
fn both_may_open_at_the_same_time() {
    // RFC 9293 section 3.5, figure 7, and with the answers the other way round.
    let first = [(Forward, SYN), (Reply, SYN), (Forward, SYN | ACK), (Reply, SYN | ACK), (Reply, ACK)];
    let second = [(Forward, SYN), (Reply, SYN), (Reply, SYN | ACK), (Forward, SYN | ACK), (Reply, ACK)];
    let third = [(Forward, SYN), (Reply, SYN), (Reply, SYN | ACK), (Forward, ACK), (Reply, ACK)];
    for order in [&first[..], &second, &third] {
        assert_eq!(run(false, order).last(), Some(&State::Established), "{order:?}");
    }
}

#[test]
fn who_closes_before_the_backend_has_spoken_is_half_closed() {
    let opened = &OPENING[..3];
    let closed = |rest: &[(Direction, u8)]| run(false, &[opened, rest].concat()).pop();
    assert_eq!(closed(&[(Forward, FIN)]), Some(State::FinEarly));
    assert_eq!(closed(&[(Forward, FIN), (Reply, ACK)]), Some(State::FinClient));
    assert_eq!(closed(&[(Forward, FIN), (Reply, ACK), (Reply, FIN)]), Some(State::TimeWait));
    assert_eq!(closed(&[(Forward, FIN), (Reply, FIN), (Forward, ACK)]), Some(State::TimeWait));
    // The handshake's acknowledgment was lost before the balancer.
    let states = run(false, &[(Forward, SYN), (Reply, SYN | ACK), (Forward, FIN), (Reply, FIN)]);
    assert_eq!(states.last(), Some(&State::TimeWait));
}

#[test]
fn a_half_closed_connection_goes_on_one_way() {
    let half = run(false, &[OPENING, &[(Forward, FIN)]].concat()).pop().unwrap();
    let more = after(half, &[(Reply, ACK), (Forward, ACK), (Forward, FIN), (Reply, ACK)]);
    assert_eq!((more, more.class()), (State::FinClient, Class::Established));
    let half = after(State::Established, &[(Reply, FIN), (Forward, ACK), (Reply, FIN), (Forward, ACK)]);
    assert_eq!((half, half.class()), (State::FinBackend, Class::Established));
    let timeouts = Timeouts { half_closed: 7, ..Timeouts::default() };
    for state in [State::FinEarly, State::FinClient, State::FinBackend] {
        assert_eq!(timeouts.of(state), 7);
    }
}

#[test]
fn direct_return_is_confirmed_by_the_acknowledgement() {
    let states = run(true, &[(Forward, SYN), (Forward, SYN), (Forward, ACK), (Forward, FIN)]);
    assert_eq!(states, [State::SynSent, State::SynSent, State::Established, State::TimeWait]);
}

#[test]
fn direct_return_goes_on_while_the_client_acknowledges() {
    let ack = |late, flags| Seen { one_way: true, late, ..seen(Forward, flags) };
    // What the close itself takes.
    assert_eq!(State::TimeWait.after_segment(ack(false, ACK)), State::TimeWait);
    let half = State::TimeWait.after_segment(ack(true, ACK));
    assert_eq!((half, half.class()), (State::FinClient, Class::Established));
    assert_eq!(half.after_segment(ack(true, ACK)), State::FinClient);
    // The same FIN again is no sign of it.
    assert_eq!(State::TimeWait.after_segment(ack(true, FIN)), State::TimeWait);
}

#[test]
fn reset_ends_it_in_either_direction() {
    for direction in [Forward, Reply] {
        assert_eq!(State::Established.after_segment(seen(direction, RST)), State::Reset);
    }
    assert_eq!(State::Reset.class(), Class::Closing);
}

#[test]
fn a_reset_that_nobody_meant_is_survived() {
    // Forged, or not: the client goes on, and the backend answers.
    let revived = after(State::Established, &[(Forward, RST), (Forward, ACK)]);
    assert_eq!(revived.class(), Class::HalfOpen);
    assert_eq!(after(revived, &[(Reply, ACK)]), State::Established);
    // What the other side had sent before does not bring a connection back to life, what it sends later does.
    assert_eq!(State::Reset.after_segment(seen(Reply, ACK)), State::Reset);
    let late = Seen { late: true, ..seen(Reply, ACK) };
    assert_eq!(State::Reset.after_segment(late), State::Established);
}

#[test]
fn an_accepted_syn_is_another_connection() {
    let other = Seen { fits: false, ..seen(Reply, SYN | ACK) };
    for state in [State::Established, State::FinClient, State::FinBackend, State::FinEarly] {
        // A copy of the first one.
        assert_eq!(state.after_segment(seen(Reply, SYN | ACK)), state);
        let again = state.after_segment(other);
        assert_eq!(again, State::SynReceived);
        assert_eq!(after(again, &OPENING[2..]), State::Established);
    }
}

proptest! {
    /// Whatever somebody sends who does not know the numbers changes nothing in a connection that is confirmed.
    #[test]
    fn blind_segments_change_nothing(flags: u8, which in 0usize..3, one_way: bool, late: bool) {
        let state = [State::Established, State::FinClient, State::FinBackend][which];
        let blind = Seen { direction: Forward, flags, one_way, fits: false, late };
        prop_assert_eq!(state.after_segment(blind), state);
    }

    /// No segment of a client alone makes a connection that is not evicted, unless it was, or replies are not seen.
    #[test]
    fn clients_promote_nothing(flags in proptest::collection::vec(any::<u8>(), 1..20), start in 0usize..11, fits: bool, late: bool) {
        let mut state = TCP[start];
        let before = state.class();
        for flags in flags {
            state = state.after_segment(Seen { fits, late, ..seen(Forward, flags) });
            prop_assert!(state.class() != Class::Established || before == Class::Established);
        }
    }

    /// A closed connection stays closed for whatever was on its way.
    #[test]
    fn what_is_over_stays_over(segments in proptest::collection::vec((any::<bool>(), 0usize..4), 0..20), one_way: bool) {
        let mut state = State::TimeWait;
        for (reply, kind) in segments {
            let direction = if reply && !one_way { Reply } else { Forward };
            let flags = [ACK, FIN, SYN | ACK, ACK | 8][kind];
            state = state.after_segment(Seen { one_way, ..seen(direction, flags) });
            prop_assert_eq!(state, State::TimeWait);
        }
    }
}

#[test]
fn datagrams() {
    assert_eq!(State::UdpNew.after_datagram(Forward, false), State::UdpNew);
    // An answer to a spoofed source must not make an entry that cannot be evicted.
    let replied = State::UdpNew.after_datagram(Reply, false);
    assert_eq!(replied.class(), Class::HalfOpen);
    assert_eq!(replied.after_datagram(Forward, false), State::UdpEstablished);
    assert_eq!(State::UdpNew.after_datagram(Forward, true), State::UdpEstablished);
}
