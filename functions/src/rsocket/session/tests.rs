use bytes::BufMut;
use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { streams_max: 2, request_bytes_max: 1_000 };
const JSON: &str = "application/json";
const BSON: &str = "application/bson";
const PATH: &[u8] = br#"{"path":"/sync/stream"}"#;

fn frame(stream: u32, kind: u16, flags: u16, rest: &[&[u8]]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(stream);
    frame.put_u16(kind << 10 | flags);
    rest.iter().for_each(|part| frame.put_slice(part));
    frame.freeze()
}

/// Returns metadata with its length.
fn metadata(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[1..], bytes].concat()
}

fn setup(mime_type: &str, token: &[u8]) -> Bytes {
    let length = u8::try_from(mime_type.len()).unwrap();
    let mime_type = [&[length], mime_type.as_bytes()].concat();
    let times = [0, 1, 0, 0, 0, 0, 78, 32, 0, 1, 95, 144];
    frame(0, 1, 0x100, &[&times, &mime_type, &mime_type, &metadata(token)])
}

fn request(stream: u32, path: &[u8], body: &[u8]) -> Bytes {
    frame(stream, 6, 0x100, &[&[0, 0, 0, 10], &metadata(path), body])
}

/// Returns a session whose SETUP has arrived.
fn session(mime_type: &str) -> Session {
    let mut session = Session::new(LIMITS);
    let action = session.on_message(setup(mime_type, b"{}"));
    assert!(matches!(action, Action::Authorise { .. }), "{action:?}");
    session
}

/// Returns the number and the text of an ERROR frame.
fn error(frame: &Bytes) -> (u32, u32, String) {
    let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    assert_eq!(frame[4] >> 2, 0x0B, "no ERROR frame");
    (number(0), number(6), String::from_utf8(frame[10..].to_vec()).unwrap())
}

fn check_closed(action: Action, code: u32, text: &str) {
    let Action::Close(frame) = action else { panic!("{action:?}") };
    let (stream, found, message) = error(&frame);
    assert_eq!((stream, found), (0, code));
    assert!(message.contains("[PSYNC_") && message.contains(text), "{message}");
}

fn check_refused(action: Action, stream: u32, refusal: Refusal) {
    let Action::Send(frame) = action else { panic!("{action:?}") };
    let (found, _, message) = error(&frame);
    assert_eq!((found, &*message), (stream, refusal.text()));
}

fn opened(action: Action) -> (u32, u32, Vec<u8>) {
    let Action::Open(request) = action else { panic!("{action:?}") };
    (request.stream, request.credits, request.body.to_vec())
}

