//! How a recording is played.

/// What is asked of who plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// Play, or pause.
    Toggle,
    /// Go on by one step.
    Step,
    /// Twice as fast; beyond the fastest, as fast as can be.
    Faster,
    /// Half as fast.
    Slower,
    /// Some seconds back.
    Rewind,
    /// Some seconds on.
    Forward,
    /// From the begin, paused.
    Restart,
    /// On to the next drop.
    NextDrop,
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Playback {
    /// Whether it plays.
    pub playing: bool,
    /// How many times faster than it happened; `None`: as fast as can be.
    pub speed: Option<f64>,
    /// The first and the last event of the recording, nanoseconds of its clock.
    pub span: (u64, u64),
    /// Up to here everything was shown.
    pub position: u64,
    /// What the clock on the wall showed at the first event, nanoseconds since 1970.
    pub began: i128,
    /// Everything was shown.
    pub at_end: bool,
}

impl Playback {
    /// The position between 0 (begin) and 1 (end).
    #[must_use]
    pub fn part(&self) -> f64 {
        let (first, last) = self.span;
        let length = last.saturating_sub(first);
        if length == 0 || self.at_end {
            return if self.at_end { 1.0 } else { 0.0 };
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "it is drawn on some hundred columns"
        )]
        let part = self.position.saturating_sub(first) as f64 / length as f64;
        part.min(1.0)
    }
}
