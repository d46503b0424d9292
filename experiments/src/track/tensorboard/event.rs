//! What TensorBoard reads: events, as the bytes of their messages.
//!
//! # Source
//! TensorBoard 2.21: `compat/proto/{event,summary,tensor}.proto`, `plugins/hparams/plugin_data.proto`.

use crate::protobuf::{Field, Message, fields};
use crate::track::Ended;

/// Where an event stands: seconds since 1970, and the step.
#[derive(Clone, Copy, Debug)]
pub struct When {
    pub time: f64,
    pub at: u64,
}

impl When {
    fn event(self, field: u64, what: Message) -> Vec<u8> {
        Message::default().double(1, self.time).whole(2, self.at).message(field, what).bytes()
    }

    /// One summary of several values.
    fn summary(self, values: impl IntoIterator<Item = Message>) -> Vec<u8> {
        self.event(SUMMARY, values.into_iter().fold(Message::default(), |all, value| all.message(1, value)))
    }

    /// What every file begins with.
    pub fn version(self) -> Vec<u8> {
        Message::default().double(1, self.time).text(3, "brain.Event:2").bytes()
    }

    /// From this step on, what was said before is void.
    pub fn restart(self) -> Vec<u8> {
        self.event(SESSION, Message::default().whole(1, START))
    }

    pub fn scalars(self, values: &[(String, f64)]) -> Vec<u8> {
        self.summary(
            values.iter().map(|(tag, value)| Message::default().text(1, tag).float(2, *value as f32)),
        )
    }

    /// A text in Markdown.
    pub fn text(self, tag: &str, text: &str) -> Vec<u8> {
        let tensor = Message::default().whole(1, STRING).message(2, Message::default()).text(8, text);
        self.summary([Message::default().text(1, tag).message(8, tensor).message(9, plugin("text", &[]))])
    }

    /// A picture as PNG.
    pub fn image(self, tag: &str, [height, width]: [usize; 2], png: &[u8]) -> Vec<u8> {
        let image =
            Message::default().whole(1, height as u64).whole(2, width as u64).whole(3, 3).text(4, png);
        self.summary([Message::default().text(1, tag).message(4, image)])
    }

    /// A run's settings for the page HParams. What there is to compare, that page finds in the runs of a folder itself: an
    /// `experiment` of one run would hide the settings that only others have.
    pub fn session_begins(self, settings: &[(String, toml::Value)]) -> Vec<u8> {
        let mut info = Message::default().double(5, self.time);
        for (name, value) in settings {
            let value = match value {
                toml::Value::Boolean(value) => Message::default().whole(4, u64::from(*value)),
                toml::Value::Integer(value) => Message::default().double(2, *value as f64),
                toml::Value::Float(value) => Message::default().double(2, *value),
                toml::Value::String(value) => Message::default().text(3, value),
                other => Message::default().text(3, other.to_string()),
            };
            info = info.message(1, Message::default().text(1, name).message(2, value));
        }
        self.session("_hparams_/session_start_info", 3, info)
    }

    pub fn session_ends(self, ended: Ended) -> Vec<u8> {
        let status = if ended == Ended::Finished { SUCCESS } else { FAILURE };
        self.session(ENDED, 4, Message::default().whole(1, status).double(2, self.time))
    }

    fn session(self, tag: &str, field: u64, info: Message) -> Vec<u8> {
        let content = Message::default().whole(1, 0).message(field, info).bytes();
        // The page wants a tensor, and looks at none: this one is empty.
        let dimension = Message::default().message(2, Message::default().whole(1, 0));
        let tensor = Message::default().whole(1, FLOAT).message(2, dimension);
        let metadata = plugin("hparams", &content);
        self.summary([Message::default().text(1, tag).message(8, tensor).message(9, metadata)])
    }
}

/// Fields of an event.
const SUMMARY: u64 = 5;
const SESSION: u64 = 7;
/// A session's log says so.
const START: u64 = 1;
/// Types of tensors.
const FLOAT: u64 = 1;
const STRING: u64 = 7;
/// How a session has ended.
const SUCCESS: u64 = 1;
const FAILURE: u64 = 2;
const ENDED: &str = "_hparams_/session_end_info";

fn plugin(name: &str, content: &[u8]) -> Message {
    let data = Message::default().text(1, name).text(2, content);
    Message::default().message(1, data)
}

/// What earlier files of a run say, read one event after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Up to where.
    pub at: u64,
    /// Whether the session has ended. TensorBoard takes the first such word, and no second.
    pub ended: bool,
}

impl Before {
    pub fn and(self, event: &[u8]) -> Self {
        let find = |wanted| fields(event).find(|(field, _)| *field == wanted).map(|(_, value)| value);
        let Some(Field::Whole(at)) = find(2) else { return self };
        if find(SESSION).is_some() {
            return Self { at: self.at.min(at.saturating_sub(1)), ..self };
        }
        let Some(Field::Counted(summary)) = find(SUMMARY) else { return self };
        let ends = summary.windows(ENDED.len()).any(|part| part == ENDED.as_bytes());
        Self { at: self.at.max(at), ended: self.ended || ends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_is_found_again() {
        let when = |at| When { time: 1.0, at };
        let scalars = |at| when(at).scalars(&[("test/top1".to_owned(), 12.5), ("a".to_owned(), f64::NAN)]);
        let so_far =
            |events: &[Vec<u8>]| events.iter().fold(Before::default(), |so_far, event| so_far.and(event));
        let mut events = vec![when(0).version(), when(0).session_begins(&[]), when(0).text("recipe", "x")];
        assert_eq!(so_far(&events), Before { at: 0, ended: false });
        events.extend([scalars(10), scalars(20), scalars(30)]);
        assert_eq!(so_far(&events).at, 30);
        events.push(when(21).restart());
        assert_eq!(so_far(&events).at, 20);
        events.push(when(0).session_ends(Ended::Failed));
        assert_eq!(so_far(&events), Before { at: 20, ended: true });
    }
}
