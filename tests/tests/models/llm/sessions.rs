//! Sessions: prefilled in parts, batched, forked, truncated and full.

use super::{Case, every_case, numbers};
use merv_host::plugin::{Cancellation, Session};
use merv_plugin_api::{ErrorKind, LogitsAt, TensorView};
use merv_tests::{assert_close, chain};
use std::thread;

#[test]
fn a_session_of_another_model_is_refused() {
    let [mine, other] = [(); 2].map(|()| Case::load("mha"));
    let mut session = mine.session_of(mine.length());
    let mut theirs = other.session_of(3);
    let error = mine
        .model
        .decode(&mut [&mut session, &mut theirs], &[1, 1])
        .unwrap_err();
    let message = chain(&error);
    assert!(message.contains("another language model"), "{message}");
    assert_eq!((session.len(), theirs.len()), (mine.length(), 3));
    mine.replay("after the error", &mut session);
}

#[test]
fn a_prefill_can_be_split() {
    every_case(|case| {
        let expected = case.io.get("prefill_logits");
        for cut in [1, case.length() / 2, case.length() - 1] {
            let mut session = case.model.open().unwrap();
            let parts = [0..cut, cut..case.length()];
            let logits = parts.map(|part| case.prefill(&mut session, part)).concat();
            let what = format!("{}, cut at {cut}", case.name);
            assert_close(&what, &logits, &expected.values);
            case.replay(&what, &mut session);
        }
    });
}

#[test]
fn sessions_of_different_lengths_decode_together_as_alone() {
    every_case(|case| {
        let ids = case.io.get("ids").ids();
        let other: Vec<u32> = ids.iter().rev().copied().collect();
        // More sessions than one block of the matrix product for few rows.
        let texts: Vec<(usize, &Vec<u32>)> = (0..7)
            .map(|i| {
                (
                    case.length() - i % case.length(),
                    if i % 2 == 0 { &ids } else { &other },
                )
            })
            .collect();
        let alone: Vec<_> = texts
            .iter()
            .map(|(length, ids)| case.alone(*length, ids))
            .collect();
        let mut sessions: Vec<_> = texts
            .iter()
            .map(|(length, _)| case.session_of(*length))
            .collect();
        let vocab = case.model.info().vocab_size as usize;
        for step in 0..ids.len() {
            let mut tokens: Vec<u32> = texts.iter().map(|(_, ids)| ids[step]).collect();
            let mut together: Vec<&mut Session<'_>> = sessions.iter_mut().collect();
            // Every other step, the batch has a different order.
            together.rotate_left(step % 2);
            tokens.rotate_left(step % 2);
            let logits = numbers(&case.model.decode(&mut together, &tokens).unwrap());
            let mut rows: Vec<&[f32]> = logits.chunks_exact(vocab).collect();
            rows.rotate_right(step % 2);
            for (text, row) in rows.into_iter().enumerate() {
                // Identical to the bit: an answer must not depend on the rest of the batch.
                assert_eq!(
                    row, alone[text][step],
                    "{}, text {text}, step {step}",
                    case.name
                );
            }
        }
    });
}

/// Each thread has sessions of its own, and some are forks of one session.
#[test]
fn several_threads_decode_with_one_model() {
    every_case(|case| {
        let origin = case.session_of(case.length());
        let forks: Vec<_> = (0..4).map(|_| origin.fork().unwrap()).collect();
        thread::scope(|scope| {
            for (thread, mut session) in forks.into_iter().enumerate() {
                scope.spawn(move || case.replay(&format!("thread {thread}"), &mut session));
            }
        });
    });
}

#[test]
fn a_fork_and_its_origin_are_independent() {
    every_case(|case| {
        let ids = case.io.get("ids").ids();
        let other: Vec<u32> = ids.iter().rev().copied().collect();
        let expected = case.alone(case.length(), &other);
        let mut origin = case.session_of(case.length());
        let mut fork = origin.fork().unwrap();
        assert_eq!(fork.len(), origin.len());
        for (step, &id) in other.iter().enumerate() {
            let logits = numbers(&case.model.decode(&mut [&mut fork], &[id]).unwrap());
            assert_close(
                &format!("{}, fork, step {step}", case.name),
                &logits,
                &expected[step],
            );
        }
        case.replay("origin", &mut origin);
        drop(origin);
        fork.truncate(case.length()).unwrap();
        case.replay("fork, truncated, its origin closed", &mut fork);
    });
}