#[test]
fn a_request_after_the_setup_opens_a_stream() {
    let mut session = Session::new(LIMITS);
    let token = br#"{"token":"Token abc","user_agent":"powersync-js/1.45.0"}"#;
    let expected = Action::Authorise {
        token: Some("Token abc".to_owned()),
        user_agent: Some("powersync-js/1.45.0".to_owned()),
        lifetime: Duration::from_secs(90),
    };
    assert_eq!(session.on_message(setup(JSON, token)), expected);
    let action = session.on_message(request(1, PATH, br#"{"raw_data":true}"#));
    assert_eq!(opened(action), (1, 10, br#"{"raw_data":true}"#.to_vec()));

    let more = frame(1, 8, 0, &[&[0, 0, 0, 5]]);
    assert_eq!(session.on_message(more), Action::AddCredits { stream: 1, credits: 5 });
    assert_eq!(session.on_message(frame(1, 9, 0, &[])), Action::Cancel { stream: 1 });
    assert_eq!(session.on_message(frame(1, 9, 0, &[])), Action::Nothing, "it is gone");
}

#[test]
fn requests_may_be_bson() {
    let bson = |document| bson::serialize_to_vec(&document).unwrap();
    let mut session = Session::new(LIMITS);
    let action = session.on_message(setup(BSON, &bson(bson::doc! { "token": "Token abc" })));
    assert!(matches!(action, Action::Authorise { token: Some(token), .. } if token == "Token abc"));

    let path = bson(bson::doc! { "path": "/sync/stream" });
    let body = bson(bson::doc! { "raw_data": true, "parameters": { "n": 5.0 } });
    let action = session.on_message(request(1, &path, &body));
    assert_eq!(opened(action).2, br#"{"raw_data":true,"parameters":{"n":5}}"#);
    check_refused(session.on_message(request(3, PATH, &body)), 3, Refusal::Request);
}

#[test]
fn a_request_may_arrive_in_fragments() {
    let mut session = session(JSON);
    let (path, rest) = PATH.split_at(9);
    let first = frame(1, 6, 0x180, &[&[0, 0, 0, 2], &metadata(path)]);
    assert_eq!(session.on_message(first), Action::Nothing);
    let second = frame(1, 10, 0x180, &[&metadata(rest), b"{\"raw_"]);
    assert_eq!(session.on_message(second), Action::Nothing);
    // What the client asks for meanwhile counts as well.
    assert_eq!(session.on_message(frame(1, 8, 0, &[&[0, 0, 0, 3]])), Action::Nothing);
    let action = session.on_message(frame(1, 10, 0x20, &[b"data\":true}"]));
    assert_eq!(opened(action), (1, 5, br#"{"raw_data":true}"#.to_vec()));
}

#[test]
fn requests_have_bounds() {
    let mut session = session(JSON);
    check_refused(session.on_message(request(1, PATH, &[b' '; 990])), 1, Refusal::TooLarge);

    let part = frame(3, 6, 0x180, &[&[0, 0, 0, 2], &metadata(PATH), &[b' '; 900]]);
    assert_eq!(session.on_message(part), Action::Nothing);
    let more = frame(3, 10, 0x80, &[&[b' '; 100]]);
    check_refused(session.on_message(more.clone()), 3, Refusal::TooLarge);
    assert_eq!(session.on_message(more), Action::Nothing, "the stream is forgotten");

    for stream in [5, 7] {
        opened(session.on_message(request(stream, PATH, b"{}")));
    }
    check_refused(session.on_message(request(9, PATH, b"{}")), 9, Refusal::TooManyStreams);
    session.ended(5);
    opened(session.on_message(request(11, PATH, b"{}")));
}

#[test]
fn other_routes_and_interactions_are_refused() {
    let mut session = session(JSON);
    check_refused(session.on_message(request(1, br#"{"path":"/x"}"#, b"{}")), 1, Refusal::Route);
    check_refused(session.on_message(request(3, b"{}", b"{}")), 3, Refusal::Request);
    check_refused(session.on_message(frame(5, 4, 0, &[b"{}"])), 5, Refusal::Route);
    check_refused(session.on_message(frame(7, 7, 0, &[b"{}"])), 7, Refusal::Route);
    assert_eq!(session.on_message(frame(9, 5, 0, &[b"{}"])), Action::Nothing, "no answer is due");
}

#[test]
fn a_keep_alive_is_answered_with_its_data() {
    let mut session = session(JSON);
    let Action::Send(answer) = session.on_message(frame(0, 3, 0x80, &[&[0; 8], b"abc"])) else {
        panic!("no answer")
    };
    assert_eq!(answer, frame(0, 3, 0, &[&[0; 8], b"abc"]));
    assert_eq!(session.on_message(frame(0, 3, 0, &[&[0; 8]])), Action::Nothing);
}

#[test]
fn a_client_that_violates_the_protocol_is_closed() {
    let first = |frame| Session::new(LIMITS).on_message(frame);
    check_closed(first(request(1, PATH, b"{}")), 0x001, "first frame");
    check_closed(first(frame(0, 13, 0, &[])), 0x002, "resumed");
    check_closed(first(setup("text/plain", b"")), 0x002, "PSYNC_S2004");
    check_closed(first(frame(0, 1, 0, &[&[0, 2, 0, 0], &[0; 8], &[0, 0]])), 0x002, "1.0");
    check_closed(first(Bytes::from_static(b"\0\0")), 0x101, "malformed");

    check_closed(session(JSON).on_message(setup(JSON, b"{}")), 0x101, "one SETUP");
    check_closed(session(JSON).on_message(request(2, PATH, b"{}")), 0x101, "number");
    check_closed(session(JSON).on_message(request(0, PATH, b"{}")), 0x101, "number");
    let mut session = session(JSON);
    opened(session.on_message(request(3, PATH, b"{}")));
    check_closed(session.on_message(request(3, PATH, b"{}")), 0x101, "number");
}

#[test]
fn credits_are_counted_and_can_be_unlimited() {
    let mut credits = Credits::new(1);
    credits.add(1);
    credits.spend();
    credits.spend();
    assert!(credits.is_empty());
    credits.spend();
    assert!(credits.is_empty());

    credits.add(u32::MAX);
    credits.spend();
    assert_eq!(credits, Credits::new(i32::MAX.unsigned_abs()));
}

/// Returns messages that are frames, damaged frames, and bytes.
fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let valid = prop_oneof![
        Just(setup(JSON, br#"{"token":"Token abc"}"#)),
        Just(setup(BSON, &[5, 0, 0, 0, 0])),
        (0..12_u32).prop_map(|stream| request(stream, PATH, b"{}")),
        (0..12_u32).prop_map(|stream| frame(stream, 6, 0x180, &[&[0; 4], &metadata(PATH)])),
        (0..12_u32).prop_map(|stream| frame(stream, 10, 0x80, &[&[b' '; 200]])),
        (0..12_u32, any::<u32>()).prop_map(|(stream, credits)| frame(
            stream,
            8,
            0,
            &[&credits.to_be_bytes()]
        )),
        (0..12_u32, 0..64_u16, 0..1_024_u16).prop_map(|(s, kind, flags)| frame(
            s,
            kind,
            flags,
            &[]
        )),
    ];
    let damaged = (valid.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(message, at, byte)| {
            let mut message = message.to_vec();
            let at = at.index(message.len());
            message[at] = byte;
            message
        },
    );
    let message = prop_oneof![
        4 => valid.prop_map(|message| message.to_vec()),
        2 => damaged,
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ];
    prop::collection::vec(message, 0..40)
}

proptest! {
    /// Whatever a client sends, nothing panics, and what is kept for it stays within the limits.
    #[test]
    fn no_messages_panic_or_exceed_the_limits(messages in messages()) {
        let mut session = Session::new(LIMITS);
        let mut is_closed = false;
        for message in messages {
            if is_closed {
                break;
            }
            is_closed = matches!(session.on_message(message.into()), Action::Close(_));
            prop_assert!(session.streams.len() <= LIMITS.streams_max);
            let kept: usize = session
                .streams
                .values()
                .flatten()
                .map(|request| request.metadata.len() + request.data.len())
                .sum();
            prop_assert!(kept <= LIMITS.streams_max * LIMITS.request_bytes_max);
        }
    }
}