#[test]
fn a_truncated_session_forgets_the_rest() {
    every_case(|case| {
        let expected = &case.io.get("prefill_logits").values;
        let vocab = case.model.info().vocab_size as usize;
        let mut session = case.session_of(case.length());
        // The removed positions differ from those that follow, so a remnant would be noticed.
        let other: Vec<u32> = case.io.get("ids").ids().into_iter().rev().collect();
        for id in other {
            case.model.decode(&mut [&mut session], &[id]).unwrap();
        }
        session.truncate(case.length()).unwrap();
        // A session that is not longer stays as it is.
        session.truncate(case.length()).unwrap();
        assert_eq!(session.len(), case.length());
        case.replay("truncated", &mut session);

        session.truncate(5).unwrap();
        case.prefill(&mut session, 0..case.length() - 5);
        session.truncate(2).unwrap();
        let logits = case.prefill(&mut session, 2..case.length());
        assert_close(case.name, &logits, &expected[2 * vocab..]);

        session.truncate(0).unwrap();
        assert!(session.is_empty());
        case.prefill(&mut session, 3..case.length());
        session.truncate(0).unwrap();
        let logits = case.prefill(&mut session, 0..case.length());
        assert_close(case.name, &logits, expected);

        let error = session.truncate(case.length() + 1).unwrap_err().to_string();
        assert!(error.contains(&(case.length() + 1).to_string()), "{error}");
        assert_eq!(session.len(), case.length());
        case.replay("after a failed truncate", &mut session);
    });
}

#[test]
fn invalid_input_is_an_error_and_changes_nothing() {
    every_case(|case| {
        let (info, width) = (case.model.info(), case.width());
        let (context, vocab) = (info.context_length as usize, info.vocab_size);
        let mut session = case.session_of(case.length());

        let long = vec![0.1f32; (context - case.length() + 1) * width];
        let shape = [long.len() / width, width];
        let view = TensorView::new(&long, &shape).unwrap();
        let error = session
            .prefill(view, LogitsAt::LAST)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&context.to_string()),
            "{}: {error}",
            case.name
        );
        assert_eq!(session.len(), case.length());

        let shape = [2, width + 1];
        let wide = vec![0.1f32; 2 * (width + 1)];
        let view = TensorView::new(&wide, &shape).unwrap();
        let error = session
            .prefill(view, LogitsAt::LAST)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&width.to_string()), "{}: {error}", case.name);

        for error in [
            case.model.embed(&[0, vocab]).unwrap_err(),
            case.model
                .decode(&mut [&mut session], &[vocab])
                .unwrap_err(),
        ] {
            assert!(
                error.to_string().contains(&vocab.to_string()),
                "{}: {error}",
                case.name
            );
        }
        let error = case.model.decode(&mut [&mut session], &[1, 2]).unwrap_err();
        assert!(
            error.to_string().contains("one token for each session"),
            "{error}"
        );
        // An invalid token in a batch does not affect the other session either.
        let mut other = case.session_of(3);
        assert!(
            case.model
                .decode(&mut [&mut other, &mut session], &[1, vocab])
                .is_err()
        );
        assert_eq!((other.len(), session.len()), (3, case.length()));

        case.replay("after errors", &mut session);
        let rest = case.prefill(&mut other, 3..case.length());
        let expected = &case.io.get("prefill_logits").values[3 * vocab as usize..];
        assert_close(case.name, &rest, expected);
    });
}

#[test]
fn a_cancelled_call_changes_nothing() {
    every_case(|case| {
        let mut session = case.session_of(case.length());
        let cancellation = Cancellation::new();
        cancellation.cancel();
        let errors = cancellation.scope(|| {
            let embeds = case.model.embed(&[1]).unwrap();
            let prefilled = session.prefill(embeds.view(), LogitsAt::LAST).map(drop);
            let decoded = case.model.decode(&mut [&mut session], &[1]).map(drop);
            [prefilled.unwrap_err(), decoded.unwrap_err()]
        });
        for error in errors {
            assert_eq!(error.failure.kind, ErrorKind::CANCELLED, "{}", case.name);
        }
        case.replay("after a cancelled call", &mut session);
    });
}

#[test]
fn a_context_can_be_filled_to_the_last_position() {
    every_case(|case| {
        let context = case.model.info().context_length as usize;
        let mut session = case.model.open().unwrap();
        let embeds = vec![0.1f32; (context - 1) * case.width()];
        let shape = [context - 1, case.width()];
        let view = TensorView::new(&embeds, &shape).unwrap();
        session.prefill(view, LogitsAt::NONE).unwrap();
        case.model.decode(&mut [&mut session], &[1]).unwrap();
        let error = case
            .model
            .decode(&mut [&mut session], &[1])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&context.to_string()),
            "{}: {error}",
            case.name
        );
        assert_eq!(session.len(), context);
        session.truncate(case.length()).unwrap();
        assert_eq!(session.len(), case.length());
    });
}
